"""
What settlements make providers owe, and who bears it: bond, then payable, then the operator's default account.

Each part is a line of the provider's statement, and the buyer's penalty a transfer of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from billing.actions import ledger
from billing.domain import principal
from billing.domain.accounts import AccountRef, available, bond, default_fund, escrow, payable
from billing.domain.charges import ChargeInput
from billing.domain.losses import Cover, Purse, cover_charges, give_back
from billing.domain.postings import Posting, Stage, net, touched

NOTHING = Cover(0, 0, 0)


@dataclass(slots=True)
class Loss:
    """
    What one revision of a contract's settlement adds to what its provider owes (negative: takes off it).

    `like` is a charge of the contract and revision; `default_before_micro` what the default account has borne in all
    earlier revisions. `borne` is filled in by `bear`.
    """

    key: str
    like: ChargeInput
    compensation_micro: int
    penalty_micro: int
    default_before_micro: int = 0
    borne: Cover = NOTHING

    @property
    def total_micro(self) -> int:
        """What it adds in all."""
        return self.compensation_micro + self.penalty_micro


def bear(losses: Sequence[Loss], postings: Sequence[Posting]) -> tuple[list[ChargeInput], list[Posting]]:
    """
    Bear the losses, one after another; return the charges that say so, and the postings.

    What the other `postings` pay into a provider's payable counts as owed to it. Locks every account of both: the
    caller posts all in the same transaction.
    """
    if not losses:
        return [], []
    wanted = touched(postings) | {default_fund()}
    for loss in losses:
        wanted |= set(_accounts(loss))
    balances = ledger.lock_accounts(wanted)
    coming = net([posting for posting in postings if posting.stage == Stage.POSTED])
    purses: dict[tuple[int, str], Purse] = {}
    payables: dict[int, int] = {}
    charges: list[ChargeInput] = []
    paid: list[Posting] = []
    for loss in losses:
        provider, scope = loss.like.provider_id, loss.like.scope
        owed = payable(provider)
        if provider not in payables:
            change = coming[owed].posted_micro if owed in coming else 0
            payables[provider] = balances[owed].free_micro + change
        purse = purses.setdefault((provider, scope), Purse(balances[bond(provider, scope)].free_micro, 0))
        purse.payable_micro = payables[provider]
        if loss.total_micro >= 0:
            loss.borne = purse.bear(loss.total_micro)
        else:
            loss.borne = give_back(-loss.total_micro, default_micro=loss.default_before_micro)
            purse.payable_micro -= loss.borne.payable_micro
        payables[provider] = purse.payable_micro
        charges += cover_charges(loss.like, loss.borne)
        paid += _postings(loss)
    return charges, paid


def _accounts(loss: Loss) -> tuple[AccountRef, ...]:
    provider, buyer, scope = loss.like.provider_id, loss.like.buyer_id, loss.like.scope
    return payable(provider), bond(provider, scope), available(buyer), escrow(scope)


def _postings(loss: Loss) -> list[Posting]:
    provider, buyer, scope = loss.like.provider_id, loss.like.buyer_id, loss.like.scope
    return [
        *principal.bear_loss(key=f"{loss.key}:borne", provider_id=provider, scope=scope, borne=loss.borne),
        *principal.pay_loss(
            key=f"{loss.key}:compensation", kind="compensation", provider_id=provider, to=escrow(scope),
            amount_micro=loss.compensation_micro,
        ),
        *principal.pay_loss(
            key=f"{loss.key}:penalty", kind="penalty", provider_id=provider, to=available(buyer),
            amount_micro=loss.penalty_micro,
        ),
    ]  # fmt: skip
