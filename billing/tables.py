"""The columns of billing's tables: what they are called, what sorts and narrows them, what they export."""

from typing import Any

from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from billing.ledger_words import ACCOUNTS
from billing.models import Invoice, InvoiceState
from core.listing import Column, Filter, Table
from core.money import format_yuan

#: The accounts by which an organization narrows its own transfers.
OWN_ACCOUNTS = ("available", "receivable", "payable", "bond", "gift", "bundle")


def documents_table(side: str) -> Table:
    """Return the table of invoices or settlement statements; rows are of `queries.invoices_readable`."""

    def yuan(field: str) -> Any:
        return lambda row: format_yuan(getattr(row, field))

    return Table(
        name="invoices" if side == "buyer" else "statements",
        columns={
            "number": Column(_("Number"), lambda row: row.number, "number"),
            "kind": Column("", lambda row: row.kind),
            "organization": Column(_("Organization"), lambda row: row.organization.name, left=True),
            "period": Column(_("Period"), lambda row: row.period_start, "period_start", left=True),
            "period_end": Column("", lambda row: row.period_end),
            "net": Column(_("Net"), yuan("net_micro"), "net_micro"),
            "tax": Column(_("VAT"), yuan("tax_micro"), "tax_micro"),
            "total": Column(_("Total"), yuan("total_micro"), "total_micro"),
            "due": Column(_("Due"), yuan("due_micro"), "due_micro"),
            "due_on": Column("", lambda row: row.due_on),
            "paid": Column("", yuan("paid_micro")),
            "state": Column(_("State"), lambda row: row.state, "state", left=True),
            "issued": Column(_("Issued"), lambda row: row.issued_at, "issued_at"),
        },
        filters={
            "state": Filter(_("State"), InvoiceState.State.choices, lambda value: Q(state=value)),
            "kind": Filter(_("Kind"), Invoice.Kind.choices, lambda value: Q(kind=value)),
        },
        time="issued_at",
    )


#: Rows are (Transfer, signed amount in micro-yuan).
TRANSFERS = Table(
    name="transfers",
    columns={
        "id": Column("", lambda row: row[0].pk),
        "time": Column(_("Time"), lambda row: row[0].booked_at, "booked_at"),
        "what": Column(_("What"), lambda row: row[0].kind, left=True),
        "stage": Column("", lambda row: row[0].get_stage_display()),
        "label": Column("", lambda row: row[0].label),
        "from": Column(_("From account"), lambda row: row[0].debit.kind, left=True),
        "from_scope": Column("", lambda row: row[0].debit.scope),
        "to": Column(_("To account"), lambda row: row[0].credit.kind, left=True),
        "to_scope": Column("", lambda row: row[0].credit.scope),
        "amount": Column(_("Amount"), lambda row: format_yuan(row[1], places=6), "amount_micro"),
    },
    filters={
        "account": Filter(
            _("Account"), [(kind, ACCOUNTS[kind]) for kind in OWN_ACCOUNTS],
            lambda value: Q(debit__kind=value) | Q(credit__kind=value),
        ),
    },
    time="booked_at",
    default=("-booked_at", "-pk"),
)  # fmt: skip
