"""Charges come in, with the transfers that pay them."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from django.db import IntegrityError, transaction

from billing.actions import ledger
from billing.actions.periods import open_months
from billing.domain.charges import ChargeInput, ChargeKind, check, check_paid
from billing.domain.periods import booked_month
from billing.domain.postings import Posting
from billing.models import Charge, WaitingCharge
from core.errors import Conflict
from core.ids import new_id
from core.transactions import assert_in_transaction
from identity.models import Organization


class ChargeChanged(Conflict):
    """The charge exists and says something else. A later truth is a new revision with the difference."""

    code = "charge-changed"


def push_charges(charges: Sequence[ChargeInput], postings: Sequence[Posting], *, now: datetime) -> list[UUID]:
    """
    Store charges and book the transfers that pay them, all or none; return the charges' ids in order.

    Called last in its transaction, for it ends with the ledger's locks. Pushing the same again changes nothing.

    :raises ChargeChanged: a source key and revision that exists with another content.
    :raises InvalidCharge: amounts that do not add up: a defect of the caller.
    :raises InsufficientFunds: from the ledger.
    """
    assert_in_transaction()
    for charge in charges:
        check(charge)
    check_paid(charges, postings)
    try:
        with transaction.atomic():
            ids = _store(charges, now)
    except IntegrityError:  # another worker pushed the same at the same time, and has committed now
        ids = _store(charges, now)
    ledger.post_all(postings, now=now)
    return ids


def _store(charges: Sequence[ChargeInput], now: datetime) -> list[UUID]:
    known = {
        (row.source_key, row.revision): row
        for row in Charge.objects.filter(source_key__in={charge.source_key for charge in charges})
    }
    rates = dict(Organization.objects.filter(
        id__in={id_ for charge in charges for id_ in (charge.buyer_id, charge.provider_id)}
    ).values_list("id", "vat_rate_thousandths"))
    last_closed = open_months()  # from here to the commit no month is closed
    ids: list[UUID] = []
    fresh: list[Charge] = []
    for charge in charges:
        row = known.get((charge.source_key, charge.revision))
        if row is None:
            row = _row(charge, rates, last_closed, now)
            fresh.append(row)
        elif _content(row) != _content(_row(charge, rates, last_closed, now)):
            raise ChargeChanged(
                f"“{charge.source_key}” revision {charge.revision} is charged already, with other figures."
                " Push the difference as the next revision.")
        ids.append(row.id)
    Charge.objects.bulk_create(fresh)
    WaitingCharge.objects.bulk_create([
        WaitingCharge(charge=row, organization_id=organization_id, side=side)
        for row in fresh for side, organization_id in (("buyer", row.buyer_id), ("provider", row.provider_id))
        if side in ChargeKind(row.kind).sides])
    return ids


def _row(charge: ChargeInput, rates: dict[int, int], last_closed: date | None, now: datetime) -> Charge:
    fields = charge._asdict() | {
        "kind": charge.kind.value, "refers_to": charge.refers_to or "", "occurred_start": charge.occurred.start,
        "occurred_end": charge.occurred.end}
    del fields["occurred"]
    taxed = charge.kind.is_taxed
    return Charge(
        id=new_id(), charged_at=now, booked_month=booked_month(charge.occurred, last_closed=last_closed),
        vat_thousandths=rates[charge.buyer_id] if taxed else 0,
        provider_vat_thousandths=rates[charge.provider_id] if taxed else 0, **fields)


# A rate that was changed between two pushes does not make the second one another charge: the first one's stands.
_NOT_CONTENT = {"id", "charged_at", "booked_month", "vat_thousandths", "provider_vat_thousandths"}


def _content(row: Charge) -> dict[str, object]:
    return {field.attname: getattr(row, field.attname) for field in Charge._meta.concrete_fields
            if field.attname not in _NOT_CONTENT}
