"""Addresses of billing."""

from django.urls import URLPattern, path, register_converter

from billing import views
from billing.api import charges, exports, invoices, journal, ledger
from core.api.converters import DayConverter

register_converter(DayConverter, "isodate")


def documents(name: str, side: str) -> list[URLPattern]:
    """Return the addresses of one side's documents."""
    detail = f"{name}/<int:invoice_id>"
    return [
        path(name, invoices.Documents.as_view(side=side)),
        path(detail, invoices.DocumentDetail.as_view(side=side)),
        path(f"{detail}.pdf", invoices.DocumentPdf.as_view(side=side)),
        path(f"{detail}.csv", invoices.DocumentCsv.as_view(side=side)),
        path(f"{detail}/charges", invoices.DocumentCharges.as_view(side=side)),
        path(f"{detail}/charges.csv", invoices.DocumentChargesCsv.as_view(side=side)),
    ]


api_urlpatterns = [
    path("balance", ledger.Balance.as_view()),
    path("transfers", ledger.Transfers.as_view()),
    path("deposits", ledger.Deposits.as_view()),
    path("charges", charges.Charges.as_view()),
    path("exports/focus.csv", exports.FocusCsv.as_view()),
    path("exports/focus.parquet", exports.FocusParquet.as_view()),
    path("journal", journal.Journal.as_view()),
    path("journal/<isodate:day>.csv", journal.JournalDay.as_view()),
    path("trial-balance", journal.TrialBalance.as_view()),
    path("trial-balance.csv", journal.TrialBalanceCsv.as_view()),
    path("account-statement", journal.Statement.as_view()),
    path("account-statement.csv", journal.StatementCsv.as_view()),
    *documents("invoices", "buyer"),
    *documents("statements", "provider"),
]

urlpatterns = [
    path(".well-known/ciyuan-journal.json", journal.JournalKeys.as_view()),
    path("invoices", views.invoices, name="invoices"),
    path("invoices/<int:document_id>", views.invoice, name="invoice"),
    path("invoices/<int:document_id>.pdf", views.invoice_file, {"suffix": "pdf"}, name="invoice-pdf"),
    path("invoices/<int:document_id>.csv", views.invoice_file, {"suffix": "csv"}, name="invoice-csv"),
    path("statements", views.statements, name="statements"),
    path("statements/<int:document_id>", views.statement, name="statement"),
    path("statements/<int:document_id>.pdf", views.statement_file, {"suffix": "pdf"}, name="statement-pdf"),
    path("statements/<int:document_id>.csv", views.statement_file, {"suffix": "csv"}, name="statement-csv"),
    path("account", views.account, name="account"),
]
