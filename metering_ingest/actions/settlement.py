"""
Settling contracts: recompute usage from events, rate it by the pure rule, push charges with the transfers that pay.

The first settlement of a contract and period says the whole; a later one, after late events, voids or rulings, pushes
only the difference, as the next revision. Settling again without a change does nothing. A market's first settlement is
preliminary: it keeps of each provider's bond what open claims may cost. `finality.py` ends that.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

from billing import queries as billing
from billing.actions import ledger
from billing.actions.charges import push_charges
from billing.actions.sweep import sweep_market
from billing.credit_queries import drawn_micro, usable_credits
from billing.domain import principal
from billing.domain.accounts import (
    AccountRef,
    available,
    bond,
    default_fund,
    dispute,
    escrow,
    fee,
    payable,
    receivable,
    rounding,
    vat,
)
from billing.domain.charges import ChargeInput, ChargeKind
from billing.domain.postings import Posting, Stage
from core.errors import Conflict
from core.money import MICRO_PER_TOKEN
from core.periods import SHANGHAI, Period, shanghai_date, shanghai_day
from core.transactions import assert_in_transaction
from exchange.actions.markets import mark_settled
from exchange.models import ContractLot, DeliveryContract, Market
from exchange.queries import ShortfallFacts, replaced_tokens_by_lot, shortfalls_of
from identity.models import Organization
from metering_ingest import queries
from metering_ingest.actions.list_prices import exceeds, list_prices_of
from metering_ingest.actions.losses import Loss, bear
from metering_ingest.actions.probe_payments import pay_probes
from metering_ingest.actions.reconciliation import Adjustment, adjustments, reconcile
from metering_ingest.actions.recount import Usage, provider_meters, recount, void_repeats, wait_for_ingest
from metering_ingest.domain.settlement import (
    DeploymentUsage,
    Late,
    Line,
    LineKind,
    Lot,
    Pot,
    Settlement,
    Terms,
    Undelivered,
    difference,
    settle,
)
from metering_ingest.domain.settlement_inputs import inputs_of
from metering_ingest.models import ContractSettlement, LateUsage, OverageMonth
from metering_ingest.service_queries import late_work
from providers.actions.scores import lock_scores, record_delivery
from providers.models import Grade
from providers.queries import list_price_nano

CHARGE_KINDS = {
    LineKind.USED: ChargeKind.USED,
    LineKind.UNUSED: ChargeKind.UNUSED,
    LineKind.UNDELIVERED: ChargeKind.UNDELIVERED,
    LineKind.COMPENSATION: ChargeKind.COMPENSATION,
    LineKind.PENALTY: ChargeKind.PENALTY,
    LineKind.LATE: ChargeKind.PENALTY,
    LineKind.DISPUTED: ChargeKind.DISPUTED,
    LineKind.OVERAGE: ChargeKind.OVERAGE,
    LineKind.LIST: ChargeKind.LIST,
    LineKind.UNCHARGED: ChargeKind.OVERAGE,
}

BEYOND = (LineKind.OVERAGE, LineKind.LIST)


class NotDueYet(Conflict):
    """The window or its grace is not over."""

    code = "settlement-not-due"


@dataclass(frozen=True, slots=True)
class _Due:
    """A contract and the period of it that is settled."""

    contract: DeliveryContract
    period: Period
    scope: str
    labels: dict[str, Any]

    @property
    def key(self) -> str:
        return f"{self.contract.pk}:{self.period.start:%Y%m%d%H%M%S}"


def settle_market(*, market_id: int, now: datetime) -> int:
    """
    Settle every contract of a market whose window and grace are over, score its providers, give back what is left of
    the bonds and not claimed, sweep the market's accounts and mark it settled. Of a settled market, push what has
    changed since.

    :returns: how many contracts got a new revision.
    :raises NotDueYet: before that time.
    """
    assert_in_transaction()
    market = Market.objects.select_for_update(no_key=True).select_related("grade").get(pk=market_id)
    if now < market.window_end + _grace(market.grade) or market.phase not in ("delivering", "settled"):
        raise NotDueYet("This market's window and grace are not over; it cannot be settled yet.")
    contracts = list(
        DeliveryContract.objects.filter(market=market).select_related("grade__model_card", "provider").order_by("pk")
    )
    period = Period(market.window_start, market.window_end)
    due = [_Due(contract, period, market.scope, _labels(contract, period, market)) for contract in contracts]
    providers = {contract.provider_id for contract in contracts}
    lock_scores(providers)
    pushed = _settle(due, now=now)
    pay_probes(contracts, period, scope=market.scope, labels={one.contract.pk: one.labels for one in due}, now=now)
    if market.phase != Market.Phase.SETTLED:
        return_bonds(market, providers, now=now)
        mark_settled(market_id=market.pk, now=now)
    sweep_market(scope=market.scope, now=now)
    return pushed


def settle_contract(*, contract_id: int, at: datetime, now: datetime) -> int:
    """
    Settle a contract for the period that `at` lies in: its window, or for a list contract the day in Shanghai.

    :returns: 1 when there is a new revision, else 0.
    :raises NotDueYet: while the period or its grace lasts.
    """
    assert_in_transaction()
    contract = DeliveryContract.objects.select_related("grade__model_card", "provider").get(pk=contract_id)
    if contract.market_id is not None:
        return settle_market(market_id=contract.market_id, now=now)
    DeliveryContract.objects.select_for_update(no_key=True).get(pk=contract_id)
    day = shanghai_date(at)
    period = shanghai_day(day)
    if now < period.end + _grace(contract.grade):
        raise NotDueYet("The day and its grace are not over; its list usage cannot be settled yet.")
    scope = f"list:{contract.grade_id}:{day:%Y%m%d}"
    pushed = _settle([_Due(contract, period, scope, _labels(contract, period, None))], now=now)
    if pushed:
        sweep_market(scope=scope, now=now)
    return pushed


def _grace(grade: Grade) -> timedelta:
    return timedelta(seconds=grade.grace_seconds)


def _labels(contract: DeliveryContract, period: Period, market: Market | None) -> dict[str, Any]:
    grade = contract.grade
    labels = {
        "contract": contract.pk,
        "grade": grade.slug,
        "grade_name": grade.name,
        "grade_name_zh": grade.name_zh or None,
        "model": grade.model_card.name,
        "standard_version": grade.standard_version,
        "window_start": period.start.isoformat(),
        "window_end": period.end.isoformat(),
        "take_or_pay_thousandths": grade.take_or_pay_thousandths,
    }
    labels = {name: value for name, value in labels.items() if value is not None}
    return labels | {"market": market.pk} if market is not None else labels


def _settle(due: Sequence[_Due], *, now: datetime) -> int:
    if not due:
        return 0
    wait_for_ingest()
    period = due[0].period
    ids = [one.contract.pk for one in due]
    meters = provider_meters({one.contract.provider_id for one in due})
    void_repeats(meters, period, now=now)
    hours = range(int(period.start.timestamp()) // 3600, -(-int(period.end.timestamp()) // 3600))
    LateUsage.objects.filter(contract_id__in=ids, hour__gte=hours.start, hour__lt=hours.stop).delete()
    reconcile([one.contract for one in due], period, until=period.end, now=now)
    adjusted = adjustments(ids, period)
    usage: dict[int, list[Usage]] = {}
    for used in recount(ids, meters, period):
        usage.setdefault(used.contract_id, []).append(used)
    before = _latest(ids, period)
    lots: dict[int, list[Lot]] = {}
    replaced = replaced_tokens_by_lot(ids)
    for lot in ContractLot.objects.filter(contract_id__in=ids).order_by("contract_id", "number"):
        if left := lot.quantity_tokens - replaced.get((lot.contract_id, lot.number), 0):
            lots.setdefault(lot.contract_id, []).append(
                Lot(lot.number, left, lot.buyer_price_nano, lot.seller_price_nano)
            )
    shortfalls = shortfalls_of(ids)
    late = late_work(ids)
    months = _overage_months(due)
    fees = {provider: billing.fee_thousandths(provider) for provider in {one.contract.provider_id for one in due}}
    delivered = {
        one.contract.pk: [
            _delivered(u, adjusted.get((one.contract.pk, u.deployment_id)), _list_price(u.deployment_id, period))
            for u in usage.get(one.contract.pk, [])
        ]
        for one in due
    }
    beyond = [one.contract for one in due if exceeds(lots.get(one.contract.pk, []), delivered[one.contract.pk])]
    listed = list_prices_of(beyond, meters, period)
    charges: list[ChargeInput] = []
    postings: list[Posting] = []
    rows: list[ContractSettlement] = []
    losses: list[tuple[ContractSettlement, Loss]] = []
    undelivered: dict[int, int] = {}
    drawn_first = usable_credits({one.contract.buyer_id for one in due}, at=now)
    credit = _Credit(due, drawn_first, [month.buyer for month in months.values()])
    for one in due:
        contract = one.contract
        earlier = before.get(contract.pk)
        month = months[contract.buyer_id]
        overage_before = earlier.overage_micro if earlier else 0
        spent_elsewhere = month.spent_micro - overage_before
        in_month = max(0, month.buyer.allows_overage_micro - spent_elsewhere)
        terms = Terms(
            take_or_pay_thousandths=contract.grade.take_or_pay_thousandths,
            fee_thousandths=fees[contract.provider_id],
            overage_limit_micro=min(in_month, overage_before + credit.left_micro(contract.buyer_id)),
        )
        missing = shortfalls.get(contract.pk, [])
        rate = partial(
            settle, lots.get(contract.pk, []), delivered[contract.pk], list_prices=listed.get(contract.pk),
            undelivered=[Undelivered(s.quantity_tokens - s.replaced_tokens, s.penalty_thousandths) for s in missing],
            replaced_tokens=sum(s.replaced_tokens for s in missing),
            late=Late(*late[contract.pk]) if contract.pk in late else None,
        )  # fmt: skip
        result = rate(terms=terms)
        undelivered[contract.pk] = _undelivered_tokens(result, missing)
        known = _stored(earlier)
        if known is not None and earlier is not None:
            # A limit that has changed since is no reason to settle again; where there is one, the new limit holds.
            as_before = rate(terms=replace(terms, overage_limit_micro=earlier.overage_limit_micro))
            if known.lines in (as_before.lines, result.lines):
                continue
        revision = earlier.revision + 1 if earlier else 0
        overage = sum(line.buyer_amount_micro for line in result.lines if line.kind in BEYOND)
        charges += _charges(one, known, result, revision)
        postings += _postings(one, known, result, revision, drawn_first.get(contract.buyer_id, []))
        row = ContractSettlement(
            contract_id=contract.pk,
            period_start=period.start,
            period_end=period.end,
            revision=revision,
            settled_at=now,
            work_micro_st=sum(u.work_micro_st for u in usage.get(contract.pk, [])),
            overage_micro=overage,
            overage_limit_micro=terms.overage_limit_micro,
            lines=[asdict(line) for line in result.lines],
            inputs=inputs_of(*rate.args, **rate.keywords, terms=terms),
            escrow_micro=result.escrow_micro,
            from_bond_micro=earlier.from_bond_micro if earlier else 0,
            from_default_micro=earlier.from_default_micro if earlier else 0,
        )
        rows.append(row)
        if loss := _loss(one, known, result, row):
            losses.append((row, loss))
        month.spent_micro = spent_elsewhere + overage
        credit.spend(contract.buyer_id, overage - overage_before)
    _score(due, undelivered, now=now)
    covers, paid = bear([loss for _, loss in losses], postings)
    for row, loss in losses:
        row.from_bond_micro += loss.borne.bond_micro
        row.from_default_micro += loss.borne.default_micro
    charges += covers
    postings += paid
    OverageMonth.objects.bulk_update([m for m in months.values() if m.pk], ["spent_micro"])
    ContractSettlement.objects.bulk_create(rows)
    if charges or postings:
        push_charges(charges, postings, now=now)
    return len(rows)


def _delivered(usage: Usage, adjusted: Adjustment | None, price_nano: int) -> DeploymentUsage:
    """What a deployment delivered, less what was denied, and apart from it what is held back."""
    held, denied = adjusted or (0, 0)
    denied = min(denied, usage.work_micro_st)
    held = min(held, usage.work_micro_st - denied)
    return DeploymentUsage(
        usage.deployment_id, usage.work_micro_st - held - denied, price_nano, usage.tokens, disputed_micro_st=held
    )


def _latest(contract_ids: Sequence[int], period: Period) -> dict[int, ContractSettlement]:
    rows = ContractSettlement.objects.filter(contract_id__in=contract_ids, period_start=period.start)
    return {row.contract_id: row for row in rows.order_by("contract_id", "revision")}


_LINE_FIELDS = frozenset(field.name for field in fields(Line))  # older rows have one that was always zero


def _stored(row: ContractSettlement | None) -> Settlement | None:
    if row is None:
        return None
    lines = tuple(
        Line(**{name: value for name, value in line.items() if name in _LINE_FIELDS} | {"kind": LineKind(line["kind"])})
        for line in row.lines
    )
    return Settlement(lines, row.escrow_micro)


def _overage_months(due: Sequence[_Due]) -> dict[int, OverageMonth]:
    """Lock, in the buyers' order, what each has spent beyond its contracts in the month of the period's start."""
    month: date = due[0].period.start.astimezone(SHANGHAI).date().replace(day=1)
    buyers = sorted({one.contract.buyer_id for one in due})
    OverageMonth.objects.bulk_create(
        [OverageMonth(buyer_id=buyer, month=month) for buyer in buyers], ignore_conflicts=True
    )
    rows = OverageMonth.objects.select_for_update(of=("self",)).select_related("buyer")
    return {row.buyer_id: row for row in rows.filter(buyer_id__in=buyers, month=month).order_by("buyer_id")}


def _list_price(deployment_id: int, period: Period) -> int:
    """The lower of the list prices at the period's ends: a price raised meanwhile does not reach back. 0 for none."""
    prices = (list_price_nano(deployment_id, period.start), list_price_nano(deployment_id, period.end))
    return min((price for price in prices if price is not None), default=0)


def _charges(
    one: _Due, before: Settlement | None, after: Settlement, revision: int
) -> Iterable[ChargeInput]:  # fmt: skip
    """One charge per line that changed, with the difference; the first revision has every line whole."""
    old = {_source_key(one, line): line for line in (before.lines if before else ())}
    new = {_source_key(one, line): line for line in after.lines}
    # A line that a ruling makes out of a slice held back corrects that slice: it goes on a note to its document.
    held_back = next((key for key, line in old.items() if line.kind is LineKind.DISPUTED), None)
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key), new.get(key)
        line = now or was
        assert line is not None
        if was == now:
            continue
        tokens = _less(now.tokens if now else {}, was.tokens if was else {})
        amounts: dict[str, Any] = {
            name: (getattr(now, name) if now else 0) - (getattr(was, name) if was else 0)
            for name in ("quantity_micro_st", "buyer_amount_micro", "seller_amount_micro", "fee_micro")
        }
        labels = one.labels | {"lot": line.lot_number, "deployment": line.deployment_id}
        if line.kind == LineKind.UNCHARGED:
            labels["uncharged"] = True
        if line.penalty_thousandths:
            labels["penalty_thousandths"] = line.penalty_thousandths
        if line.kind == LineKind.LATE:
            labels["late"] = True
        if line.kind == LineKind.LIST:
            labels |= {"price_book": line.price_book, "price_rule": line.price_rule, "calculation": line.calculation}
        yield ChargeInput(
            source_key=key,
            revision=revision,
            kind=CHARGE_KINDS[line.kind],
            buyer_id=one.contract.buyer_id,
            provider_id=one.contract.provider_id,
            scope=one.scope,
            labels={name: value for name, value in labels.items() if value is not None},
            buyer_price_nano=line.buyer_price_nano,
            seller_price_nano=line.seller_price_nano,
            tokens=tokens,
            occurred=one.period,
            refers_to=None if was else held_back,
            **amounts,
        )


def _source_key(one: _Due, line: Line) -> str:
    """Name what is charged. A price that is not the lot's is in it: a line keeps one price over all revisions."""
    price = f":{line.buyer_price_nano}" if line.lot_number is None else ""
    return f"contract:{one.key}:{line.key}{price}"


def _less(after: dict[str, int] | Any, before: dict[str, int] | Any) -> dict[str, int]:
    names = sorted({*after, *before})
    return {name: n for name in names if (n := after.get(name, 0) - before.get(name, 0))}


def _postings(
    one: _Due, before: Settlement | None, after: Settlement, revision: int, drawn_first: Sequence[AccountRef]
) -> list[Posting]:
    """
    Move what each pot gains, through the escrow of the market (or of the day's list usage), which it leaves as it is
    but for what this contract's lots had put there. The buyer pays from gifts and bundles before money; what it gets
    back goes first to those that paid.
    """
    gains = difference(before, after)
    contract, key = one.contract, _posting_key(one, revision)
    buyer, provider, hub = contract.buyer_id, contract.provider_id, escrow(one.scope)
    kept, proceeds, tax = gains.get(Pot.FEE, 0), gains.get(Pot.PROVIDER, 0), contract.provider.vat_rate_thousandths
    paid = principal.split_given_fee(max(proceeds, 0) + max(kept, 0), max(kept, 0), vat_thousandths=tax)
    taken = principal.split_given_fee(max(-proceeds, 0) + max(-kept, 0), max(-kept, 0), vat_thousandths=tax)
    coming = principal.take_back_from_provider(
        key=f"{key}:taken", target=hub, provider_id=provider, scope=one.scope, split=taken
    )
    going = principal.pay_provider(key=f"{key}:paid", source=hub, provider_id=provider, scope=one.scope, split=paid)
    # What the provider owes for undelivered tokens, and the buyer's penalty, are paid by `losses.bear`.
    gains[Pot.BUYER] = gains.get(Pot.BUYER, 0) + gains.get(Pot.PENALTY, 0)
    parts: list[tuple[Pot, str, AccountRef, tuple[AccountRef, ...]]] = [
        (Pot.BUYER, "usage", *_payers(buyer, drawn_first)),
        (Pot.DEFAULT_FUND, "surplus", default_fund(), ()),
        (Pot.ROUNDING, "rounding", rounding(one.scope), ()),
        (Pot.DISPUTE, "dispute", dispute(provider, one.scope), ()),
    ]
    if revision and (back := gains.get(Pot.BUYER, 0)) > 0:
        for number, (account, drawn) in enumerate(drawn_micro(buyer, f"settle:{one.key}:")):
            if part := min(drawn, back):
                going.append(Posting(f"{key}:credit:{number}", "credit_back", Stage.POSTED, hub, account, part))
                back -= part
        gains[Pot.BUYER] = 0
        if back:
            going.append(Posting(f"{key}:{Pot.BUYER}", "refund", Stage.POSTED, hub, available(buyer), back))
    for pot, kind, account, fallbacks in parts:
        amount = gains.get(pot, 0)
        if amount > 0:
            if pot is Pot.BUYER:
                kind, account = "refund", available(buyer)
            going.append(Posting(f"{key}:{pot}", kind, Stage.POSTED, hub, account, amount))
        elif amount < 0:
            coming.append(Posting(f"{key}:{pot}", kind, Stage.POSTED, account, hub, -amount, fallbacks=fallbacks))
    return [*coming, *going]


def _payers(buyer: int, drawn_first: Sequence[AccountRef]) -> tuple[AccountRef, tuple[AccountRef, ...]]:
    accounts = (*drawn_first, available(buyer), receivable(buyer))
    return accounts[0], accounts[1:]


def _posting_key(one: _Due, revision: int) -> str:
    return f"settle:{one.key}:{revision}"


def _loss(one: _Due, before: Settlement | None, after: Settlement, row: ContractSettlement) -> Loss | None:
    """Return what this revision changes of what the provider owes, or None."""
    gains = difference(before, after)
    compensation, penalty = -gains.get(Pot.COMPENSATION, 0), -gains.get(Pot.PENALTY, 0)
    if not compensation and not penalty:
        return None
    contract = one.contract
    like = ChargeInput(
        source_key=f"cover:{one.key}", revision=row.revision, kind=ChargeKind.PENALTY, buyer_id=contract.buyer_id,
        provider_id=contract.provider_id, scope=one.scope, labels=one.labels, quantity_micro_st=0, buyer_price_nano=0,
        seller_price_nano=0, buyer_amount_micro=0, seller_amount_micro=0, fee_micro=0, tokens={}, occurred=one.period,
    )  # fmt: skip
    return Loss(_posting_key(one, row.revision), like, compensation, penalty, row.from_default_micro)


def _undelivered_tokens(result: Settlement, missing: Sequence[ShortfallFacts]) -> int:
    """
    Return what the provider did not make available: what was settled as undelivered, what others replaced, and of what
    came in late hours the share by which it is cheaper.
    """
    work = sum(line.quantity_micro_st for line in result.lines if line.kind == LineKind.UNDELIVERED)
    late = sum(
        line.quantity_micro_st * line.penalty_thousandths for line in result.lines if line.kind == LineKind.LATE
    )
    return -(-(work * 1_000 + late) // (MICRO_PER_TOKEN * 1_000)) + sum(s.replaced_tokens for s in missing)


def _score(due: Sequence[_Due], undelivered: dict[int, int], *, now: datetime) -> None:
    """Put on record how each provider of a market delivered; list usage promises nothing and scores nothing."""
    by_provider: dict[int, list[DeliveryContract]] = {}
    for one in due:
        if one.contract.market_id is not None:
            by_provider.setdefault(one.contract.provider_id, []).append(one.contract)
    for provider, contracts in sorted(by_provider.items()):
        record_delivery(
            provider_id=provider,
            scope=due[0].scope,
            contracts=len(contracts),
            contracted_tokens=sum(contract.quantity_tokens for contract in contracts),
            undelivered_tokens=sum(undelivered[contract.pk] for contract in contracts),
            now=now,
        )


class _Credit:
    """
    What buyers can still pay for usage beyond their contracts: gifts and bundles, free money, and credit that they do
    not owe yet.

    Where any of them may, every account of the settlement is locked, so that nobody spends the same money meanwhile.
    """

    def __init__(
        self, due: Sequence[_Due], drawn_first: Mapping[int, Sequence[AccountRef]], buyers: Sequence[Organization]
    ) -> None:
        self.left: dict[int, int] = {}
        may = [buyer for buyer in buyers if buyer.allows_overage_micro]
        if not may:
            return
        accounts: set[AccountRef] = set()
        for one in due:
            buyer, provider, scope = one.contract.buyer_id, one.contract.provider_id, one.scope
            accounts |= set(drawn_first.get(buyer, []))
            accounts |= {available(buyer), receivable(buyer), payable(provider), bond(provider, scope), escrow(scope)}
        balances = ledger.lock_accounts(accounts | {fee(due[0].scope), vat(due[0].scope), rounding(due[0].scope)})
        self.left = {
            buyer.pk: billing.spendable_micro(buyer.pk, credit_limit_micro=buyer.credit_limit_micro)
            + sum(balances[account].free_micro for account in drawn_first.get(buyer.pk, []))
            for buyer in may
        }

    def left_micro(self, buyer_id: int) -> int:
        """Return what a buyer can still pay."""
        return max(0, self.left.get(buyer_id, 0))

    def spend(self, buyer_id: int, amount_micro: int) -> None:
        """Note what a buyer pays (negative: gets back)."""
        self.left[buyer_id] = self.left.get(buyer_id, 0) - amount_micro


def return_bonds(market: Market, provider_ids: Iterable[int], *, now: datetime, final: bool = False) -> None:
    """Give the bonds of a market back: what open claims may cost is kept, unless the settlement is final."""
    accounts = {provider: bond(provider, market.scope) for provider in sorted(provider_ids)}
    claimed = {} if final else queries.claimed_micro(market.pk)
    balances = ledger.lock_accounts(accounts.values())
    ledger.post_all(
        [
            principal.return_bond(
                key=f"{'final' if final else 'settle'}bond:{market.pk}:{provider}", seller_id=provider,
                scope=market.scope, amount_micro=left,
            )
            for provider, account in accounts.items()
            if (left := balances[account].posted_micro - claimed.get(provider, 0)) > 0
        ],
        now=now,
    )  # fmt: skip


def overage_left_micro(buyer: Organization, at: datetime) -> int:
    """Return what a buyer may still use beyond its contracts in the month of `at`, in micro-yuan."""
    month = at.astimezone(SHANGHAI).date().replace(day=1)
    spent = OverageMonth.objects.filter(buyer=buyer, month=month).values_list("spent_micro", flat=True).first() or 0
    return max(0, buyer.allows_overage_micro - spent)
