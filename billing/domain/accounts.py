"""
The ledger's chart of accounts: which kinds there are, on which side they normally stand, which may go below zero.

**Sign.** Every balance is *credits − debits*: a debit lowers it, a credit raises it, and all balances together sum to
zero. What we owe (a buyer's deposit, a provider's proceeds) is positive; what we own or are owed (money at the bank,
receivables) is negative. `normal_side` only says how a trial balance shows an account.
"""

from enum import StrEnum
from typing import NamedTuple


class AccountKind(StrEnum):
    """What an account is for. The operator's own accounts have no organization."""

    EXTERNAL = "external"          # money outside: the bank, Stripe (scope says which)
    AVAILABLE = "available"        # an organization's money that it may spend or take back
    RECEIVABLE = "receivable"      # what an organization owes us
    ESCROW = "escrow"              # paid for and not yet delivered, per market
    PAYABLE = "payable"            # a provider's proceeds, until they are paid out
    BOND = "bond"                  # a seller's security, per market
    DEFAULT_FUND = "default_fund"  # the operator's default account: bears what failing providers cannot
    FEE = "fee"                    # the platform's fee, per market until it is swept to revenue
    VAT = "vat"                    # value added tax contained in fees, per market until it is swept
    ROUNDING = "rounding"          # what rounding to the fen took or gave
    REVENUE = "revenue"            # fees without tax
    SUSPENSE = "suspense"          # money received whose owner is not known yet
    GIFT = "gift"                  # credit granted by the operator, spent before paid money
    BUNDLE = "bundle"              # a bundle that was bought: owed in usage, drawn down before free money
    PROMOTION = "promotion"        # what those grants cost the operator
    PAYOUT = "payout"              # money on its way to an organization's bank account
    DISPUTE = "dispute"            # a provider's slice of a market's escrow, held back until a ruling

    __hash__ = str.__hash__  # Enum's own is written in Python, and every balance is found by it

    @property
    def may_overdraw(self) -> bool:
        """Whether its balance may fall below what is held, which otherwise a constraint refuses."""
        return self in MAY_OVERDRAW

    @property
    def normal_side(self) -> str:
        """`debit` for what we own or are owed, else `credit`."""
        return "debit" if self in DEBIT_NORMAL else "credit"


# Fee, VAT, rounding and revenue give back what a later revision of a charge takes from them. The default account below
# zero is the operator's own loss, and shows it.
MAY_OVERDRAW = frozenset({
    AccountKind.EXTERNAL, AccountKind.RECEIVABLE, AccountKind.FEE, AccountKind.VAT, AccountKind.ROUNDING,
    AccountKind.REVENUE, AccountKind.PROMOTION, AccountKind.DEFAULT_FUND,
})
DEBIT_NORMAL = frozenset({AccountKind.EXTERNAL, AccountKind.RECEIVABLE, AccountKind.PROMOTION})


class AccountRef(NamedTuple):
    """Names an account without knowing its row. The ledger creates the row at first need."""

    kind: AccountKind
    organization_id: int | None = None  # None: the operator's own
    scope: str = ""                     # such as "market:12"; opaque to the ledger

    def __str__(self) -> str:
        """Return it as in `available/7` or `escrow/-/market:12`."""
        owner = "-" if self.organization_id is None else str(self.organization_id)
        return "/".join(part for part in (self.kind.value, owner, self.scope) if part)


def available(organization_id: int) -> AccountRef:
    """Return the account of an organization's free money."""
    return AccountRef(AccountKind.AVAILABLE, organization_id)


def receivable(organization_id: int) -> AccountRef:
    """Return the account of what an organization owes."""
    return AccountRef(AccountKind.RECEIVABLE, organization_id)


def payable(organization_id: int) -> AccountRef:
    """Return the account of a provider's proceeds."""
    return AccountRef(AccountKind.PAYABLE, organization_id)


def escrow(scope: str) -> AccountRef:
    """Return the escrow of a market (scope `market:<id>`)."""
    return AccountRef(AccountKind.ESCROW, None, scope)


def bond(organization_id: int, scope: str) -> AccountRef:
    """Return the account of a seller's security in one market."""
    return AccountRef(AccountKind.BOND, organization_id, scope)


def dispute(organization_id: int, scope: str) -> AccountRef:
    """Return the account of what is held back of a provider's deliveries in one market until a ruling."""
    return AccountRef(AccountKind.DISPUTE, organization_id, scope)


def fee(scope: str) -> AccountRef:
    """Return the account that collects a market's fees until they are swept."""
    return AccountRef(AccountKind.FEE, None, scope)


def vat(scope: str = "") -> AccountRef:
    """Return the account that collects a market's VAT on fees; without scope, what is owed to the tax office."""
    return AccountRef(AccountKind.VAT, None, scope)


def rounding(scope: str = "") -> AccountRef:
    """Return the rounding account of a market or document series; without scope, the operator's."""
    return AccountRef(AccountKind.ROUNDING, None, scope)


def default_fund() -> AccountRef:
    """Return the operator's default account: it bears what bond and payable of a failing provider cannot."""
    return AccountRef(AccountKind.DEFAULT_FUND)


def gift(organization_id: int, scope: str) -> AccountRef:
    """Return the account of what is left of a gift (scope `credit:<id>`)."""
    return AccountRef(AccountKind.GIFT, organization_id, scope)


def bundle(organization_id: int, scope: str) -> AccountRef:
    """Return the account of what is left of a bundle (scope `credit:<id>`)."""
    return AccountRef(AccountKind.BUNDLE, organization_id, scope)


def promotion() -> AccountRef:
    """Return the account of what gifts and bonuses cost the operator."""
    return AccountRef(AccountKind.PROMOTION)


def revenue() -> AccountRef:
    """Return the operator's income from fees, without tax."""
    return AccountRef(AccountKind.REVENUE)


def bank(scope: str = "bank") -> AccountRef:
    """Return the account of money outside, such as `bank` or `stripe`."""
    return AccountRef(AccountKind.EXTERNAL, None, scope)
