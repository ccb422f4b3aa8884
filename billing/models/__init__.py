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
from billing.models.price_books import PriceBook, PriceBookVersion
from billing.models.stripe import StripeCustomer, StripeEvent, StripePayment

__all__ = [
    "Account",
    "BankAccount",
    "BankLine",
    "BankLineBooking",
    "BankStatement",
    "BillingProfile",
    "Charge",
    "ClosedDay",
    "DayBalance",
    "DaySeal",
    "Deposit",
    "DocumentSeries",
    "Invoice",
    "InvoiceCharge",
    "InvoiceLine",
    "InvoicePayment",
    "InvoiceState",
    "InvoiceTax",
    "JournalKey",
    "Payout",
    "PayoutApproval",
    "PayoutBatch",
    "PayoutStatement",
    "PriceBook",
    "PriceBookVersion",
    "SettledScope",
    "StripeCustomer",
    "StripeEvent",
    "StripePayment",
    "SupplierInvoice",
    "Transfer",
    "WaitingCharge",
]
