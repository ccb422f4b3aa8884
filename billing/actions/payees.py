"""Whom we pay, and on which paper: bank accounts of organizations, and providers' tax invoices."""

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, NamedTuple

from django.db import IntegrityError, transaction

from billing.domain.matching import plain_name
from billing.models import BankAccount, Invoice, SupplierInvoice
from billing.queries import profile
from core.errors import BadRequest, Conflict, NotFound
from core.money import format_yuan
from core.transactions import assert_in_transaction
from identity.access import Actor
from identity.actions import audit
from identity.models import Organization

TAX_INVOICE_NUMBER = re.compile(r"\d{20}")


class BadBankAccount(BadRequest):
    """An account that cannot be."""

    code = "bad-bank-account"


class BankAccountKnown(Conflict):
    """The organization has that account already."""

    code = "bank-account-known"


class BankAccountNotFound(NotFound):
    """No such account."""

    code = "bank-account-not-found"


class BadTaxInvoice(BadRequest):
    """What is given is no tax invoice."""

    code = "bad-tax-invoice"


class TaxInvoiceUsed(Conflict):
    """The statement has its tax invoice, or the number stands on another statement."""

    code = "tax-invoice-used"


class InvoiceGiven(NamedTuple):
    """A tax invoice as the provider enters it. Amounts include tax, in micro-yuan."""

    number: str
    issued_on: date
    seller_name: str
    seller_tax_number: str
    buyer_name: str
    buyer_tax_number: str
    total_micro: int
    tax_micro: int
    document: bytes = b""


def add_bank_account(
    *, organization: Organization, holder: str, number: str, bank: str, now: datetime, actor: Actor
) -> BankAccount:
    """
    Name an account to be paid to. It serves once the operator has verified it.

    :raises BadBankAccount: the holder is not the organization by its registered name, or the number is none.
    :raises BankAccountKnown: it is there already.
    """
    assert_in_transaction()
    number = number.replace(" ", "").replace("-", "")
    if not re.fullmatch(r"[0-9A-Z]{6,34}", number):
        raise BadBankAccount("An account number has 6 to 34 digits or capital letters.", field="number")
    names = {plain_name(name) for name in (
        profile(organization.pk).legal_name, organization.name_zh, organization.name) if name}  # fmt: skip
    if plain_name(holder) not in names:
        raise BadBankAccount("The holder must be the organization itself, by its registered name.", field="holder")
    try:
        with transaction.atomic():
            account = BankAccount.objects.create(
                organization=organization, holder=holder.strip(), number=number, bank=bank.strip(), created_at=now
            )
    except IntegrityError:
        raise BankAccountKnown("The organization has this account already.", field="number") from None
    audit.record(actor=actor, verb="bank-account.add", subject=f"bank-account:{account.pk}", now=now,
                 after={"organization": organization.pk, "number": f"…{number[-4:]}"})  # fmt: skip
    return account


def verify_bank_account(*, account_id: int, now: datetime, actor: Actor) -> BankAccount:
    """
    Say that an account is the organization's: payouts go there from now on. Again, it changes nothing.

    :raises BankAccountNotFound: no such account that is open.
    """
    assert_in_transaction()
    account = BankAccount.objects.select_for_update(no_key=True).filter(pk=account_id, closed_at=None).first()
    if account is None:
        raise BankAccountNotFound("There is no open bank account with that id.")
    if account.verified_at is None:
        account.verified_at = now
        account.save(update_fields=["verified_at"])
        audit.record(actor=actor, verb="bank-account.verify", subject=f"bank-account:{account.pk}", now=now)
    return account


def close_bank_account(*, account_id: int, organization_id: int | None, now: datetime, actor: Actor) -> BankAccount:
    """
    Use an account no more. Again, it changes nothing.

    :raises BankAccountNotFound: no such account (of that organization, where one is named).
    """
    assert_in_transaction()
    rows = BankAccount.objects.select_for_update(no_key=True).filter(pk=account_id)
    account = (rows if organization_id is None else rows.filter(organization_id=organization_id)).first()
    if account is None:
        raise BankAccountNotFound("There is no bank account with that id.")
    if account.closed_at is None:
        account.closed_at, account.closed_reason = now, "taken away"
        account.save(update_fields=["closed_at", "closed_reason"])
        audit.record(actor=actor, verb="bank-account.close", subject=f"bank-account:{account.pk}", now=now)
    return account


def upload_tax_invoice(*, statement: Invoice, given: InvoiceGiven, now: datetime) -> SupplierInvoice:
    """
    Record a provider's tax invoice for a settlement statement. `differences` of the answer names what does not match;
    where it is empty, the statement may be paid out. The same number and figures again return the first one's row.

    :raises BadTaxInvoice: a number that is not of 20 digits, amounts below zero.
    :raises TaxInvoiceUsed: the statement has a matching one already, or the number matched another statement.
    """
    assert_in_transaction()
    if not TAX_INVOICE_NUMBER.fullmatch(given.number):
        raise BadTaxInvoice("A tax invoice's number has 20 digits.", field="number")
    if given.total_micro <= 0 or given.tax_micro < 0:
        raise BadTaxInvoice("A tax invoice's total is above zero and its tax not below.", field="total")
    fields: dict[str, Any] = given._asdict()
    same = SupplierInvoice.objects.filter(statement=statement, **fields).first()
    if same is not None:
        return same
    try:
        with transaction.atomic():
            return SupplierInvoice.objects.create(
                statement=statement, differences=differences(statement, given), uploaded_at=now, **fields
            )
    except IntegrityError:
        raise TaxInvoiceUsed(
            "This statement has its tax invoice already, or this number stands on another statement.", field="number"
        ) from None


def differences(statement: Invoice, given: InvoiceGiven) -> list[dict[str, str]]:
    """Return where a tax invoice differs from its statement: the field, what is expected and what is given."""
    seller, buyer = statement.customer, statement.issuer  # a provider sells to the operator
    pairs: list[tuple[str, str, str, Callable[[str], str]]] = [
        ("seller_name", seller["legal_name"], given.seller_name, plain_name),
        ("seller_tax_number", seller["tax_number"], given.seller_tax_number, str.upper),
        ("buyer_name", buyer["legal_name"], given.buyer_name, plain_name),
        ("buyer_tax_number", buyer["tax_number"], given.buyer_tax_number, str.upper),
        ("total", format_yuan(statement.total_micro), format_yuan(given.total_micro), str),
        ("tax", format_yuan(statement.tax_micro), format_yuan(given.tax_micro), str),
    ]
    return [{"field": field, "expected": expected, "found": found}
            for field, expected, found, plain in pairs if plain(expected) != plain(found)]  # fmt: skip
