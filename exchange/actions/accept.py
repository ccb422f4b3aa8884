"""
Accepting commands: check, reserve, hold, store. One transaction, answered before anything is matched.

Items are judged one after another against what the earlier ones left, so that a bad one never fails its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from billing.actions import ledger
from billing.actions.funding import draws, note_draws
from billing.credit_queries import usable_credits
from billing.domain import accounts
from billing.domain.postings import Posting, Stage
from core import prepared
from core.ids import new_id
from core.money import LOT_TOKENS
from core.transactions import assert_in_transaction
from exchange import order_queries, queries
from exchange.actions import command_rows
from exchange.actions.hints import hint
from exchange.domain.commands import KINDS, QueuedCommand, flags_of, pack, rare_of
from exchange.domain.funding import bond_rate_thousandths, buy_hold_micro, sell_hold_micro
from exchange.domain.limits import MILLIONTHS, Exposure, check_distance, check_position, check_rate, check_size
from exchange.domain.orders import BUY, SELL, Kind, contradicts
from exchange.domain.requests import (
    CancelAllRequest,
    CancelRequest,
    MarketTerms,
    OrderRequest,
    Refusal,
    ReplaceRequest,
    Request,
    check_order,
    check_replacement,
    check_trading,
)
from exchange.models import Command, OrderRate
from exchange.order_queries import OrderState
from identity.models import Organization
from providers.queries import delivered_thousandths


class Accepted(NamedTuple):
    """A command that is stored and will be drained."""

    id: UUID
    market_id: int
    kind: int
    order_id: UUID


class Refused(NamedTuple):
    """A command that changed nothing, and why."""

    code: str
    detail: str
    field: str | None


Outcome = Accepted | Refused
_SIDES = {None: -1, "buy": BUY, "sell": SELL}


@dataclass(slots=True)
class _Sellable:
    """What a seller may still offer in a market, as this batch uses it up."""

    free_tokens: int
    position_left_tokens: int  # part of `free_tokens` that comes from purchases and needs no bond
    reserved_tokens: int = 0

    def take(self, tokens: int) -> int:
        """Reserve for a sell and return how much of it the position covers."""
        covered = min(tokens, self.position_left_tokens)
        self.position_left_tokens -= covered
        self.free_tokens -= tokens
        self.reserved_tokens += tokens
        return covered


@dataclass(slots=True)
class _Hold:
    """The hold of one request on one side of a market; its id is that of the first order in it."""

    id: UUID
    amount_micro: int = 0
    drawn_micro: int = 0  # of it, what bundles and gifts pay


class _Batch:
    """One organization's commands while they are judged."""

    def __init__(self, organization: Organization, requests: Sequence[Request], now: datetime) -> None:
        self.organization = organization
        self.organization_id: int = organization.pk
        self.group_id = group_number(organization)
        self.available = accounts.available(organization.pk)
        self.now = now
        self.states: dict[UUID, OrderState] = _targets(organization, requests)
        self.legs = queries.legs_among(self.states)
        self.terms: dict[int, MarketTerms] = order_queries.market_terms(
            {request.market_id for request in requests if isinstance(request, OrderRequest | CancelAllRequest)}
            | {state.market_id for state in self.states.values()}
        )
        self.sellable = _lock_sellable(organization, requests, self.states, self.terms)
        # Bundles and gifts pay for purchases before free money does.
        self.drawn_first = usable_credits([organization.pk], at=now).get(organization.pk, [])
        self.locked = balances = ledger.lock_accounts([self.available, *self.drawn_first])
        self.free_micro = balances[self.available].free_micro
        self.credit_left = {account: balances[account].free_micro for account in self.drawn_first}
        self.credit_micro = sum(self.credit_left.values())
        # After that lock, which whoever stops trading or ends a lease takes too: an order is before it or refused.
        self.guards = order_queries.guards_of(organization.pk, now=now)
        self.limits = self.guards.limits
        self.rate_left = self.guards.rate_left
        self.exposures: dict[int, Exposure] = {}
        self.bond_thousandths = bond_rate_thousandths(delivered_thousandths(organization.pk)) if self.sellable else 0
        self.taken: dict[int, tuple[list[QueuedCommand], list[command_rows.Extra]]] = {}
        self.holds: dict[tuple[int, bool], _Hold] = {}

    def judge(self, request: Request) -> Outcome:
        """Take a request in, or refuse it."""
        try:
            if isinstance(request, OrderRequest):
                return self._order(request)
            if isinstance(request, ReplaceRequest):
                return self._replace(request)
            if isinstance(request, CancelRequest):
                return self._cancel(request)
            return self._cancel_all(request)
        except Refusal as refusal:
            return Refused(refusal.code, refusal.detail, refusal.field)

    def _terms(self, market_id: int) -> MarketTerms:
        terms = self.terms.get(market_id)
        if terms is None:
            raise Refusal("market-not-found", f"There is no market {market_id}.", "market")
        return terms

    def _order(self, request: OrderRequest) -> Outcome:
        market_id, quantity, price = request.market_id, request.quantity_tokens, request.price_nano
        terms = self._terms(market_id)
        check_order(request, terms, self.now)
        kind, flags = KINDS[request.type], flags_of(request)
        if contradicts(kind, flags):
            raise Refusal("contradictory-flags", "These options of the order exclude each other: leave one out.")
        hold_price = request.hold_price_nano or price or terms.cap_price_nano
        buying = request.side == "buy"
        self._guard(terms, buying, quantity, request.hold_price_nano or price, hold_price)
        if request.cancel_on_disconnect and not self.guards.has_lease:
            raise Refusal(
                "no-lease",
                "cancel_on_disconnect needs a lease that has not run out: POST /v1/leases.",
                "cancel_on_disconnect",
            )
        covered = bond = 0
        if buying:
            hold_micro = buy_hold_micro(quantity_tokens=quantity, price_nano=hold_price)
            self._need(hold_micro, "This order", buying=True)
        else:
            sellable = self.sellable[market_id]
            self._need_sellable(sellable, quantity)
            covered, bond = min(quantity, sellable.position_left_tokens), self.bond_thousandths
            hold_micro = sell_hold_micro(
                quantity_tokens=quantity, covered_tokens=covered, price_nano=hold_price, bond_thousandths=bond
            )
            self._need(hold_micro, "The bond of this order", buying=False)
            sellable.take(quantity)
        self._count(market_id, buying, quantity)
        command_id = new_id()
        command = QueuedCommand(
            command_id.bytes,
            kind,
            self.organization_id,
            BUY if buying else SELL,
            price // terms.tick_nano if price else 0,
            quantity // LOT_TOKENS,
            flags,
            rare_of(request, terms.tick_nano, self.group_id),
            b"",
            self._hold(command_id, buying, market_id, hold_micro),
            hold_micro,
            hold_price,
            covered,
            bond,
        )
        return self._add(terms, command, request.client_order_id, request.capacity_id, request.expires_at)

    def _replace(self, request: ReplaceRequest) -> Outcome:
        state = self._target(request.order_id)
        terms = self._terms(state.market_id)
        if state.ended:
            raise Refusal("order-ended", f"This order is {state.status}: nothing of it can be replaced.", "order")
        check_replacement(
            price_nano=request.price_nano,
            quantity_tokens=request.quantity_tokens,
            has_price=state.price_nano is not None,
            terms=terms,
            now=self.now,
        )
        quantity = request.quantity_tokens or state.quantity_tokens
        if quantity <= state.filled_tokens:
            raise Refusal(
                "quantity-below-filled", f"{state.filled_tokens} tokens of this order are filled already.", "quantity"
            )
        price = request.price_nano or state.price_nano or terms.cap_price_nano
        more = max(0, quantity - state.quantity_tokens)
        left = quantity - state.filled_tokens
        self._guard(terms, state.side == "buy", quantity, request.price_nano, price, more)
        if state.side == "buy":
            needed = buy_hold_micro(quantity_tokens=left, price_nano=price)
        else:
            self._need_sellable(sellable := self.sellable[state.market_id], more)
            bond = state.bond_thousandths
            needed = sell_hold_micro(quantity_tokens=left, covered_tokens=0, price_nano=price, bond_thousandths=bond)
        extra = max(0, needed - state.held_micro)
        self._need(extra, "This replacement", buying=state.side == "buy")
        if state.side == "sell":
            sellable.take(more)
        self._count(state.market_id, state.side == "buy", more)
        command_id = new_id()
        return self._add(
            terms,
            QueuedCommand(
                id=command_id.bytes,
                kind=Kind.REPLACE,
                organization_id=self.organization.pk,
                side=BUY if state.side == "buy" else SELL,
                price=(request.price_nano or 0) // terms.tick_nano,
                lots=(request.quantity_tokens or 0) // LOT_TOKENS,
                target=request.order_id.bytes,
                hold_id=self._hold(command_id, state.side == "buy", state.market_id, extra),
                hold_micro=extra,
                reserved_tokens=more if state.side == "sell" else 0,
            ),
        )

    def _cancel(self, request: CancelRequest) -> Outcome:
        state = self._target(request.order_id, of_block=request.of_block)
        if state.ended:
            raise Refusal("order-ended", f"This order is {state.status}: nothing of it is left to cancel.", "order")
        return self._add(
            self._terms(state.market_id),
            QueuedCommand(
                id=new_id().bytes,
                kind=Kind.CANCEL,
                organization_id=self.organization.pk,
                target=request.order_id.bytes,
            ),
        )

    def _cancel_all(self, request: CancelAllRequest) -> Outcome:
        terms = self._terms(request.market_id)
        check_trading(terms, self.now)
        return self._add(
            terms,
            QueuedCommand(
                id=new_id().bytes,
                kind=Kind.MASS_CANCEL,
                organization_id=self.organization.pk,
                side=_SIDES[request.side],
            ),
        )

    def _guard(
        self,
        terms: MarketTerms,
        buying: bool,
        quantity: int,
        price: int | None,
        hold_price: int,
        more: int | None = None,
    ) -> None:
        """Refuse what the operator has stopped or what exceeds a limit; `more` is what a replacement adds."""
        market_id, limits = terms.market_id, self.limits
        if self.guards.stops and (None in self.guards.stops or market_id in self.guards.stops):
            raise Refusal(
                "trading-stopped",
                "The operator has stopped this organization's trading; orders can be cancelled.",
            )
        if self.guards.overdue:
            raise Refusal(
                "payment-overdue",
                "Invoices of this organization are overdue: orders can be cancelled, and are taken again once it has"
                " paid.",
            )
        if limits is None:
            return
        check_rate(limits, self.rate_left)
        check_size(limits, quantity_tokens=quantity, price_nano=hold_price)
        if price is not None and limits.price_distance_thousandths is not None:
            check_distance(limits, buying=buying, price_nano=price, reference_nano=order_queries.last_price_nano(terms))
        if limits.position_tokens is not None:
            exposure = self.exposures.get(market_id)
            if exposure is None:
                exposure = self.exposures[market_id] = order_queries.exposure(market_id, self.organization_id)
            check_position(limits, exposure, buying=buying, quantity_tokens=quantity if more is None else more)

    def _count(self, market_id: int, buying: bool, tokens: int) -> None:
        """Count an order that was taken in against the limits."""
        if self.limits is None:
            return
        self.rate_left -= MILLIONTHS
        exposure = self.exposures.get(market_id)
        if exposure is not None and buying:
            exposure.open_buy_tokens += tokens
        elif exposure is not None:
            exposure.open_sell_tokens += tokens

    def _target(self, order_id: UUID, *, of_block: bool = False) -> OrderState:
        state = self.states.get(order_id)
        if order_id in self.legs and not of_block:
            raise Refusal("order-of-block", "This order is a leg of a block: withdraw the block.", "order")
        if state is None:
            raise Refusal("order-not-found", "There is no such order.", "order")
        return state

    def _need(self, amount_micro: int, what: str, *, buying: bool) -> None:
        free_micro = self.free_micro + (self.credit_micro if buying else 0)
        if amount_micro > free_micro:
            refused = ledger.InsufficientFunds(self.available, needed_micro=amount_micro, available_micro=free_micro)
            raise Refusal(refused.code, f"{what}: {refused.detail}")

    def _need_sellable(self, sellable: _Sellable, tokens: int) -> None:
        if tokens > sellable.free_tokens:
            raise Refusal(
                "insufficient-capacity",
                f"You can offer {sellable.free_tokens} more tokens here: capacity and position less open sell orders.",
                "quantity",
            )

    def _hold(self, command_id: UUID, buying: bool, market_id: int, amount_micro: int) -> bytes:
        """Put an amount on the hold of this request's side of a market, and return the hold's id."""
        if not amount_micro:
            return b""
        drawn_micro = min(self.credit_micro, amount_micro) if buying else 0
        self.credit_micro -= drawn_micro
        self.free_micro -= amount_micro - drawn_micro
        hold = self.holds.get((market_id, buying))
        if hold is None:
            hold = self.holds[market_id, buying] = _Hold(command_id)
        hold.amount_micro += amount_micro
        hold.drawn_micro += drawn_micro
        return hold.id.bytes

    def _add(
        self,
        terms: MarketTerms,
        command: QueuedCommand,
        client_order_id: str | None = None,
        capacity_id: int | None = None,
        expires_at: datetime | None = None,
    ) -> Accepted:
        market_id = terms.market_id
        taken = self.taken.get(market_id)
        if taken is None:
            taken = self.taken[market_id] = ([], [])
        taken[0].append(command)
        taken[1].append((client_order_id, capacity_id, expires_at))
        return Accepted(UUID(bytes=command.id), market_id, command.kind, UUID(bytes=command.target or command.id))

    def store(self) -> None:
        """Write everything that was taken in; the ledger comes last."""
        for market_id, sellable in self.sellable.items():
            if sellable.reserved_tokens:
                prepared.execute(_RESERVE, [sellable.reserved_tokens, self.organization_id, market_id])
        if self.limits is not None and self.limits.orders_per_minute is not None:
            OrderRate.objects.update_or_create(
                organization=self.organization, defaults={"level_millionths": self.rate_left, "at": self.now}
            )
        for market_id, (commands, extras) in sorted(self.taken.items()):
            (queue_id,) = prepared.one(_QUEUE, [market_id, self.now, pack(commands)])
            command_rows.store(
                commands,
                extras,
                terms=self.terms[market_id],
                group_id=self.group_id,
                queue_id=queue_id,
                accepted_at=self.now,
            )
        drawn = [
            posting for (market_id, _), hold in self.holds.items() if hold.drawn_micro
            for posting in draws(
                key=f"draw:{hold.id}", organization_id=self.organization_id, scope=f"market:{market_id}",
                amount_micro=hold.drawn_micro, left_micro=self.credit_left, drawn_first=self.drawn_first,
            )
        ]  # fmt: skip
        note_draws(drawn)
        ledger.post_all(
            [*drawn, *(self._posting(*place, hold) for place, hold in self.holds.items())],
            now=self.now, locked=self.locked, fresh=not drawn,
        )
        hint(self.taken)

    def _posting(self, market_id: int, buying: bool, hold: _Hold) -> Posting:
        scope = f"market:{market_id}"
        return Posting(
            key=f"order:{hold.id}",
            kind="order_hold",
            stage=Stage.PENDING,
            debit=self.available,
            credit=accounts.escrow(scope) if buying else accounts.bond(self.organization.pk, scope),
            amount_micro=hold.amount_micro,
            id=hold.id,
        )


def accept(*, organization: Organization, requests: Sequence[Request], now: datetime) -> list[Outcome]:
    """Accept what can be accepted of an organization's commands, in order, and answer each."""
    assert_in_transaction()
    batch = _Batch(organization, requests, now)
    outcomes = [batch.judge(request) for request in requests]
    if batch.taken:
        batch.store()
    return outcomes


def group_number(organization: Organization) -> int:
    """Return the number of the organization's control group (its oldest member's id), or 0 without one."""
    if not organization.control_group:
        return 0
    members = Organization.objects.filter(control_group=organization.control_group)
    return members.order_by("pk").values_list("pk", flat=True)[0]


def _targets(organization: Organization, requests: Sequence[Request]) -> dict[UUID, OrderState]:
    wanted = {request.order_id for request in requests if isinstance(request, CancelRequest | ReplaceRequest)}
    if not wanted:
        return {}
    rows = Command.objects.filter(organization=organization, kind__in=Command.ORDER_KINDS, id__in=wanted)
    return {state.id: state for state in order_queries.order_states(rows)}


def _lock_sellable(
    organization: Organization,
    requests: Sequence[Request],
    states: dict[UUID, OrderState],
    terms: dict[int, MarketTerms],
) -> dict[int, _Sellable]:
    """Lock the positions that sells of this batch draw on; without a row there is nothing to sell."""
    markets: set[int] = set()
    for request in requests:
        if isinstance(request, OrderRequest):
            if request.side == "sell":
                markets.add(request.market_id)
        elif isinstance(request, ReplaceRequest):
            state = states.get(request.order_id)
            if state is not None and state.side == "sell":
                markets.add(state.market_id)
    if not markets:
        return {}
    sellable = {market_id: _Sellable(0, 0) for market_id in markets}
    rows = prepared.execute(_LOCK_POSITIONS, [organization.pk, list(markets)]).fetchall()
    for market_id, capacity_tokens, position_tokens, open_sell_tokens in rows:
        resale = terms[market_id].mode == "exchange"
        position = position_tokens if resale or position_tokens < 0 else 0
        free = capacity_tokens + position - open_sell_tokens
        covered = max(0, min(position - open_sell_tokens, free))
        sellable[market_id] = _Sellable(free, covered)
    return sellable


_LOCK_POSITIONS = """
SELECT market_id, capacity_tokens, position_tokens, open_sell_tokens FROM exchange_marketposition
WHERE organization_id = %s AND market_id = ANY(%s::bigint[]) ORDER BY market_id FOR NO KEY UPDATE
"""
_RESERVE = """
UPDATE exchange_marketposition SET open_sell_tokens = open_sell_tokens + %s
WHERE organization_id = %s AND market_id = %s
"""
_QUEUE = "INSERT INTO exchange_commandqueue (market_id, received_at, content) VALUES (%s, %s, %s) RETURNING id"
