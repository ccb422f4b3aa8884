"""Named reads of what is due, disputed and overdue."""

from datetime import date

from django.db.models import F, QuerySet

from billing.models import Dispute, InvoiceState, PaymentHold
from billing.queries import ShownInvoice, invoices_readable
from identity.models import Organization


def disputes_readable(organizations: "QuerySet[Organization]") -> "QuerySet[Dispute]":
    """Return the disputes about these organizations' invoices."""
    return Dispute.objects.filter(invoice__organization__in=organizations).select_related("invoice", "line")


def owed_micro(row: ShownInvoice) -> int:
    """Return what of a document is owed and not disputed."""
    return max(row.due_micro - row.paid_micro - row.disputed_micro, 0)


def owing(organizations: "QuerySet[Organization]") -> "QuerySet[ShownInvoice]":
    """Return these organizations' documents of which something is owed that nobody disputes, oldest due day first."""
    rows = invoices_readable(organizations).filter(state=InvoiceState.State.OPEN, side="buyer")
    return rows.filter(due_micro__gt=F("paid_micro") + F("disputed_micro")).order_by("due_on", "id")


def overdue_micro(organization_id: int, *, due_before: date) -> int:
    """Return what an organization owes on documents whose due day lies before a day."""
    rows = owing(Organization.objects.filter(pk=organization_id)).filter(due_on__lt=due_before)
    return sum(owed_micro(row) for row in rows)


def invoices_to_remind(*, due_by: date) -> list[int]:
    """Return the documents of which something is owed and whose due day is not after a day."""
    return list(owing(Organization.objects.all()).filter(due_on__lte=due_by).values_list("pk", flat=True))


def holds_to_settle(*, due_before: date) -> list[int]:
    """Return the organizations that are held, or have something that old overdue."""
    held = PaymentHold.objects.filter(ended_at=None).values_list("organization_id", flat=True)
    late = owing(Organization.objects.all()).filter(due_on__lt=due_before).values_list("organization_id", flat=True)
    return sorted({*held, *late})


def hold_of(organization_id: int) -> PaymentHold | None:
    """Return the hold that lasts; None for none."""
    return PaymentHold.objects.filter(organization_id=organization_id, ended_at=None).first()
