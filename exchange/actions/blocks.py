"""
Placing and withdrawing blocks. Blocks of one request stand or fall together, because they may be linked.

A leg is an order of its market that only the clearing of the call can fill. It holds for the worst case: a buy's leg
the most that it may cost while the whole block keeps its limit (its limit times all tokens, at most the cap a token), a
sell's leg the bond at the limit, and the capacity it offers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from core.errors import Conflict, NotFound, Problem
from core.ids import new_id
from core.money import format_price
from core.transactions import assert_in_transaction
from exchange import order_queries, queries
from exchange.actions.accept import Refused, accept
from exchange.domain.requests import CancelRequest, MarketTerms, OrderRequest
from exchange.models import Block, BlockLeg
from identity.models import Organization

MOST_BLOCKS, MOST_LEGS = 100, 48


class BlockRefused(Problem):
    """A block that was refused, and with it the request; `code` says why."""

    status = 422
    title = "Block refused"

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail, field=field)
        self.code = code  # type: ignore[misc]  # per refusal, not per class


class BlockOver(Conflict):
    """The block's call has been cleared."""

    code = "block-ended"


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """
    A block as its sender wants it. `legs` are (market, tokens); `least_tokens` of all of them must be filled.

    `ref` names it within the request; `linked_to` is another's `ref`, or the id of a block of the same call.
    """

    side: str
    limit_price_nano: int
    legs: tuple[tuple[int, int], ...]
    least_tokens: int | None = None
    ref: str = ""
    exclusive_group: str = ""
    linked_to: str = ""
    client_block_id: str = ""
    tokens_per_minute: int | None = None

    @property
    def quantity_tokens(self) -> int:
        """All its tokens."""
        return sum(tokens for _, tokens in self.legs)


@dataclass(slots=True)
class _Placing:
    """A request's blocks while they are checked."""

    requests: Sequence[BlockRequest]
    ids: list[UUID] = field(default_factory=list)
    parents: dict[int, UUID] = field(default_factory=dict)


def place_blocks(*, organization: Organization, requests: Sequence[BlockRequest], now: datetime) -> list[Block]:
    """
    Place blocks, all or none.

    :raises BlockRefused: with a stable code; `linked-cycle` where links go round in a circle.
    """
    assert_in_transaction()
    if not 0 < len(requests) <= MOST_BLOCKS:
        raise BlockRefused("invalid", f"A request carries 1 to {MOST_BLOCKS} blocks.", "blocks")
    terms = order_queries.market_terms({market for request in requests for market, _ in request.legs})
    call_id = _call_of(requests, terms)
    for number, request in enumerate(requests):
        _check(request, terms, f"blocks.{number}")
    placing = _Placing(requests, [new_id() for _ in requests])
    _link(placing, organization, call_id)
    legs = [
        (number, market, tokens) for number, request in enumerate(requests) for market, tokens in request.legs
    ]
    outcomes = accept(
        organization=organization,
        requests=[_leg(requests[number], market, tokens, terms[market]) for number, market, tokens in legs],
        now=now,
    )
    for (number, _, _), outcome in zip(legs, outcomes, strict=True):
        if isinstance(outcome, Refused):
            raise BlockRefused(outcome.code, outcome.detail, f"blocks.{number}")
    groups = {name: new_id() for name in sorted({request.exclusive_group for request in requests} - {""})}
    blocks = [
        Block(
            id=placing.ids[number],
            organization=organization,
            call_id=call_id,
            side=Block.Side.BUY if request.side == "buy" else Block.Side.SELL,
            limit_price_nano=request.limit_price_nano,
            quantity_tokens=request.quantity_tokens,
            least_tokens=request.least_tokens or request.quantity_tokens,
            exclusive_group=groups.get(request.exclusive_group),
            parent_id=placing.parents.get(number),
            tokens_per_minute=request.tokens_per_minute,
            client_block_id=request.client_block_id,
            accepted_at=now,
        )
        for number, request in enumerate(requests)
    ]
    Block.objects.bulk_create(blocks)
    BlockLeg.objects.bulk_create(
        BlockLeg(block=blocks[number], market_id=market, order_id=outcome.id, quantity_tokens=tokens)
        for (number, market, tokens), outcome in zip(legs, outcomes, strict=True)
        if not isinstance(outcome, Refused)
    )
    return blocks


def withdraw_block(*, block_id: UUID, organization: Organization, now: datetime) -> Block:
    """
    Take a block back before its call is cleared: its legs are cancelled.

    :raises NotFound: there is no such block, or it is another's.
    :raises BlockOver: its call has been cleared.
    """
    assert_in_transaction()
    block = Block.objects.filter(pk=block_id, organization=organization).first()
    if block is None:
        raise NotFound("There is no such block.")
    if hasattr(block, "result"):
        raise BlockOver(f"This block's call has been cleared: it was {block.result.outcome}.")
    accept(
        organization=organization,
        requests=[CancelRequest(order_id=leg.order_id, of_block=True) for leg in block.legs.order_by("pk")],
        now=now,
    )
    return block


def _call_of(requests: Sequence[BlockRequest], terms: dict[int, MarketTerms]) -> int:
    """Return the one call that all markets of the request are in."""
    calls = set()
    for number, request in enumerate(requests):
        for market, _ in request.legs:
            if market not in terms:
                raise BlockRefused("market-not-found", f"There is no market {market}.", f"blocks.{number}.legs")
            if terms[market].phase != "call" or terms[market].call_id is None:
                raise BlockRefused(
                    "wrong-phase", f"Blocks are taken in a call; market {market} is {terms[market].phase}.",
                    f"blocks.{number}.legs",
                )  # fmt: skip
            calls.add(terms[market].call_id)
    if len(calls) != 1:
        raise BlockRefused(
            "not-one-session", "The markets of a request's blocks must share one call: its end, tick and margin rule.",
            "blocks",
        )  # fmt: skip
    [call] = calls
    assert call is not None
    return call


def _check(request: BlockRequest, terms: dict[int, MarketTerms], where: str) -> None:
    if not 0 < len(request.legs) <= MOST_LEGS or len(dict(request.legs)) < len(request.legs):
        raise BlockRefused("bad-legs", f"A block has 1 to {MOST_LEGS} legs, each in another market.", f"{where}.legs")
    tick = terms[request.legs[0][0]].tick_nano
    if request.limit_price_nano <= 0 or request.limit_price_nano % tick:
        raise BlockRefused(
            "price-off-tick", f"Prices here are multiples of {format_price(tick)} ¥/token.", f"{where}.limit"
        )
    if request.limit_price_nano > max(terms[market].cap_price_nano for market, _ in request.legs):
        raise BlockRefused("price-above-cap", "The limit is above the cap of all its markets.", f"{where}.limit")
    least = request.least_tokens
    if least is not None and not 0 < least <= request.quantity_tokens:
        raise BlockRefused(
            "bad-minimum", "What must be filled at least is above zero and at most the whole.", f"{where}.min_quantity"
        )


def _link(placing: _Placing, organization: Organization, call_id: int) -> None:
    """Find each block's parent, and refuse links that go round in a circle."""
    refs = {request.ref: number for number, request in enumerate(placing.requests) if request.ref}
    if len(refs) < sum(bool(request.ref) for request in placing.requests):
        raise BlockRefused("invalid", "Each ref of a request names one block.", "blocks")
    within: dict[int, int] = {}
    for number, request in enumerate(placing.requests):
        if not request.linked_to:
            continue
        where = f"blocks.{number}.linked_to"
        if request.linked_to in refs:
            within[number] = refs[request.linked_to]
            placing.parents[number] = placing.ids[within[number]]
            continue
        parent = queries.open_block(request.linked_to, organization.pk)
        if parent is None or parent.call_id != call_id:
            raise BlockRefused(
                "link-unknown", "linked_to is the ref of a block of this request, or the id of your own in this call.",
                where,
            )  # fmt: skip
        placing.parents[number] = parent.pk
    for first in within:
        seen, number = {first}, within[first]
        while number in within:
            if number in seen:
                raise BlockRefused(
                    "linked-cycle", "These blocks are linked in a circle: none could come first.",
                    f"blocks.{first}.linked_to",
                )  # fmt: skip
            seen.add(number)
            number = within[number]


def _leg(request: BlockRequest, market: int, tokens: int, terms: MarketTerms) -> OrderRequest:
    cap = terms.cap_price_nano // terms.tick_nano * terms.tick_nano
    buying = request.side == "buy"
    # Other legs cost at least nothing, so this one at most what the whole block may cost.
    worst = min(cap, -(-request.limit_price_nano * request.quantity_tokens // tokens))
    worst = -(-worst // terms.tick_nano) * terms.tick_nano
    return OrderRequest(
        market_id=market,
        side=request.side,
        quantity_tokens=tokens,
        price_nano=cap if buying else terms.tick_nano,
        session="auction",
        all_or_none=True,
        self_trade="none",
        hold_price_nano=worst if buying else min(cap, request.limit_price_nano),
        client_order_id=request.client_block_id or None,
    )

