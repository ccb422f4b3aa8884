"""
Where money moves, when the operator acts as principal: it buys from providers and sells to buyers.

Every rule that turns a business fact into postings stands here and nowhere else, so that another model (the operator as
agent, a licensed institution holding the money) is another module with these functions. All amounts include VAT.

===================  ====================================================  =========================================
fact                 debit                                                 credit
===================  ====================================================  =========================================
deposit              bank                                                  receivable, then available
order to buy, held   available (pending)                                   escrow of the market
trade                available (post)                                      escrow of the market
bond                 available (pending, then post)                        bond of the seller in the market
offsetting sale      escrow                                                available of the seller
delivered            escrow                                                payable of the provider; fee and VAT on it
returned             escrow                                                available of the buyer
usage beyond         available, then receivable, of the buyer              payable of the provider; fee and VAT on it
loss borne           bond of the seller, then the default account          payable of the provider
penalty              payable of the provider                               available of the buyer
compensation         payable of the provider                               escrow, which returns the buyer's price
replacement          payable of the provider                               escrow, which pays the dearer seller
allowance            revenue and the house's VAT                           receivable, then available, of the buyer
===================  ====================================================  =========================================
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from billing.domain.accounts import (
    AccountRef,
    available,
    bank,
    bond,
    default_fund,
    escrow,
    fee,
    payable,
    receivable,
    revenue,
    rounding,
    vat,
)
from billing.domain.losses import Cover
from billing.domain.postings import Posting, Stage, transfer_id
from core.money import round_half_up, share_micro, vat_of_gross


class FeeSplit(NamedTuple):
    """A provider's proceeds and what the platform keeps of them. The three parts sum to the proceeds."""

    provider_micro: int
    fee_net_micro: int
    fee_vat_micro: int

    @property
    def fee_micro(self) -> int:
        """Return the fee with its VAT."""
        return self.fee_net_micro + self.fee_vat_micro


def split_fee(proceeds_micro: int, *, fee_thousandths: int, vat_thousandths: int) -> FeeSplit:
    """Split a provider's proceeds: the fee is a share of them and contains VAT. Each part is rounded half up once."""
    return split_given_fee(
        proceeds_micro, share_micro(proceeds_micro, fee_thousandths), vat_thousandths=vat_thousandths)


def split_given_fee(proceeds_micro: int, fee_micro: int, *, vat_thousandths: int) -> FeeSplit:
    """Split a provider's proceeds by a fee that is known."""
    tax = round_half_up(fee_micro * vat_thousandths, 1_000 + vat_thousandths)
    return FeeSplit(proceeds_micro - fee_micro, fee_micro - tax, tax)


def receive(
    *, key: str, organization_id: int, amount_micro: int, debt_micro: int = 0, source: str = "bank", label: str = "",
    debit: AccountRef | None = None,
) -> list[Posting]:
    """
    Return the postings of money that came in: `debt_micro` of it pays what the organization owes. `debit`: where it
    stands already, such as suspense; else it comes from outside.
    """
    parts = ((key, available(organization_id), amount_micro - debt_micro),
             (f"{key}:debt", receivable(organization_id), debt_micro))
    return [Posting(part_key, "deposit", Stage.POSTED, debit or bank(source), account, amount, label=label)
            for part_key, account, amount in parts if amount]


def hold_purchase(*, key: str, at: datetime, buyer_id: int, scope: str, amount_micro: int) -> Posting:
    """Return the hold of a buy order: quantity × limit. Its transfer's id is `transfer_id(key, at)`."""
    return Posting(key, "order_hold", Stage.PENDING, available(buyer_id), escrow(scope), amount_micro,
                   id=transfer_id(key, at))


def hold_bond(*, key: str, at: datetime, seller_id: int, scope: str, amount_micro: int) -> Posting:
    """Return the hold of a bond for a sell order beyond the position."""
    return Posting(key, "bond_hold", Stage.PENDING, available(seller_id), bond(seller_id, scope), amount_micro,
                   id=transfer_id(key, at))


def pay_trade(
    *, key: str, at: datetime, buyer_id: int, scope: str, hold_id: UUID, cost_micro: int, excess_micro: int
) -> Posting:
    """Return what a trade takes out of the buyer's hold: its cost goes to escrow, the excess is free again."""
    return Posting(key, "trade", Stage.POST, available(buyer_id), escrow(scope), cost_micro, excess_micro, hold_id,
                   transfer_id(key, at))


def take_bond(
    *, key: str, at: datetime, seller_id: int, scope: str, hold_id: UUID, amount_micro: int, excess_micro: int
) -> Posting:
    """Return the bond that a seller's trade keeps of its hold until delivery."""
    return Posting(key, "bond", Stage.POST, available(seller_id), bond(seller_id, scope), amount_micro, excess_micro,
                   hold_id, transfer_id(key, at))


def release_hold(*, key: str, organization_id: int, credit: AccountRef, hold_id: UUID, amount_micro: int) -> Posting:
    """Return the release of what is left of a hold; `credit` is where it would have gone (escrow or bond)."""
    return Posting(key, "release", Stage.RELEASE, available(organization_id), credit, amount_micro, pending_id=hold_id)


def pay_offset(*, key: str, seller_id: int, scope: str, amount_micro: int) -> Posting:
    """Return the proceeds of sales that offset purchases, paid at gate closure."""
    return Posting(key, "offset_sale", Stage.POSTED, escrow(scope), available(seller_id), amount_micro)


def return_bond(*, key: str, seller_id: int, scope: str, amount_micro: int) -> Posting:
    """Return a bond that delivery has freed."""
    return Posting(key, "bond_return", Stage.POSTED, bond(seller_id, scope), available(seller_id), amount_micro)


def pay_provider(
    *, key: str, source: AccountRef, provider_id: int, scope: str, split: FeeSplit,
    fallbacks: tuple[AccountRef, ...] = (),
) -> list[Posting]:
    """
    Return the postings by which `source` (a market's escrow, a buyer's money) pays a provider's proceeds.

    Keys are `key`, `key:fee` and `key:vat`; parts that are zero are left out.
    """
    parts = (
        (key, "proceeds", payable(provider_id), split.provider_micro),
        (f"{key}:fee", "fee", fee(scope), split.fee_net_micro),
        (f"{key}:vat", "fee_vat", vat(scope), split.fee_vat_micro),
    )
    return [Posting(part_key, kind, Stage.POSTED, source, account, amount, fallbacks=fallbacks)
            for part_key, kind, account, amount in parts if amount]


def pay_usage(*, key: str, buyer_id: int, provider_id: int, scope: str, split: FeeSplit) -> list[Posting]:
    """Return how usage beyond contracts is paid: from the buyer's money, then on its account."""
    return pay_provider(key=key, source=available(buyer_id), provider_id=provider_id, scope=scope, split=split,
                        fallbacks=(receivable(buyer_id),))


def take_back_from_provider(
    *, key: str, target: AccountRef, provider_id: int, scope: str, split: FeeSplit
) -> list[Posting]:
    """
    Return the mirror of `pay_provider` (all parts of `split` positive), for a later revision that takes back.

    What the provider's proceeds cannot pay comes from what is left of its bond; what that lacks it owes.
    """
    parts = (
        (key, "proceeds_back", payable(provider_id), split.provider_micro,
         (bond(provider_id, scope), receivable(provider_id))),
        (f"{key}:fee", "fee_back", fee(scope), split.fee_net_micro, ()),
        (f"{key}:vat", "fee_vat_back", vat(scope), split.fee_vat_micro, ()),
    )
    return [Posting(part_key, kind, Stage.POSTED, account, target, amount, fallbacks=fallbacks)
            for part_key, kind, account, amount, fallbacks in parts if amount]


def return_to_buyer(*, key: str, buyer_id: int, source: AccountRef, amount_micro: int) -> Posting:
    """Return money that goes back to the buyer: unused or undelivered tokens."""
    return Posting(key, "refund", Stage.POSTED, source, available(buyer_id), amount_micro)


def keep_surplus(*, key: str, scope: str, amount_micro: int) -> Posting:
    """Return what is left over in escrow for undelivered tokens: it goes to the default account."""
    return Posting(key, "surplus", Stage.POSTED, escrow(scope), default_fund(), amount_micro)


def bear_loss(*, key: str, provider_id: int, scope: str, borne: Cover) -> list[Posting]:
    """Return what bond and default account put into the provider's payable, or the latter gets back of it."""
    owed, fund = payable(provider_id), default_fund()
    parts = (
        (f"{key}:bond", "bond_call", bond(provider_id, scope), owed, borne.bond_micro),
        (f"{key}:default", "default_cover", fund, owed, borne.default_micro),
        (f"{key}:repaid", "default_repaid", owed, fund, -borne.default_micro),
    )
    return [Posting(part_key, kind, Stage.POSTED, debit, credit, amount)
            for part_key, kind, debit, credit, amount in parts if amount > 0]


def pay_loss(*, key: str, kind: str, provider_id: int, to: AccountRef, amount_micro: int) -> list[Posting]:
    """
    Return how a loss (`kind`: penalty, compensation, replacement) goes from the provider's payable to whom it is due.

    Negative: it comes back, kind `…_back`; a buyer that has spent it owes it.
    """
    if not amount_micro:
        return []
    if amount_micro > 0:
        return [Posting(key, kind, Stage.POSTED, payable(provider_id), to, amount_micro)]
    debt = () if to.organization_id is None else (receivable(to.organization_id),)
    return [Posting(key, f"{kind}_back", Stage.POSTED, to, payable(provider_id), -amount_micro, fallbacks=debt)]


def allow(
    *, key: str, organization_id: int, credit_micro: int, settled_micro: int, vat_thousandths: int
) -> list[Posting]:
    """
    Return how a buyer is credited what a decision allows: `settled_micro` of it settles what it owes, the rest is free.
    The operator gives up revenue, and the VAT on it.
    """
    tax = vat_of_gross(credit_micro, vat_thousandths).tax_micro
    owed_tax = min(tax, settled_micro)
    parts = (
        (f"{key}:vat:owed", vat(), receivable(organization_id), owed_tax),
        (f"{key}:vat", vat(), available(organization_id), tax - owed_tax),
        (f"{key}:owed", revenue(), receivable(organization_id), settled_micro - owed_tax),
        (key, revenue(), available(organization_id), credit_micro - tax - (settled_micro - owed_tax)),
    )
    return [Posting(part_key, "allowance", Stage.POSTED, debit, credit, amount)
            for part_key, debit, credit, amount in parts if amount]


def sweep(*, key: str, scope: str, fee_micro: int, vat_micro: int, rounding_micro: int) -> list[Posting]:
    """Return how a market's collecting accounts, with these balances of either sign, are emptied into the house's."""
    parts = (("fee", fee(scope), revenue(), fee_micro), ("vat", vat(scope), vat(), vat_micro),
             ("rounding", rounding(scope), rounding(), rounding_micro))
    return [between(key=f"{key}:{name}", kind=f"sweep_{name}", debit=source, credit=target, amount_micro=amount)
            for name, source, target, amount in parts if amount]


def between(*, key: str, kind: str, debit: AccountRef, credit: AccountRef, amount_micro: int) -> Posting:
    """Return a movement from debit to credit, or back where the amount is negative."""
    if amount_micro < 0:
        debit, credit, amount_micro = credit, debit, -amount_micro
    return Posting(key, kind, Stage.POSTED, debit, credit, amount_micro)


def round_invoice(*, key: str, organization_id: int, difference_micro: int, on_account: bool) -> Posting:
    """
    Return the transfer behind an invoice's rounding line: the buyer pays (or, negative, gets back) the difference
    between the charges and the total in whole fen. A buyer who owes anyway owes it too; from one who has prepaid and
    has nothing left the operator does not ask for the part of a fen.
    """
    buyer = receivable(organization_id) if on_account else available(organization_id)
    if difference_micro < 0:
        return Posting(key, "invoice_rounding", Stage.POSTED, rounding(), buyer, -difference_micro)
    return Posting(key, "invoice_rounding", Stage.POSTED, buyer, rounding(), difference_micro,
                   fallbacks=() if on_account else (revenue(),))


def round_statement(*, key: str, organization_id: int, difference_micro: int) -> Posting:
    """Return the transfer behind a statement's rounding line: what the provider is paid is in whole fen."""
    if difference_micro > 0:
        return Posting(key, "statement_rounding", Stage.POSTED, rounding(), payable(organization_id), difference_micro)
    return Posting(key, "statement_rounding", Stage.POSTED, payable(organization_id), rounding(), -difference_micro,
                   fallbacks=(receivable(organization_id),))
