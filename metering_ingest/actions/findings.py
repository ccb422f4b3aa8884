"""
What the evidence of a market shows is found after its window, stands unless a side objects, and is decided once.

Undelivered minutes become a claim in the buyer's name, which the existing settlement refunds with the penalty; late
hours make what was used in them cheaper. `domain/service.py` says what counts as failed and late.
"""

from datetime import datetime, timedelta
from typing import Any

from core.errors import Conflict, NotFound
from core.transactions import assert_in_transaction
from exchange.actions.shortfalls import MoreThanUndelivered
from exchange.contract_queries import shortfalls_of
from exchange.models import ContractDeployment, DeliveryContract, Market
from identity.actions import events
from identity.models import Organization
from metering_ingest import queries, service_queries
from metering_ingest.actions.claims import SettlementFinal, make_claim, rule_on_claim
from metering_ingest.domain.service import failed, late, minutes_of, two_of_three
from metering_ingest.models import FindingObjection, FindingRuling, LateUsage, ServiceFinding, ServiceReview

#: Parts of the grace: evidence is looked at after the first, and stands after the second unless a side objects.
REVIEWED_AFTER, STANDS_AFTER = 500, 900
MOST_MINUTES_SHOWN = 2_000


class FindingDecided(Conflict):
    """A finding is decided once."""

    code = "finding-decided"


class AlreadyObjected(Conflict):
    """Each side objects once."""

    code = "already-objected"


def review_market(*, market_id: int, now: datetime) -> int:
    """
    Look at the evidence of a market whose window is over; returns how many findings it makes. A second call does
    nothing.
    """
    assert_in_transaction()
    market = Market.objects.select_for_update(no_key=True, of=("self",)).select_related("grade").get(pk=market_id)
    if ServiceReview.objects.filter(market=market).exists() or now < market.window_end:
        return 0
    ServiceReview.objects.create(market=market, reviewed_at=now)
    stands = market.window_end + timedelta(seconds=market.grade.grace_seconds) * STANDS_AFTER / 1_000
    rows = ContractDeployment.objects.filter(contract__market=market).select_related(
        "contract__buyer", "contract__provider"
    )
    found = [_look(served, market, now=now, stands=max(stands, now)) for served in rows.order_by("contract_id", "pk")]
    return sum(one is not None for one in found)


def _look(served: ContractDeployment, market: Market, *, now: datetime, stands: datetime) -> ServiceFinding | None:
    contract, grade = served.contract, market.grade
    if ServiceFinding.objects.filter(contract=contract, deployment=served.deployment_id).exists():
        return None  # it served in two stretches: the first row has spoken for the deployment
    start, end = max(served.since, market.window_start), min(served.until or market.window_end, market.window_end)
    evidence = service_queries.evidence(contract.pk, served.deployment_id, start, end, grade=grade)
    share = grade.error_share_thousandths
    minutes: list[dict[str, Any]] = []
    if share is not None:
        for minute in minutes_of(start, end):
            sides = {
                "gateway": failed(evidence.gateway.get(minute), error_share_thousandths=share),
                "guard": True if evidence.silent(minute) else failed(
                    evidence.guard.get(minute), error_share_thousandths=share
                ),
                "probe": evidence.probe_failed(minute),
            }  # fmt: skip
            if two_of_three(sides.values()):
                minutes.append({"minute": minute.isoformat(), **sides})
    late_hours, late_work = _late_hours(evidence, contract, served)
    quantity = _undelivered(contract, served, len(minutes))
    if not quantity and not late_work:
        return None
    claim = None
    if quantity:
        try:
            claim = make_claim(
                contract_id=contract.pk, buyer_id=contract.buyer_id,
                request_ids=[f"service:{served.deployment_id}"], quantity_tokens=quantity,
                note=f"Found by evidence: {len(minutes)} minutes of deployment {served.deployment_id} not delivered.",
                now=now,
            )  # fmt: skip
        except MoreThanUndelivered:
            quantity = 0
    if not quantity and not late_work:
        return None
    finding = ServiceFinding.objects.create(
        contract=contract, deployment_id=served.deployment_id, minutes=minutes[:MOST_MINUTES_SHOWN],
        quantity_tokens=quantity, late_hours=late_hours, late_work_micro_st=late_work, found_at=now,
        decided_from=stands, claim=claim,
    )  # fmt: skip
    _tell(finding, "service.found", now, minutes=len(minutes), late_hours=len(late_hours), stands_from=stands)
    return finding


def _late_hours(
    evidence: service_queries.Evidence, contract: DeliveryContract, served: ContractDeployment
) -> tuple[list[dict[str, Any]], int]:
    hours: list[dict[str, Any]] = []
    for hour, (gateway, guard, probe) in evidence.by_hour().items():
        sides = {"gateway": late(gateway), "guard": late(guard), "probe": late(probe)}
        if not two_of_three(sides.values()):
            continue
        if work := service_queries.work_micro_st(contract.pk, served.deployment_id, hour):
            hours.append({"hour": hour.isoformat(), **sides, "work_micro_st": work})
    return hours, sum(hour["work_micro_st"] for hour in hours)


def _undelivered(contract: DeliveryContract, served: ContractDeployment, minutes: int) -> int:
    """Standard tokens of so many minutes at the deployment's part of the contract's rate, at most what is left."""
    rate = contract.rate_tokens_per_minute * served.quantity_tokens
    return max(0, min(rate * minutes // contract.quantity_tokens, _left(contract)))


def _left(contract: DeliveryContract) -> int:
    reported = sum(one.quantity_tokens for one in shortfalls_of([contract.pk]).get(contract.pk, []))
    delivered = queries.delivered_tokens([contract.pk]).get(contract.pk, 0)
    open_claims = sum(
        contract.claims.filter(ruling__isnull=True).values_list("quantity_tokens", flat=True)
    )
    return contract.quantity_tokens - reported - delivered - open_claims


def object_to(*, finding_id: int, by: Organization, note: str, now: datetime) -> FindingObjection:
    """
    Dispute a finding as its buyer or provider: it no longer stands by itself, and the operator decides.

    :raises NotFound: there is no such finding of this organization.
    :raises FindingDecided: too late. :raises AlreadyObjected: this side has.
    """
    assert_in_transaction()
    finding = _locked(finding_id)
    if by.pk not in (finding.contract.buyer_id, finding.contract.provider_id):
        raise NotFound("There is no such finding.", field="finding")
    if FindingRuling.objects.filter(finding=finding).exists():
        raise FindingDecided("This finding is decided already.", field="finding")
    if FindingObjection.objects.filter(finding=finding, by=by).exists():
        raise AlreadyObjected("You have objected to this finding already.", field="finding")
    objection = FindingObjection.objects.create(finding=finding, by=by, note=note, made_at=now)
    _tell(finding, "service.disputed", now, by=by.pk, note=note)
    return objection


def rule_on_finding(
    *, finding_id: int, operator: Organization | None, upheld: bool, note: str, now: datetime
) -> FindingRuling:
    """
    Decide a finding with its claim; without an operator it stands because nobody objected.

    :raises NotFound: there is no such finding.
    :raises FindingDecided, SettlementFinal: it cannot be decided any more.
    """
    assert_in_transaction()
    finding = _locked(finding_id)
    if FindingRuling.objects.filter(finding=finding).exists():
        raise FindingDecided("This finding is decided already.", field="finding")
    market = finding.contract.market
    assert market is not None
    if market.finalized_at is not None:
        raise SettlementFinal("The settlement of this window is final.", field="finding")
    by = operator or Organization.objects.filter(kind=Organization.Kind.OPERATOR).order_by("pk").first()
    assert by is not None
    claim = finding.claim
    if claim is not None and not hasattr(claim, "ruling"):
        # What it claimed itself is not left any more in `_left`.
        quantity = min(claim.quantity_tokens, max(0, _left(finding.contract) + claim.quantity_tokens))
        rule_on_claim(
            claim_id=claim.pk, operator=by, upheld=upheld and quantity > 0,
            quantity_tokens=quantity if upheld and quantity > 0 else None, note=note or "unopposed", now=now,
        )  # fmt: skip
    ruling = FindingRuling.objects.create(
        finding=finding, verdict=FindingRuling.Verdict.UPHELD if upheld else FindingRuling.Verdict.REJECTED,
        by=operator, note=note, ruled_at=now,
    )  # fmt: skip
    if upheld and finding.late_work_micro_st and market.phase == Market.Phase.SETTLED:
        LateUsage.objects.get_or_create(
            contract_id=finding.contract_id, hour=int(market.window_start.timestamp()) // 3600, defaults={"since": now}
        )
    _tell(finding, "service.decided", now, verdict=ruling.verdict)
    return ruling


def _locked(finding_id: int) -> ServiceFinding:
    rows = ServiceFinding.objects.select_related("contract__market", "claim")
    finding = rows.filter(pk=finding_id).first()
    if finding is None:
        raise NotFound("There is no such finding.", field="finding")
    assert finding.contract.market_id is not None
    Market.objects.select_for_update(no_key=True).get(pk=finding.contract.market_id)
    return finding


def _tell(finding: ServiceFinding, type: str, now: datetime, **more: Any) -> None:
    data = {
        "finding": finding.pk, "contract": finding.contract_id, "deployment": finding.deployment_id,
        "quantity": finding.quantity_tokens,
        **{name: value.isoformat() if isinstance(value, datetime) else value for name, value in more.items()},
    }  # fmt: skip
    contract = finding.contract
    events.emit_all(
        [
            events.Event(party, type, f"{type}:{finding.pk}:{more.get('by', '')}", data)
            for party in (contract.buyer_id, contract.provider_id)
        ],
        now=now,
    )
