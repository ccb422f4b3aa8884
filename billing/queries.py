"""Named reads of the ledger."""

from typing import TYPE_CHECKING, NamedTuple, TypedDict
from uuid import UUID

from django.db.models import F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from billing.domain.accounts import AccountKind, AccountRef, available
from billing.domain.charges import PROVIDER_ONLY
from billing.domain.postings import Stage
from billing.models import (
    Account,
    BillingProfile,
    Charge,
    Dispute,
    Invoice,
    InvoicePayment,
    InvoiceState,
    SettledScope,
    Transfer,
    WaitingCharge,
)
from identity.models import Organization

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations


class AccountBalance(NamedTuple):
    """What stands on an account: credits − debits, and what holds have put aside of it."""

    posted_micro: int
    held_micro: int

    @property
    def free_micro(self) -> int:
        """Return what could be spent now."""
        return self.posted_micro - self.held_micro


class OrganizationBalance(NamedTuple):
    """An organization's money, all in micro-yuan and all zero or more."""

    available_micro: int  # free to spend
    held_micro: int       # put aside for open orders and bonds
    payable_micro: int    # proceeds not paid out yet
    receivable_micro: int  # what it owes
    bond_micro: int       # security taken for delivery
    gift_micro: int       # credit granted to it


def account_balance(ref: AccountRef) -> AccountBalance:
    """Return an account's balance; zeros for one that was never used."""
    owner = Q(organization_id=ref.organization_id) if ref.organization_id else Q(organization=None)
    row = Account.objects.filter(owner, kind=ref.kind.value, scope=ref.scope).values_list(
        "posted_micro", "held_micro").first()
    return AccountBalance(*row) if row else AccountBalance(0, 0)


def available_micro(organization_id: int) -> int:
    """Return what an organization may spend now."""
    return account_balance(available(organization_id)).free_micro


def spendable_micro(organization_id: int, *, credit_limit_micro: int) -> int:
    """Return what it may spend with its credit: free money, and the part of its limit that it does not owe yet."""
    now = balance(organization_id)
    return now.available_micro + max(credit_limit_micro - now.receivable_micro, 0)


def balance(organization_id: int) -> OrganizationBalance:
    """Return an organization's balances, those of all markets together."""
    sums: dict[str, tuple[int, int]] = {
        kind: (int(posted), int(held)) for kind, posted, held in
        Account.objects.filter(organization_id=organization_id).values_list("kind").annotate(
            Sum("posted_micro"), Sum("held_micro")).order_by()
    }

    def posted(kind: AccountKind) -> int:
        return sums.get(kind.value, (0, 0))[0]

    total, held = sums.get(AccountKind.AVAILABLE.value, (0, 0))
    return OrganizationBalance(
        available_micro=total - held, held_micro=held, payable_micro=posted(AccountKind.PAYABLE),
        receivable_micro=-posted(AccountKind.RECEIVABLE), bond_micro=posted(AccountKind.BOND),
        gift_micro=posted(AccountKind.GIFT))


def hold_open_micro(pending_id: UUID) -> int:
    """
    Return what is left of a hold, from its transfers; 0 for none. For audit and support: it reads block ranges,
    where the one who holds knows what is left from its own rows.
    """
    held = Transfer.objects.filter(id=pending_id, stage=Stage.PENDING).values_list("amount_micro", flat=True).first()
    if held is None:
        return 0
    used = Transfer.objects.filter(pending_id=pending_id).aggregate(used=Sum(F("amount_micro") + F("excess_micro")))
    left: int = held - (used["used"] or 0)
    return left


def transfers_of(organization_id: int) -> "QuerySet[Transfer]":
    """Return the transfers that touch an organization's accounts."""
    accounts = list(Account.objects.filter(organization_id=organization_id).values_list("id", flat=True))
    return Transfer.objects.select_related("debit", "credit").filter(Q(debit__in=accounts) | Q(credit__in=accounts))


def charges_of(organization_id: int) -> "QuerySet[Charge]":
    """Return what was charged to an organization or earned by it; not what only concerns its provider."""
    bought = Q(buyer_id=organization_id) & ~Q(kind__in=[kind.value for kind in PROVIDER_ONLY])
    return Charge.objects.filter(bought | Q(provider_id=organization_id))


def fee_thousandths(provider_id: int) -> int:
    """Return the platform's fee on a provider's proceeds, VAT included, in thousandths."""
    return profile(provider_id).fee_thousandths


def profile(organization_id: int) -> BillingProfile:
    """Return how an organization is billed; defaults, unsaved, for one without a profile."""
    found = BillingProfile.objects.filter(organization_id=organization_id).first()
    return found or BillingProfile(organization_id=organization_id)


def organizations_waiting() -> list[int]:
    """Return the organizations that have charges on no document yet."""
    return sorted(WaitingCharge.objects.order_by().values_list("organization_id", flat=True).distinct())


class _Shown(TypedDict):
    state: str
    paid_micro: int
    disputed_micro: int


if TYPE_CHECKING:
    ShownInvoice = WithAnnotations[Invoice, _Shown]
else:
    ShownInvoice = Invoice


def invoices_readable(organizations: "QuerySet[Organization]") -> "QuerySet[ShownInvoice]":
    """
    Return these organizations' documents, each with its present `state`, what of its due is `paid_micro` (a credit that
    settled it counts) and what of it is `disputed_micro`, which is not due while that lasts.
    """
    last = InvoiceState.objects.filter(invoice=OuterRef("pk")).order_by("-id")
    paid = InvoicePayment.objects.filter(invoice=OuterRef("pk")).order_by().values("invoice").annotate(
        total=Sum("amount_micro"))
    disputes = Dispute.objects.filter(invoice=OuterRef("pk")).order_by().values("invoice")
    credited = disputes.annotate(total=Sum("settled_micro"))
    held = disputes.filter(state=Dispute.State.OPEN).annotate(total=Sum("held_micro"))
    return Invoice.objects.filter(organization__in=organizations).annotate(
        state=Subquery(last.values("state")[:1]),
        paid_micro=Coalesce(Subquery(paid.values("total")[:1]), 0)
        + Coalesce(Subquery(credited.values("total")[:1]), 0),
        disputed_micro=Coalesce(Subquery(held.values("total")[:1]), 0))


def open_invoices(organization_id: int) -> "QuerySet[ShownInvoice]":
    """Return an organization's documents of which something is owed, the oldest first."""
    rows = invoices_readable(Organization.objects.filter(pk=organization_id))
    return rows.filter(state=InvoiceState.State.OPEN, due_micro__gt=F("paid_micro")).order_by("due_on", "id")


def open_due_micro(organization_id: int) -> int:
    """Return what is owed on an organization's open documents."""
    return sum(row.due_micro - row.paid_micro for row in open_invoices(organization_id))


def open_disputed_micro(organization_id: int) -> int:
    """Return what of an organization's debts is disputed, and so not due."""
    return sum(row.disputed_micro for row in open_invoices(organization_id))


def scopes_to_sweep() -> list[str]:
    """Return the settled scopes whose collecting accounts a later revision has filled."""
    filled = Account.objects.filter(
        kind__in=[AccountKind.FEE.value, AccountKind.VAT.value, AccountKind.ROUNDING.value],
        scope__in=SettledScope.objects.values("scope")).exclude(posted_micro=0)
    return sorted(filled.order_by().values_list("scope", flat=True).distinct())
