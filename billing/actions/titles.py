"""Titles of tax invoices (发票抬头): added, removed, never changed."""

from datetime import datetime

from django.db import IntegrityError, transaction

from billing.actions.red_invoices import TaxInvoiceNotFound
from billing.domain.tax_invoices import is_tax_number
from billing.models import InvoiceTitle, TaxInvoiceKind
from core.errors import BadRequest, Conflict
from core.transactions import assert_in_transaction
from identity.access import Actor
from identity.actions import audit
from identity.models import Organization


class BadTitle(BadRequest):
    """A tax number that cannot be one, or a special monthly kind without one."""

    code = "bad-invoice-title"


class MonthlyTitleExists(Conflict):
    """Another title is the one that tax invoices are asked for by month."""

    code = "invoice-title-monthly"


def add_title(
    *, organization: Organization, name: str, now: datetime, actor: Actor | None, tax_number: str = "",
    address: str = "", phone: str = "", bank_name: str = "", bank_account: str = "", email: str = "",
    monthly_kind: str = "",
) -> InvoiceTitle:
    """
    Add a title. With a `monthly_kind` a tax invoice of that kind is asked for by itself after each month.

    :raises BadTitle: a tax number that cannot be one; `81` without one.
    :raises MonthlyTitleExists: another title is monthly; remove that first.
    """
    assert_in_transaction()
    tax_number = tax_number.strip().upper()
    if tax_number and not is_tax_number(tax_number):
        raise BadTitle("This is no taxpayer's number: 18 characters with a check character, or 15, 17 or 20 of the"
                       " older kinds.", field="tax_number")  # fmt: skip
    if monthly_kind == TaxInvoiceKind.SPECIAL and not tax_number:
        raise BadTitle("A special tax invoice (81) needs a tax number.", field="tax_number")
    try:
        with transaction.atomic():
            row = InvoiceTitle.objects.create(
                organization=organization, name=name.strip(), tax_number=tax_number, address=address.strip(),
                phone=phone.strip(), bank_name=bank_name.strip(), bank_account=bank_account.strip(),
                email=email.strip(), monthly_kind=monthly_kind, created_at=now,
            )  # fmt: skip
    except IntegrityError:
        raise MonthlyTitleExists("Another title is asked for by month already; remove it first.",
                                 field="monthly_kind") from None  # fmt: skip
    audit.record(actor=actor, verb="invoice-title.add", subject=f"invoice-title:{row.pk}", now=now,
                 after={"organization": organization.pk, "name": row.name})  # fmt: skip
    return row


def remove_title(*, title_id: int, organization_id: int | None, now: datetime, actor: Actor | None) -> InvoiceTitle:
    """
    Use a title no more. Again, it changes nothing.

    :raises TaxInvoiceNotFound: no such title (of that organization, where one is named).
    """
    assert_in_transaction()
    rows = InvoiceTitle.objects.select_for_update(no_key=True).filter(pk=title_id)
    row = (rows if organization_id is None else rows.filter(organization_id=organization_id)).first()
    if row is None:
        raise TaxInvoiceNotFound("There is no title with that id.")
    if row.removed_at is None:
        row.removed_at = now
        row.save(update_fields=["removed_at"])
        audit.record(actor=actor, verb="invoice-title.remove", subject=f"invoice-title:{row.pk}", now=now)
    return row
