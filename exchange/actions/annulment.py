"""
Annulment: an auction that should not have been is taken back by two operators, before gate closure.

One asks for it with a reason, another confirms. The market's worker then reverses each of its trades by a mirror entry:
a trade back, the money out of escrow to the buyer, the bond to the seller, both positions. What the trade had filled of
an order is gone from it (`annulled`); the rest of an order that is still open stays. Trades and result stay visible.
"""

from datetime import datetime

from core.errors import BadRequest, Conflict, NotFound
from core.transactions import assert_in_transaction
from exchange.actions.advance import lock_market
from exchange.actions.hints import hint
from exchange.models import Annulment, AuctionResult, Intervention
from identity.access import Actor
from identity.actions import audit

LONGEST_REASON = 300


class AuctionStands(Conflict):
    """The auction can no longer be annulled, or there is nothing to annul."""

    code = "auction-stands"


class SecondOperatorNeeded(Conflict):
    """Who asked for an annulment cannot confirm it."""

    code = "second-operator-needed"


class NotRequested(Conflict):
    """Nobody has asked for the annulment that is being confirmed."""

    code = "annulment-not-requested"


class ReasonMissing(BadRequest):
    """An annulment needs a reason, which is published."""

    code = "reason-missing"


def request_annulment(*, auction_id: int, reason: str, now: datetime, actor: Actor) -> Annulment:
    """
    Ask for an auction to be annulled. Asked for already, the first request stands.

    :raises NotFound: there is no such auction.
    :raises AuctionStands: it traded nothing, or gate closure has passed.
    :raises ReasonMissing: without a reason of 1 to 300 characters.
    """
    assert_in_transaction()
    reason = reason.strip()
    if not 0 < len(reason) <= LONGEST_REASON:
        raise ReasonMissing(f"Say why, in 1 to {LONGEST_REASON} characters.", field="reason")
    auction = _locked(auction_id, now)
    annulment, created = Annulment.objects.get_or_create(
        auction=auction,
        defaults={
            "market_id": auction.market_id,
            "auction_sequence": auction.sequence,
            "reason": reason,
            "requested_by": operator_name(actor),
            "requested_at": now,
        },
    )
    if created:
        audit.record(
            actor=actor, verb="auction.annulment_request", subject=f"auction:{auction_id}", now=now,
            before={"annulled": False}, after={"annulled": False, "reason": reason},
        )  # fmt: skip
    return annulment


def confirm_annulment(*, auction_id: int, now: datetime, actor: Actor) -> Annulment:
    """
    Confirm, as another operator, that an auction is annulled; its market's worker carries it out. Again: no change.

    :raises NotFound: there is no such auction.
    :raises NotRequested: nobody has asked for it.
    :raises SecondOperatorNeeded: the same operator asked for it.
    :raises AuctionStands: gate closure has passed.
    """
    assert_in_transaction()
    auction = _locked(auction_id, now)
    annulment = Annulment.objects.select_for_update(no_key=True).filter(auction=auction).first()
    if annulment is None:
        raise NotRequested("Another operator has to ask for the annulment first, with a reason.")
    if annulment.confirmed_by:
        return annulment
    if annulment.requested_by == operator_name(actor):
        raise SecondOperatorNeeded("You asked for this annulment; another operator has to confirm it.")
    annulment.confirmed_by, annulment.confirmed_at = operator_name(actor), now
    annulment.intervention = Intervention.objects.create(
        market_id=auction.market_id, kind=Intervention.Kind.ANNUL, requested_at=now
    )
    annulment.save(update_fields=["confirmed_by", "confirmed_at", "intervention"])
    audit.record(
        actor=actor, verb="auction.annul", subject=f"auction:{auction_id}", now=now,
        before={"annulled": False, "requested_by": annulment.requested_by},
        after={"annulled": True, "confirmed_by": annulment.confirmed_by, "reason": annulment.reason},
    )  # fmt: skip
    hint([auction.market_id])
    return annulment


def operator_name(actor: Actor) -> str:
    """Return which person or key an operator is: two of them have different names."""
    return f"user:{actor.user_id}" if actor.user_id is not None else f"key:{actor.api_key_id}"


def _locked(auction_id: int, now: datetime) -> AuctionResult:
    auction = AuctionResult.objects.filter(pk=auction_id).first()
    if auction is None:
        raise NotFound("There is no such auction.", field="auction")
    market = lock_market(auction.market_id)
    if not auction.volume_tokens:
        raise AuctionStands("This auction traded nothing, so there is nothing to annul.", field="auction")
    if market.gate_closed_at is not None or now >= market.gate_closes_at:
        raise AuctionStands("The gate of this market has closed; its contracts stand.", field="auction")
    return auction
