"""What people do about a discrepancy: say something, attach something, decide."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from django.db.models import Sum

from core.errors import BadRequest, Conflict
from core.transactions import assert_in_transaction
from exchange.models import DeliveryContract, Market
from identity.access import Actor
from identity.actions import audit
from metering_ingest.actions.reconciliation import announce
from metering_ingest.actions.settlement import NotDueYet, settle_contract
from metering_ingest.domain import reconciliation as rule
from metering_ingest.models import Discrepancy, DiscrepancyEntry, Meter, UsageRollup
from metering_ingest.models.reconciliation import MAX_ATTACHMENT_BYTES


class NothingSaid(BadRequest):
    """A comment needs words or a file."""

    code = "nothing-said"


class AttachmentTooLarge(BadRequest):
    """A file beyond what is kept."""

    code = "attachment-too-large"


class AlreadyClosed(Conflict):
    """The discrepancy is not open."""

    code = "discrepancy-closed"


class BeyondReport(BadRequest):
    """More was accepted than the provider reported, or less than nothing."""

    code = "accepted-out-of-range"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file as it was sent."""

    name: str
    media_type: str
    content: bytes


def comment(
    *, discrepancy: Discrepancy, text: str, attachment: Attachment | None, actor: Actor, now: datetime
) -> DiscrepancyEntry:
    """
    Add words or a file, by either side or the operator, also after the decision.

    :raises NothingSaid: neither.
    :raises AttachmentTooLarge: more than 1 MiB.
    """
    assert_in_transaction()
    if not text.strip() and attachment is None:
        raise NothingSaid("Write something, or attach a file.", field="text")
    if attachment is not None and len(attachment.content) > MAX_ATTACHMENT_BYTES:
        raise AttachmentTooLarge("A file may have up to 1 MiB.", field="attachment")
    entry = DiscrepancyEntry.objects.create(
        discrepancy=discrepancy, kind=DiscrepancyEntry.Kind.COMMENT, at=now, organization=actor.organization,
        user_id=actor.user_id, text=text,
        attachment_name=attachment.name if attachment else "",
        attachment_type=attachment.media_type if attachment else "",
        attachment_sha256=sha256(attachment.content).hexdigest() if attachment else "",
        attachment=attachment.content if attachment else None,
    )  # fmt: skip
    announce(discrepancy, discrepancy.contract, DiscrepancyEntry.Kind.COMMENT, now)
    return entry


def decide(*, discrepancy_id: int, accepted_quantity: int, reason: str, actor: Actor, now: datetime) -> Discrepancy:
    """
    Accept so many tokens of the provider's count; the rest is denied for good.

    Of a period that was settled the difference is posted at once; billing's sweep issues the credit or debit notes
    that it makes, in the organizations' cycles.

    :raises AlreadyClosed: it is not open.
    :raises BeyondReport: fewer than 0 or more than the provider reported.
    """
    assert_in_transaction()
    contract = DeliveryContract.objects.get(discrepancies=discrepancy_id)
    # In the order of settlement: the market or the list contract first.
    if contract.market_id is not None:
        Market.objects.select_for_update(no_key=True).get(pk=contract.market_id)
    else:
        DeliveryContract.objects.select_for_update(no_key=True).get(pk=contract.pk)
    row = Discrepancy.objects.select_for_update().get(pk=discrepancy_id)
    if row.state != Discrepancy.State.OPEN:
        raise AlreadyClosed("This discrepancy is not open: it was decided, or the meters agree meanwhile.")
    if not 0 <= accepted_quantity <= row.provider_quantity:
        raise BeyondReport(
            f"Accept from 0 to {row.provider_quantity:,} tokens, what the provider reported. More is not billed unless "
            "the provider reports it.",
            field="accepted_quantity",
        )
    _record(row, accepted_quantity, now)
    DiscrepancyEntry.objects.create(
        discrepancy=row, kind=DiscrepancyEntry.Kind.DECIDED, at=now, organization=actor.organization,
        user_id=actor.user_id, text=reason,
        evidence={"accepted": accepted_quantity, "denied_work_micro_st": row.denied_work_micro_st},
    )  # fmt: skip
    audit.record(
        actor=actor, verb="discrepancy.decide", subject=f"discrepancy:{row.pk}", now=now,
        after={"accepted_quantity": accepted_quantity, "reason": reason},
    )  # fmt: skip
    announce(row, contract, DiscrepancyEntry.Kind.DECIDED, now)
    with suppress(NotDueYet):  # then its first settlement is still to come and counts the decision
        settle_contract(contract_id=contract.pk, at=row.hour, now=now)
    return row


def _record(row: Discrepancy, accepted_quantity: int, now: datetime) -> None:
    """Turn what was held into what is denied, in proportion to the provider's work of the hour."""
    works = _works(row)
    denied = rule.work_of(
        row.provider_quantity - accepted_quantity, of_tokens=row.provider_quantity, work_micro_st=sum(works.values())
    )
    row.state, row.accepted_quantity, row.changed_at = Discrepancy.State.DECIDED, accepted_quantity, now
    row.held_work_micro_st, row.denied_work_micro_st = 0, denied
    row.by_deployment = {str(d): work for d, work in rule.split_by_deployment(denied, works).items()}
    row.save()


def _works(row: Discrepancy) -> dict[int, int]:
    """What the provider's meters count of the hour and class now, in work by deployment."""
    meters = Meter.objects.filter(organization=row.contract.provider_id, role=Meter.Role.PROVIDER)
    rows = (
        UsageRollup.objects.filter(
            meter_id__in=list(meters.values_list("pk", flat=True)), contract_id=row.contract_id, hour=row.hour,
            token_class__in=rule.CODES_OF[row.token_class],
        )
        .values_list("deployment_id")
        .annotate(work=Sum("work_micro_st"))
    )  # fmt: skip
    return {deployment: work for deployment, work in rows if work}
