"""
Claims: a buyer names requests that failed; the provider accepts, or the operator upholds or rejects.

A claim is made until the window's grace is over, and decided once. What was found undelivered is a shortfall; a market
that is settled already is settled again by the sweep, which pushes the difference.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from core.errors import BadRequest, Conflict, NotFound
from core.transactions import assert_in_transaction
from exchange.actions.shortfalls import check_left, lock_contract, record_claimed
from exchange.contract_queries import shortfalls_of
from exchange.models import DeliveryContract, Market
from identity.models import Organization
from metering_ingest.models import Claim, ClaimedRequest, ClaimRuling, LateUsage
from metering_ingest.queries import delivered_tokens, metered_requests

MOST_REQUESTS = 1_000


class ClaimOutOfTime(Conflict):
    """A claim is made from the window's start until its grace is over."""

    code = "claim-out-of-time"


class RequestClaimed(Conflict):
    """A failed request is claimed once."""

    code = "request-claimed"


class BadClaim(BadRequest):
    """A claim names requests, and what they would have been."""

    code = "bad-claim"


class ClaimDecided(Conflict):
    """A claim is decided once."""

    code = "claim-decided"


class SettlementFinal(Conflict):
    """After its dispute days a market's settlement is final."""

    code = "settlement-final"


def make_claim(
    *, contract_id: int, buyer_id: int, request_ids: Sequence[str], quantity_tokens: int, note: str, now: datetime
) -> Claim:
    """
    Claim that requests of a contract failed, and how many standard tokens they would have been.

    :raises NotFound: there is no such spot contract of this buyer.
    :raises ClaimOutOfTime: before the window, or after its grace.
    :raises BadClaim: no requests, more than 1,000, one named twice, or no positive quantity.
    :raises RequestClaimed: with the requests that were claimed before.
    :raises MoreThanUndelivered: more than is left of the contract.
    """
    assert_in_transaction()
    if not DeliveryContract.objects.filter(pk=contract_id, buyer_id=buyer_id).exists():
        raise NotFound("There is no such contract.", field="contract")
    contract, market = lock_contract(contract_id)
    until = market.window_end + timedelta(seconds=contract.grade.grace_seconds)
    if market.gate_closed_at is None or not market.window_start <= now <= until:
        raise ClaimOutOfTime(f"Failed requests are claimed from the window's start until {until.isoformat()}.")
    if not 0 < len(request_ids) <= MOST_REQUESTS or len(set(request_ids)) != len(request_ids):
        raise BadClaim(f"requests are 1 to {MOST_REQUESTS:,} ids, each named once.", field="requests")
    if quantity_tokens <= 0:
        raise BadClaim("quantity is a positive number of standard tokens.", field="quantity")
    known = ClaimedRequest.objects.filter(contract=contract, request_id__in=request_ids)
    if before := sorted(known.values_list("request_id", flat=True))[:10]:
        raise RequestClaimed(f"Claimed before: {', '.join(before)}.", field="requests")
    _check_left(contract, quantity_tokens)
    claim = Claim.objects.create(
        contract=contract,
        quantity_tokens=quantity_tokens,
        metered=metered_requests(contract, request_ids),
        note=note,
        made_at=now,
    )
    ClaimedRequest.objects.bulk_create(
        ClaimedRequest(claim=claim, contract=contract, request_id=request_id) for request_id in request_ids
    )
    return claim


def accept_claim(
    *, claim_id: int, provider: Organization, quantity_tokens: int | None, note: str, now: datetime
) -> ClaimRuling:
    """
    Accept a claim as its provider; less than was claimed only the operator decides.

    :raises NotFound: there is no such claim on this provider.
    :raises ClaimDecided, SettlementFinal, MoreThanUndelivered: it cannot be decided so any more.
    """
    assert_in_transaction()
    claim = _claim(claim_id)
    if claim.contract.provider_id != provider.pk:
        raise NotFound("There is no such claim.", field="claim")
    if quantity_tokens is not None and quantity_tokens != claim.quantity_tokens:
        raise BadClaim("A provider accepts a claim whole; the operator decides on a part of it.", field="quantity")
    return _rule(claim, ClaimRuling.Verdict.ACCEPTED, claim.quantity_tokens, provider, note, now)


def rule_on_claim(
    *, claim_id: int, operator: Organization, upheld: bool, quantity_tokens: int | None, note: str, now: datetime
) -> ClaimRuling:
    """
    Uphold a claim, whole or a part of it, or reject it, as the operator.

    :raises NotFound: there is no such claim.
    :raises BadClaim: a quantity with a rejection, or none within what was claimed.
    :raises ClaimDecided, SettlementFinal, MoreThanUndelivered: it cannot be decided so any more.
    """
    assert_in_transaction()
    claim = _claim(claim_id)
    if not upheld:
        if quantity_tokens:
            raise BadClaim("What is rejected has no quantity.", field="quantity")
        return _rule(claim, ClaimRuling.Verdict.REJECTED, 0, operator, note, now)
    quantity = claim.quantity_tokens if quantity_tokens is None else quantity_tokens
    if not 0 < quantity <= claim.quantity_tokens:
        raise BadClaim(f"quantity is from 1 to the {claim.quantity_tokens:,} tokens claimed.", field="quantity")
    return _rule(claim, ClaimRuling.Verdict.UPHELD, quantity, operator, note, now)


def _claim(claim_id: int) -> Claim:
    claim = Claim.objects.select_related("contract").filter(pk=claim_id).first()
    if claim is None:
        raise NotFound("There is no such claim.", field="claim")
    return claim


def _rule(
    claim: Claim, verdict: ClaimRuling.Verdict, quantity: int, by: Organization, note: str, now: datetime
) -> ClaimRuling:
    contract, market = lock_contract(claim.contract_id)  # who comes second meets the first one's ruling
    if ClaimRuling.objects.filter(claim=claim).exists():
        raise ClaimDecided("This claim is decided already.", field="claim")
    if market.finalized_at is not None:
        raise SettlementFinal("The settlement of this window is final.", field="claim")
    if quantity:
        _check_left(contract, quantity)
    try:
        with transaction.atomic():
            ruling = ClaimRuling.objects.create(
                claim=claim, verdict=verdict, quantity_tokens=quantity, by=by, note=note, ruled_at=now
            )
    except IntegrityError:
        raise ClaimDecided("This claim is decided already.", field="claim") from None
    if quantity:
        record_claimed(contract_id=contract.pk, quantity_tokens=quantity, claim_id=claim.pk, now=now)
        if market.phase == Market.Phase.SETTLED:
            LateUsage.objects.get_or_create(
                contract_id=contract.pk,
                hour=int(market.window_start.timestamp()) // 3600,
                defaults={"since": now},
            )
    return ruling


def _check_left(contract: DeliveryContract, quantity_tokens: int) -> None:
    check_left(
        contract, shortfalls_of([contract.pk]).get(contract.pk, []), quantity_tokens=quantity_tokens,
        delivered_tokens=delivered_tokens([contract.pk]).get(contract.pk, 0),
    )  # fmt: skip
