"""Addresses of tax invoices, disputes, what is due, and closing months."""

from django.urls import path

from billing.api import disputes, periods
from billing.api import tax_invoices as api

_ONE = "tax-invoices/<int:tax_invoice_id>"
api_urlpatterns = [
    path("invoice-titles", api.InvoiceTitles.as_view()),
    path("invoice-titles/<int:title_id>", api.InvoiceTitleDetail.as_view()),
    path("tax-invoices", api.TaxInvoices.as_view()),
    path(_ONE, api.TaxInvoiceDetail.as_view()),
    path(f"{_ONE}.xml", api.TaxInvoiceFile.as_view(form="xml")),
    path(f"{_ONE}.pdf", api.TaxInvoiceFile.as_view(form="pdf")),
    path(f"{_ONE}/cancel", api.TaxInvoiceCancel.as_view()),
    path(f"{_ONE}/number", api.TaxInvoiceNumber.as_view()),
    path(f"{_ONE}/reverse", api.TaxInvoiceReverse.as_view()),
    path(f"{_ONE}/files", api.TaxInvoiceFiles.as_view()),
    path("red-invoices", api.RedInvoices.as_view()),
    path("red-invoices/<int:red_id>/number", api.RedInvoiceNumber.as_view()),
    path("tax-invoice-exports", api.TaxExports.as_view()),
    path("tax-invoice-exports/<int:export_id>.xlsx", api.TaxExportFile.as_view()),
    path("tax-invoice-answers", api.TaxAnswers.as_view()),
    path("invoices/<int:invoice_id>/withdraw", api.InvoiceWithdraw.as_view()),
    path("invoices/<int:invoice_id>/disputes", disputes.InvoiceDisputes.as_view()),
    path("invoices/<int:invoice_id>/write-off", disputes.InvoiceWriteOff.as_view()),
    path("disputes", disputes.Disputes.as_view()),
    path("disputes/<int:dispute_id>", disputes.DisputeDetail.as_view()),
    path("disputes/<int:dispute_id>/decide", disputes.DisputeDecide.as_view()),
    path("disputes/<int:dispute_id>/withdraw", disputes.DisputeWithdraw.as_view()),
    path("receivables", disputes.Receivables.as_view()),
    path("periods", periods.Periods.as_view()),
    path("periods/close", periods.PeriodClosing.as_view()),
    path("finance-reports", periods.FinanceReports.as_view()),
    path("vouchers.csv", periods.Vouchers.as_view()),
    path("chart-of-accounts", periods.Chart.as_view()),
    path("reconciliation-statement", periods.ReconciliationStatement.as_view()),
    path("reconciliation-statement.pdf", periods.ReconciliationPdf.as_view()),
    path("reconciliation-statement.csv", periods.ReconciliationCsv.as_view()),
]
