"""The rows of billing, by idea."""

from billing.models.ledger import Account, Transfer

__all__ = ["Account", "Transfer"]
