"""The rows of billing, by idea."""

from billing.models.charges import BillingProfile, Charge, SettledScope, WaitingCharge
from billing.models.ledger import Account, Transfer
from billing.models.payments import Deposit

__all__ = ["Account", "BillingProfile", "Charge", "Deposit", "SettledScope", "Transfer", "WaitingCharge"]
