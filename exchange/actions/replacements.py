"""
Replacing what a provider withdraws: another provider's unsold offer becomes a contract of the same buyer.

The buyer pays its price as before. The escrow is made to hold the replacing provider's price: what that is above the
failing one's is a loss of the failing one, borne by its bond, then its payable, then the operator's default account;
what it is below goes to the default account.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max, Sum

from billing.actions import ledger
from billing.actions.charges import push_charges
from billing.domain import principal
from billing.domain.accounts import AccountRef, available, bond, default_fund, escrow, payable
from billing.domain.charges import ChargeInput, ChargeKind
from billing.domain.losses import Purse, cover_charges
from billing.domain.postings import Posting, Stage
from core.money import LOT_TOKENS, MICRO_PER_TOKEN
from core.periods import Period
from exchange import contract_queries, order_queries
from exchange.actions.gate import assigned, rate_limit
from exchange.actions.serving import serve_more
from exchange.contract_queries import ShortfallFacts
from exchange.domain.funding import bond_rate_thousandths
from exchange.domain.replacement import LostLot, Part, Security, UnsoldOffer, lost_lots, replace_lost
from exchange.models import (
    BuyerExclusion,
    Command,
    ContractLot,
    DeliveryContract,
    Market,
    MarketPosition,
    Offer,
    Replacement,
    Shortfall,
    Unplaced,
)
from identity.actions.events import emit_all
from identity.models import Organization
from providers.models import Capacity
from providers.queries import delivered_thousandths

MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class Plan:
    """What replaces what; the accounts that paying for it touches are locked."""

    contract: DeliveryContract
    market: Market
    parts: list[Part]
    begins_at: datetime
    balances: dict[AccountRef, ledger.Balance]

    @property
    def tokens(self) -> int:
        """How much is replaced."""
        return sum(part.tokens for part in self.parts)

    def carry_out(self, shortfall: Shortfall, *, now: datetime) -> None:
        """Make the lots and pay for them; the ledger comes last."""
        if not self.parts:
            return
        provider, scope = self.contract.provider_id, self.market.scope
        purse = Purse(
            self.balances[bond(provider, scope)].free_micro, self.balances[payable(provider)].free_micro
        )
        capacities = {row.pk: row for row in Capacity.objects.filter(pk__in={p.offer.capacity_id for p in self.parts})}
        made: dict[int, DeliveryContract] = {}
        charges: list[ChargeInput] = []
        postings: list[Posting] = []
        for part in self.parts:
            theirs = _contract_with(self.contract, self.market, part, begins_at=self.begins_at, now=now)
            made[theirs.pk] = theirs
            new_lot = ContractLot.objects.create(
                contract=theirs,
                number=(theirs.lots.aggregate(last=Max("number"))["last"] or 0) + 1,
                quantity_tokens=part.tokens,
                buyer_price_nano=part.lost.buyer_price_nano,
                seller_price_nano=part.offer.price_nano,
            )
            row = Replacement.objects.create(
                shortfall=shortfall, lot_id=part.lost.lot_id, new_lot=new_lot, capacity_id=part.offer.capacity_id,
                quantity_tokens=part.tokens, cost_micro=part.cost_micro,
            )  # fmt: skip
            serve_more(theirs, capacities[part.offer.capacity_id], part.tokens, now=now)
            postings += _secure(row, part, scope)
            more_charges, more_postings = self._pay(row, part, theirs, purse)
            charges += more_charges
            postings += more_postings
        told = [event for theirs in made.values() for event in assigned(theirs)]
        emit_all([event._replace(key=f"{event.key}:{shortfall.pk}") for event in told], now=now)
        push_charges(charges, postings, now=now)

    def _pay(
        self, row: Replacement, part: Part, theirs: DeliveryContract, purse: Purse
    ) -> tuple[list[ChargeInput], list[Posting]]:
        """Bring the escrow from the failing seller's price to the replacing one's."""
        provider, scope, key = self.contract.provider_id, self.market.scope, f"replacement:{row.pk}"
        if part.cost_micro < 0:
            return [], [principal.keep_surplus(key=key, scope=scope, amount_micro=-part.cost_micro)]
        if part.cost_micro == 0:
            return [], []
        charge = ChargeInput(
            source_key=key, revision=0, kind=ChargeKind.REPLACEMENT, buyer_id=self.contract.buyer_id,
            provider_id=provider, scope=scope, labels=self._labels(row, theirs),
            quantity_micro_st=part.tokens * MICRO_PER_TOKEN, buyer_price_nano=part.lost.buyer_price_nano,
            seller_price_nano=part.offer.price_nano, buyer_amount_micro=0, seller_amount_micro=-part.cost_micro,
            fee_micro=0, tokens={}, occurred=Period(self.market.window_start, self.market.window_end),
        )  # fmt: skip
        borne = purse.bear(part.cost_micro)
        return [charge, *cover_charges(charge, borne)], [
            *principal.bear_loss(key=key, provider_id=provider, scope=scope, borne=borne),
            *principal.pay_loss(
                key=key, kind="replacement", provider_id=provider, to=escrow(scope), amount_micro=part.cost_micro
            ),
        ]

    def _labels(self, row: Replacement, theirs: DeliveryContract) -> dict[str, str | int | bool | None]:
        grade = self.contract.grade
        return {
            "contract": self.contract.pk, "market": self.market.pk, "grade": grade.slug, "grade_name": grade.name,
            "model": grade.model_card.name, "standard_version": grade.standard_version, "lot": row.lot.number,
            "replaced_by": theirs.pk, "window_start": self.market.window_start.isoformat(),
            "window_end": self.market.window_end.isoformat(),
        }  # fmt: skip


def replace_withdrawn(
    contract: DeliveryContract,
    market: Market,
    before: Sequence[ShortfallFacts],
    *,
    quantity_tokens: int,
    begins_at: datetime,
    now: datetime,
) -> Plan:
    """Find what replaces a withdrawal from a contract that is locked, as is its market; lock the accounts to pay it."""
    replaced = contract_queries.replaced_tokens_by_lot([contract.pk])
    lots = [
        LostLot(lot.pk, left, lot.buyer_price_nano, lot.seller_price_nano)
        for lot in contract.lots.all()
        if (left := lot.quantity_tokens - replaced.get((contract.pk, lot.number), 0))
    ]
    already = sum(one.quantity_tokens - one.replaced_tokens for one in before)
    lost = lost_lots(lots, already_tokens=already, tokens=quantity_tokens)
    offers = unsold_offers(market, begins_at=begins_at, without=_unwanted(contract))
    providers = {offer.provider_id for offer in offers}
    balances: dict[AccountRef, ledger.Balance] = {}
    if providers:
        failing, scope = contract.provider_id, market.scope
        accounts = {payable(failing), bond(failing, scope), default_fund(), escrow(scope)}
        for provider in providers:
            accounts |= {available(provider), bond(provider, scope)}
        balances = ledger.lock_accounts(accounts)
    capacity_left = _capacity_left(market, providers)
    securities = {
        provider: Security(
            capacity_left[provider], balances[available(provider)].free_micro,
            bond_rate_thousandths(delivered_thousandths(provider)),
        )
        for provider in providers
    }  # fmt: skip
    return Plan(contract, market, replace_lost(lost, offers, securities), begins_at, balances)


def unsold_offers(market: Market, *, begins_at: datetime, without: Collection[int] = ()) -> list[UnsoldOffer]:
    """
    Return what is left of a closed market's offers, as much of it as the rest of the window lets them deliver. They are
    locked, so that nobody takes one back meanwhile.

    Only what was on offer counts: what its provider held back or took back was not for sale.
    """
    rows = list(
        Offer.objects.select_for_update(no_key=True, of=("self",))
        .filter(
            market=market, state=Offer.State.OFFERED, capacity__withdrawn_at__isnull=True, order_id__isnull=False
        )
        .exclude(capacity__provider_id__in=without)
        .exclude(capacity__provider__status__in=[Organization.Status.SUSPENDED, Organization.Status.CLOSED])
        .select_related("capacity")
        .order_by("pk")
    )
    orders = Command.objects.filter(pk__in=[row.order_id for row in rows])
    states = {state.id: state for state in order_queries.order_states(orders)}
    taken = dict(
        Replacement.objects.filter(capacity_id__in=[row.pk for row in rows])
        .values_list("capacity_id")
        .annotate(Sum("quantity_tokens"))
        .order_by()
    )
    window = market.window_end - market.window_start
    remaining = market.window_end - begins_at
    found = []
    for row in rows:
        assert row.order_id is not None  # asked for above
        state = states[row.order_id]
        unsold = row.capacity.offered_tokens - state.filled_tokens - taken.get(row.pk, 0)
        tokens = unsold * (remaining // MICROSECOND) // (window // MICROSECOND) // LOT_TOKENS * LOT_TOKENS
        if tokens > 0:
            price = state.price_nano or row.capacity.reserve_price_nano
            found.append(UnsoldOffer(row.pk, row.capacity.provider_id, tokens, price))
    return found


def _unwanted(contract: DeliveryContract) -> set[int]:
    """Whose offers do not count: both sides' and their groups', and whom the buyer excludes."""
    groups = {group for group in (contract.buyer.control_group, contract.provider.control_group) if group}
    unwanted = {contract.buyer_id, contract.provider_id}
    unwanted.update(Organization.objects.filter(control_group__in=groups).values_list("pk", flat=True))
    unwanted.update(BuyerExclusion.objects.filter(buyer=contract.buyer_id).values_list("provider_id", flat=True))
    return unwanted


def _capacity_left(market: Market, providers: Collection[int]) -> dict[int, int]:
    """
    Return what each of these providers has not sold of its capacity in a market, replacements and all.

    A sale that found no buyer to serve at gate closure is capacity again.
    """
    left = dict.fromkeys(providers, 0)
    rows = MarketPosition.objects.filter(market=market, organization_id__in=providers)
    for organization_id, capacity, position in rows.values_list(
        "organization_id", "capacity_tokens", "position_tokens"
    ):
        left[organization_id] = capacity + min(position, 0)
    replaced = Replacement.objects.filter(new_lot__contract__market=market, capacity__provider_id__in=providers)
    for provider, tokens in replaced.values_list("capacity__provider_id").annotate(Sum("quantity_tokens")).order_by():
        left[provider] -= tokens
    unplaced = Unplaced.objects.filter(market=market, seller_id__in=providers)
    for provider, tokens in unplaced.values_list("seller_id").annotate(Sum("quantity_tokens")).order_by():
        left[provider] += tokens
    return left


def _contract_with(
    contract: DeliveryContract, market: Market, part: Part, *, begins_at: datetime, now: datetime
) -> DeliveryContract:
    """Return the buyer's contract with the replacing provider, with this part in it."""
    assert contract.window_start is not None and contract.window_end is not None
    rate = rate_limit(part.tokens, contract.window_end - begins_at)
    theirs = (
        DeliveryContract.objects.select_for_update(no_key=True, of=("self",))
        .filter(market=market, buyer=contract.buyer_id, provider_id=part.offer.provider_id, kind="spot")
        .first()
    )
    if theirs is None:
        return DeliveryContract.objects.create(
            kind=DeliveryContract.Kind.SPOT, market=market, grade_id=contract.grade_id, buyer_id=contract.buyer_id,
            provider_id=part.offer.provider_id, quantity_tokens=part.tokens, window_start=contract.window_start,
            window_end=contract.window_end, rate_tokens_per_minute=rate, created_at=now,
        )  # fmt: skip
    theirs.quantity_tokens += part.tokens
    theirs.rate_tokens_per_minute += rate
    theirs.save(update_fields=["quantity_tokens", "rate_tokens_per_minute"])
    return theirs


def _secure(row: Replacement, part: Part, scope: str) -> list[Posting]:
    """Take the replacing provider's bond out of its free money."""
    if not part.bond_micro:
        return []
    provider = part.offer.provider_id
    return [
        Posting(
            f"replacementbond:{row.pk}", "bond", Stage.POSTED, available(provider), bond(provider, scope),
            part.bond_micro,
        )
    ]  # fmt: skip
