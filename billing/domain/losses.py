"""
Who bears what a provider owes for tokens that it did not deliver: its bond, then what the operator owes it (its
payable), then the operator's default account. Never a buyer.

Every loss is paid *through* the provider's payable: the bond and the default account first put into it what they bear.
So the provider's statement adds up: what it owes is a line, and so is what the bond and the default account bore of it.
"""

from dataclasses import dataclass
from typing import NamedTuple

from billing.domain.charges import ChargeInput, ChargeKind


class Cover(NamedTuple):
    """How a loss is borne; the parts sum to it. All negative or zero where a loss is given back."""

    bond_micro: int
    payable_micro: int
    default_micro: int


def cover(loss_micro: int, *, bond_micro: int, payable_micro: int) -> Cover:
    """Return how a loss is borne, given what is free on the bond and the payable (below zero counts as nothing)."""
    if loss_micro < 0:
        raise ValueError("a loss is not negative; one that is given back goes by give_back")
    bond = min(loss_micro, max(bond_micro, 0))
    payable = min(loss_micro - bond, max(payable_micro, 0))
    return Cover(bond, payable, loss_micro - bond - payable)


def give_back(amount_micro: int, *, default_micro: int) -> Cover:
    """
    Return where a loss goes that is smaller than it was settled: to the default account what it bore, the rest to the
    payable.

    :param default_micro: what the default account has borne of it so far.
    """
    if amount_micro < 0 or default_micro < 0:
        raise ValueError("neither is negative")
    default = min(amount_micro, default_micro)
    return Cover(0, default - amount_micro, -default)


@dataclass(slots=True)
class Purse:
    """What is free of a provider's bond and payable while several losses are borne, one after another."""

    bond_micro: int
    payable_micro: int

    def bear(self, loss_micro: int) -> Cover:
        """Bear a loss, and have less afterwards."""
        borne = cover(loss_micro, bond_micro=self.bond_micro, payable_micro=self.payable_micro)
        self.bond_micro -= borne.bond_micro
        self.payable_micro -= borne.payable_micro
        return borne


def cover_charges(like: ChargeInput, borne: Cover) -> list[ChargeInput]:
    """
    Return the lines of the provider's statement that say what its bond and the default account bore.

    :param like: a charge of the loss; its source key names what was lost, and `:bond` or `:default` is added to it.
    """
    parts = ((ChargeKind.FROM_BOND, "bond", borne.bond_micro),
             (ChargeKind.FROM_DEFAULT, "default", borne.default_micro))
    return [
        like._replace(
            source_key=f"{like.source_key}:{name}", kind=kind, quantity_micro_st=0, buyer_price_nano=0,
            seller_price_nano=0, buyer_amount_micro=0, seller_amount_micro=amount, fee_micro=0, tokens={})
        for kind, name, amount in parts if amount
    ]
