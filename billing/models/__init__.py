"""The rows of billing, by idea."""

from billing.models.banking import (
    BankAccount,
    BankLine,
    BankLineBooking,
    BankStatement,
    Payout,
    PayoutApproval,
    PayoutBatch,
    PayoutStatement,
    SupplierInvoice,
)
from billing.models.charges import BillingProfile, Charge, SettledScope, WaitingCharge
from billing.models.credits import BundleOffer, Credit
from billing.models.disputes import Dispute, PaymentHold, Reminder, WriteOff
from billing.models.funding import MarketFunding
from billing.models.invoices import (
    DocumentSeries,
    Invoice,
    InvoiceCharge,
    InvoiceLine,
    InvoicePayment,
    InvoiceState,
    InvoiceTax,
)
from billing.models.journal import ClosedDay, DayBalance, DaySeal, JournalKey
from billing.models.ledger import Account, Transfer
from billing.models.payments import Deposit
from billing.models.periods import ChartAccount, PeriodAccrual, PeriodClose, StatementConfirmation
from billing.models.price_books import PriceBook, PriceBookVersion
from billing.models.stripe import StripeCustomer, StripeEvent, StripePayment
from billing.models.tax_invoices import (
    InvoiceTitle,
    RedInvoice,
    TaxExport,
    TaxInvoice,
    TaxInvoiceDocument,
    TaxInvoiceKind,
    TaxInvoiceLine,
)

__all__ = [
    "Account",
    "BankAccount",
    "BankLine",
    "BankLineBooking",
    "BankStatement",
    "BillingProfile",
    "BundleOffer",
    "Charge",
    "ChartAccount",
    "ClosedDay",
    "Credit",
    "DayBalance",
    "DaySeal",
    "Deposit",
    "Dispute",
    "DocumentSeries",
    "Invoice",
    "InvoiceCharge",
    "InvoiceLine",
    "InvoicePayment",
    "InvoiceState",
    "InvoiceTax",
    "InvoiceTitle",
    "JournalKey",
    "MarketFunding",
    "PaymentHold",
    "Payout",
    "PayoutApproval",
    "PayoutBatch",
    "PayoutStatement",
    "PeriodAccrual",
    "PeriodClose",
    "PriceBook",
    "PriceBookVersion",
    "RedInvoice",
    "Reminder",
    "SettledScope",
    "StatementConfirmation",
    "StripeCustomer",
    "StripeEvent",
    "StripePayment",
    "SupplierInvoice",
    "TaxExport",
    "TaxInvoice",
    "TaxInvoiceDocument",
    "TaxInvoiceKind",
    "TaxInvoiceLine",
    "Transfer",
    "WaitingCharge",
    "WriteOff",
]
