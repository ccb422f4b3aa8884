"""Addresses of billing."""

from django.urls import URLPattern, path, register_converter

from billing import finance_views, money_views, reconciliation_views, supplier_views, tax_urls, tax_views, views
from billing.api import (
    banking,
    charges,
    credits,
    exports,
    files,
    invoices,
    journal,
    ledger,
    payouts,
    price_books,
    stripe,
)
from core.api.converters import DayConverter, MonthConverter

register_converter(DayConverter, "isodate")
register_converter(MonthConverter, "month")


def documents(name: str, side: str) -> list[URLPattern]:
    """Return the addresses of one side's documents."""
    detail = f"{name}/<int:invoice_id>"
    return [
        path(name, invoices.Documents.as_view(side=side)),
        path(detail, invoices.DocumentDetail.as_view(side=side)),
        path(f"{detail}.pdf", invoices.DocumentPdf.as_view(side=side)),
        path(f"{detail}.csv", invoices.DocumentCsv.as_view(side=side)),
        path(f"{detail}.json", files.DocumentJson.as_view(side=side)),
        path(f"{detail}.xlsx", files.DocumentXlsx.as_view(side=side)),
        path(f"{detail}.parquet", files.DocumentParquet.as_view(side=side)),
        path(f"{detail}/charges", invoices.DocumentCharges.as_view(side=side)),
        path(f"{detail}/charges.csv", invoices.DocumentChargesCsv.as_view(side=side)),
    ]


api_urlpatterns = [
    path("balance", ledger.Balance.as_view()),
    path("transfers", ledger.Transfers.as_view()),
    path("deposits", ledger.Deposits.as_view()),
    path("deposits/<int:deposit_id>/refund", payouts.DepositRefund.as_view()),
    path("stripe/payments", stripe.StripePayments.as_view()),
    path("stripe/payments/<int:payment_id>", stripe.StripePaymentDetail.as_view()),
    path("stripe/top-up", stripe.StripeTopUp.as_view()),
    path("stripe/connect", stripe.StripeConnect.as_view()),
    path("stripe/webhook", stripe.stripe_webhook),
    path("payment-reference", banking.PaymentReference.as_view()),
    path("bank/statements", banking.BankStatements.as_view()),
    path("bank/lines", banking.BankLines.as_view()),
    path("bank/lines/<int:line_id>/resolve", banking.BankLineResolve.as_view()),
    path("bank/lines/<int:line_id>/return", banking.BankLineReturn.as_view()),
    path("bank-accounts", banking.BankAccounts.as_view()),
    path("bank-accounts/<int:account_id>", banking.BankAccountDetail.as_view()),
    path("bank-accounts/<int:account_id>/verify", banking.BankAccountVerify.as_view()),
    path("payouts", payouts.Payouts.as_view()),
    path("payouts/<int:payout_id>", payouts.PayoutDetail.as_view()),
    path("payouts/<int:payout_id>/approve", payouts.PayoutApprove.as_view()),
    path("payouts/<int:payout_id>/cancel", payouts.PayoutCancel.as_view()),
    path("payout-batches", payouts.PayoutBatches.as_view()),
    path("payout-batches/<int:batch_id>.csv", payouts.PayoutBatchFile.as_view()),
    path("payout-results", payouts.PayoutResults.as_view()),
    path("statements/<int:invoice_id>/tax-invoices", payouts.StatementTaxInvoices.as_view()),
    path("charges", charges.Charges.as_view()),
    path("bundle-offers", credits.BundleOffers.as_view()),
    path("bundle-offers/<int:offer_id>", credits.BundleOfferDetail.as_view()),
    path("bundles", credits.Bundles.as_view()),
    path("gifts", credits.Gifts.as_view()),
    path("price-books", price_books.PriceBooks.as_view()),
    path("exports/focus.csv", exports.FocusCsv.as_view()),
    path("exports/focus.parquet", exports.FocusParquet.as_view()),
    path("journal", journal.Journal.as_view()),
    path("journal/<isodate:day>.csv", journal.JournalDay.as_view()),
    path("trial-balance", journal.TrialBalance.as_view()),
    path("trial-balance.csv", journal.TrialBalanceCsv.as_view()),
    path("account-statement", journal.Statement.as_view()),
    path("account-statement.csv", journal.StatementCsv.as_view()),
    *documents("invoices", "buyer"),
    path("invoices/<int:invoice_id>.xml", files.DocumentUbl.as_view(side="buyer")),
    *documents("statements", "provider"),
    *tax_urls.api_urlpatterns,
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
    path("statements/<int:document_id>/tax-invoice", supplier_views.upload, name="statement-tax-invoice"),
    path(
        "statements/<int:document_id>/tax-invoices/<int:supplier_invoice_id>", supplier_views.file,
        name="statement-tax-file",
    ),
    path("account", views.account, name="account"),
    path("top-up", money_views.top_up, name="top-up"),
    path("top-up/card", money_views.pay_by_card, name="top-up-card"),
    path("payouts", money_views.payouts_page, name="payouts"),
    path("payouts/request", money_views.request_payout, name="payout-request"),
    path("payouts/accounts", money_views.new_bank_account, name="bank-account-new"),
    path("payouts/accounts/<int:account_id>/close", money_views.close_bank_account, name="bank-account-close"),
    path("finance", finance_views.finance, name="finance"),
    path("finance/batch.csv", finance_views.batch_csv, name="finance-batch"),
    path("reconciliation", reconciliation_views.statement, name="reconciliation"),
    path("reconciliation/<month:month>.pdf", reconciliation_views.statement_pdf, name="reconciliation-pdf"),
    path("reconciliation/<month:month>.csv", reconciliation_views.statement_csv, name="reconciliation-csv"),
    path("reconciliation/<month:month>/answer", reconciliation_views.answer, name="reconciliation-answer"),
    path("tax-invoices", tax_views.tax_invoices, name="tax-invoices"),
    path("tax-invoices/titles", tax_views.new_title, name="tax-invoice-title"),
    path("tax-invoices/request", tax_views.request_one, name="tax-invoice-request"),
]
