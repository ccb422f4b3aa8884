"""Named reads of money that goes out, and of what waits for a person."""

from django.db.models import Exists, OuterRef, Q, QuerySet, Sum

from billing.domain.accounts import AccountKind
from billing.domain.payouts import PayoutRules, Standing
from billing.models import (
    Account,
    BankAccount,
    BankLine,
    BankLineBooking,
    Invoice,
    InvoiceLine,
    Payout,
    PayoutBatch,
    PayoutStatement,
    SettledScope,
    StripeCustomer,
    SupplierInvoice,
)
from billing.queries import OrganizationBalance, open_disputed_micro

BookingState = BankLineBooking.State


def supplier_invoices_of(statement: Invoice) -> "QuerySet[SupplierInvoice]":
    """Return the tax invoices uploaded for a statement, the latest first, without their files: `has_file` says so."""
    rows = SupplierInvoice.objects.filter(statement=statement).defer("document")
    return rows.annotate(has_file=~Q(document=b"")).order_by("-pk")


def payout_of(statement: Invoice) -> Payout | None:
    """Return the payout that pays a statement, or has paid it; None where none does."""
    return Payout.objects.filter(statements__statement=statement, statements__counts=True).first()


def is_settled(statement: Invoice) -> bool:
    """Whether every market that a statement has lines of is settled."""
    lines = InvoiceLine.objects.filter(invoice=statement, scope__startswith="market:")
    return not lines.exclude(scope__in=SettledScope.objects.values("scope")).exists()


def payee_account(organization_id: int) -> BankAccount | None:
    """Return the account that an organization is paid to: the one verified last that is not closed."""
    rows = BankAccount.objects.filter(organization_id=organization_id, closed_at=None, verified_at__isnull=False)
    return rows.order_by("-verified_at", "-id").first()


def connect_account(organization_id: int) -> str:
    """Return the account of an organization at the payment service; empty for none."""
    found = StripeCustomer.objects.filter(organization_id=organization_id).values_list("connect_account", flat=True)
    return found.first() or ""


def disputed_micro(organization_id: int) -> int:
    """Return what is held back of a provider's deliveries until a ruling: while it is above zero, payouts wait."""
    rows = Account.objects.filter(organization_id=organization_id, kind=AccountKind.DISPUTE.value)
    return int(rows.aggregate(micro=Sum("posted_micro"))["micro"] or 0)


def statements_to_pay(organization_id: int, needs_tax_invoice: bool) -> tuple[list[Invoice], int]:
    """
    Return a provider's statements and notes that no payout pays and whose markets are all settled, and the sum of those
    left out because they wait for a tax invoice. Credits need none.
    """
    unsettled = InvoiceLine.objects.filter(invoice=OuterRef("pk"), scope__startswith="market:").exclude(
        scope__in=SettledScope.objects.values("scope")
    )
    rows = (
        Invoice.objects.filter(organization_id=organization_id, side="provider")
        .exclude(pk__in=PayoutStatement.objects.filter(counts=True).values("statement"))
        .filter(~Exists(unsettled))
        .annotate(matched=Exists(SupplierInvoice.objects.filter(statement=OuterRef("pk"), differences=[])))
        .order_by("id")
    )
    ready: list[Invoice] = []
    waiting_micro = 0
    for row in rows:
        if needs_tax_invoice and row.total_micro > 0 and not row.matched:
            waiting_micro += row.total_micro
        else:
            ready.append(row)
    return ready, waiting_micro


def standing(organization_id: int, rules: PayoutRules, now: OrganizationBalance) -> Standing:
    """Return the figures by which a payout by bank asked for now would be decided; the asking looks again."""
    statements, waiting_micro = statements_to_pay(organization_id, rules.needs_tax_invoice)
    return Standing(
        statements_micro=sum(row.total_micro for row in statements),
        waiting_invoice_micro=waiting_micro,
        payable_micro=now.payable_micro,
        owed_micro=max(now.receivable_micro - open_disputed_micro(organization_id), 0),
        disputed_micro=disputed_micro(organization_id),
        has_account=payee_account(organization_id) is not None,
    )


def providers_with_payable() -> list[int]:
    """Return the organizations that have something payable and an account to pay it to."""
    rows = Account.objects.filter(kind=AccountKind.PAYABLE.value, posted_micro__gt=0, organization__isnull=False)
    accounts = BankAccount.objects.filter(closed_at=None, verified_at__isnull=False).values("organization")
    ids = rows.filter(organization__in=accounts).order_by("organization_id").values_list("organization_id", flat=True)
    return [id_ for id_ in ids if id_ is not None]


def lines_to_book() -> list[int]:
    """Return the bank lines that are stored and not booked, the oldest first."""
    return list(BankLine.objects.filter(booking=None).order_by("id").values_list("id", flat=True)[:5_000])


def bank_lines(state: str | None = None) -> "QuerySet[BankLine]":
    """Return bank lines with their bookings; of one state, such as `suspense`: the work list."""
    rows = BankLine.objects.select_related("booking", "booking__deposit")
    return rows.filter(booking__state=state) if state else rows


def payouts_of_batch(batch: PayoutBatch) -> "QuerySet[Payout]":
    """Return a batch's payouts in the order of its file."""
    return batch.payouts.order_by("id")
