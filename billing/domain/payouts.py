"""What may be paid out to a provider now: a rule over figures, and the postings of money that goes out."""

from dataclasses import dataclass
from typing import NamedTuple

from billing.domain.accounts import AccountKind, AccountRef, bank
from billing.domain.postings import Posting, Stage
from core.money import MICRO_PER_FEN

PAYOUT_PREFIX = "PO"


@dataclass(frozen=True, slots=True)
class PayoutRules:
    """The operator's settings."""

    minimum_micro: int
    approval_above_micro: int
    needs_tax_invoice: bool


class Standing(NamedTuple):
    """A provider's figures: what its settled, unpaid statements come to, and what stands in the way."""

    statements_micro: int      # net of notes, settled windows only; with a matching tax invoice where one is needed
    waiting_invoice_micro: int  # of statements that still wait for one
    payable_micro: int
    owed_micro: int            # what the provider owes the operator
    disputed_micro: int        # held back until a ruling
    has_account: bool


class Decision(NamedTuple):
    """How much to pay out now; 0 with the reason why nothing."""

    amount_micro: int
    code: str
    reason: str


def decide(standing: Standing, rules: PayoutRules) -> Decision:
    """
    Return what to pay: settled statements, at most what is payable, less what the provider owes; whole fen, rounded
    down. Bonds stand on accounts of their own and are never paid out.
    """
    if standing.disputed_micro > 0:
        return Decision(0, "payout-held", "A discrepancy is open: payouts wait for its ruling.")
    if not standing.has_account:
        return Decision(0, "no-bank-account", "There is no verified bank account that is open.")
    amount = min(standing.statements_micro, standing.payable_micro) - standing.owed_micro
    amount -= amount % MICRO_PER_FEN if amount > 0 else 0
    if amount <= 0:
        if standing.waiting_invoice_micro > 0:
            return Decision(0, "tax-invoice-missing", "Settlement statements wait for a tax invoice that matches them.")
        return Decision(0, "nothing-to-pay", "Nothing of settled windows is payable.")
    if amount < rules.minimum_micro:
        return Decision(0, "below-minimum", "What is payable is below the least payout.")
    return Decision(amount, "", "")


def reference(payout_id: int) -> str:
    """Return the number by which bank and operator know a payout."""
    return f"{PAYOUT_PREFIX}{payout_id:08d}"


def on_its_way(organization_id: int | None) -> AccountRef:
    """Return the account of money that is on its way out; without an organization, to a payer who is not known."""
    return AccountRef(AccountKind.PAYOUT, organization_id)


def suspense(scope: str = "bank") -> AccountRef:
    """Return the account of money whose owner is not known yet."""
    return AccountRef(AccountKind.SUSPENSE, None, scope)


def set_aside(payout_id: int, kind: str, source: AccountRef, organization_id: int | None, amount_micro: int) -> Posting:
    """Return the posting of a request: the money is nobody's to spend any more."""
    return Posting(f"payout:{payout_id}", kind, Stage.POSTED, source, on_its_way(organization_id), amount_micro,
                   label=reference(payout_id))  # fmt: skip


def leaves(payout_id: int, organization_id: int | None, scope: str, amount_micro: int) -> Posting:
    """Return the posting of money that the bank or payment service has paid."""
    return Posting(f"payout:{payout_id}:paid", "payout_paid", Stage.POSTED, on_its_way(organization_id), bank(scope),
                   amount_micro, label=reference(payout_id))  # fmt: skip


def comes_back(payout_id: int, source: AccountRef, organization_id: int | None, amount_micro: int) -> Posting:
    """Return the posting of a payout that failed or was cancelled: the money is where it was."""
    return Posting(f"payout:{payout_id}:back", "payout_back", Stage.POSTED, on_its_way(organization_id), source,
                   amount_micro, label=reference(payout_id))  # fmt: skip
