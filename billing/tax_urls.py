"""Addresses of tax invoices."""

from django.urls import path

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
]
