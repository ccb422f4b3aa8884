"""
What a revision of a settlement pushes to billing: charges with the difference, the postings that pay them, and what it
adds to what the provider owes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from billing.credit_queries import drawn_micro
from billing.domain import principal
from billing.domain.accounts import AccountRef, available, default_fund, dispute, escrow, receivable, rounding
from billing.domain.charges import ChargeInput, ChargeKind
from billing.domain.postings import Posting, Stage
from core.periods import Period
from exchange.models import DeliveryContract
from metering_ingest.actions.losses import Loss
from metering_ingest.domain.settlement import Line, LineKind, Pot, Settlement, difference
from metering_ingest.models import ContractSettlement

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


@dataclass(frozen=True, slots=True)
class Due:
    """A contract and the period of it that is settled."""

    contract: DeliveryContract
    period: Period
    scope: str
    labels: dict[str, Any]

    @property
    def key(self) -> str:
        return f"{self.contract.pk}:{self.period.start:%Y%m%d%H%M%S}"


def charges_of(
    one: Due, before: Settlement | None, after: Settlement, revision: int
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


def _source_key(one: Due, line: Line) -> str:
    """Name what is charged. A price that is not the lot's is in it: a line keeps one price over all revisions."""
    price = f":{line.buyer_price_nano}" if line.lot_number is None else ""
    return f"contract:{one.key}:{line.key}{price}"


def _less(after: dict[str, int] | Any, before: dict[str, int] | Any) -> dict[str, int]:
    names = sorted({*after, *before})
    return {name: n for name in names if (n := after.get(name, 0) - before.get(name, 0))}


def postings_of(
    one: Due, before: Settlement | None, after: Settlement, revision: int, drawn_first: Sequence[AccountRef]
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


def _posting_key(one: Due, revision: int) -> str:
    return f"settle:{one.key}:{revision}"


def loss_of(one: Due, before: Settlement | None, after: Settlement, row: ContractSettlement) -> Loss | None:
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
