"""
A charge: one rated line, pushed down by whoever knows what happened, with the sums it stands for on both sides.

Billing knows no trade and no usage. What a charge is about stands in its `labels`, which invoices print and group by.
"""

from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from billing.domain.accounts import AccountKind
from billing.domain.postings import Posting
from core.money import work_cost_micro
from core.periods import Period

Label = str | int | bool | None


class ChargeKind(StrEnum):
    """What is charged; it decides the tax treatment."""

    USED = "used"                # delivered tokens, at the lot's prices: quantity × price, exactly
    UNUSED = "unused"            # available and not used: what take-or-pay keeps of the lot's price
    UNDELIVERED = "undelivered"  # not made available: costs nothing, and says so
    OVERAGE = "overage"          # usage beyond the contract, at list price
    DISPUTED = "disputed"        # held back while the meters disagree: charged to nobody until a ruling
    LIST = "list"                # usage without contract, rated from a price book
    ALLOWANCE = "allowance"      # what a decision on a dispute credits to the buyer; the operator bears it
    TRADING_DIFFERENCE = "trading_difference"  # what buying and reselling gave or took
    PENALTY = "penalty"          # for failing to deliver: the buyer gets it, the provider owes it
    COMPENSATION = "compensation"  # what the buyer's price exceeded the provider's by, where it was not delivered
    REPLACEMENT = "replacement"  # what another provider's tokens cost more than the contract's
    FROM_BOND = "from_bond"      # what of these the provider's bond bore
    FROM_DEFAULT = "from_default"  # what the operator's default account bore
    PROBE = "probe"              # the exchange's own requests, at the contract's price: the default account pays them

    @property
    def is_taxed(self) -> bool:
        """Whether it is a taxable service; penalties and trading differences are not."""
        return self in TAXED

    @property
    def is_exact(self) -> bool:
        """Whether its amounts are quantity × price, rounded once, on both sides."""
        return self in EXACT

    @property
    def sides(self) -> tuple[str, ...]:
        """Whose documents show it: what lies between the operator and a provider is not the buyer's business."""
        if self is ChargeKind.ALLOWANCE:
            return ("buyer",)
        return ("provider",) if self in PROVIDER_ONLY else ("buyer", "provider")


TAXED = frozenset({
    ChargeKind.USED, ChargeKind.UNUSED, ChargeKind.UNDELIVERED, ChargeKind.OVERAGE, ChargeKind.LIST,
    ChargeKind.DISPUTED, ChargeKind.ALLOWANCE, ChargeKind.PROBE})
EXACT = frozenset({ChargeKind.USED, ChargeKind.OVERAGE})
PROVIDER_ONLY = frozenset({
    ChargeKind.COMPENSATION, ChargeKind.REPLACEMENT, ChargeKind.FROM_BOND, ChargeKind.FROM_DEFAULT, ChargeKind.PROBE})


class ChargeInput(NamedTuple):
    """
    A charge as it is pushed. Amounts are signed: revision 0 says the whole, a later revision only the difference.

    `fee_micro` contains its VAT and is part of `seller_amount_micro`. `source_key` names what is charged (such as
    `contract:12:lot:1:deployment:5`); with `revision` it makes pushing again harmless. `refers_to` is the source key of
    another charge that this one corrects. `tokens` counts raw tokens by class; prices are nano-yuan per standard token.
    """

    source_key: str
    revision: int
    kind: ChargeKind
    buyer_id: int
    provider_id: int
    scope: str
    labels: dict[str, Label]
    quantity_micro_st: int
    buyer_price_nano: int
    seller_price_nano: int
    buyer_amount_micro: int
    seller_amount_micro: int
    fee_micro: int
    tokens: dict[str, int]
    occurred: Period
    refers_to: str | None = None


class InvalidCharge(ValueError):
    """A charge that does not add up: a defect of the code that made it."""


def check(charge: ChargeInput) -> None:
    """Raise InvalidCharge for a charge that no invoice could explain."""
    if charge.revision < 0 or not charge.source_key or len(charge.source_key) > 150:
        raise InvalidCharge(f"a charge needs a source key of at most 150 characters: {charge.source_key!r}")
    if charge.buyer_price_nano < 0 or charge.seller_price_nano < 0:
        raise InvalidCharge(f"{charge.source_key}: a price is negative")
    if charge.revision == 0 and charge.kind.is_exact:
        for side, price_nano, amount_micro in (
            ("buyer", charge.buyer_price_nano, charge.buyer_amount_micro),
            ("seller", charge.seller_price_nano, charge.seller_amount_micro),
        ):
            expected = work_cost_micro(work_micro_st=charge.quantity_micro_st, price_nano=price_nano)
            if amount_micro != expected:
                raise InvalidCharge(
                    f"{charge.source_key}: the {side}'s amount is {amount_micro}, quantity × price is {expected}")


def check_paid(charges: Iterable[ChargeInput], postings: Iterable[Posting]) -> None:
    """
    Raise InvalidCharge unless the postings pay every provider what the charges say, and the fees besides.

    A posting with fallbacks counts where it should be paid from.
    """
    owed: defaultdict[str, int] = defaultdict(int)
    for charge in charges:
        owed[f"provider {charge.provider_id}"] += charge.seller_amount_micro - charge.fee_micro
        owed[f"fees of {charge.scope}"] += charge.fee_micro
    paid: defaultdict[str, int] = defaultdict(int)
    for posting in postings:
        for account, amount in ((posting.debit, -posting.amount_micro), (posting.credit, posting.amount_micro)):
            if account.kind is AccountKind.PAYABLE:
                paid[f"provider {account.organization_id}"] += amount
            elif account.kind in (AccountKind.FEE, AccountKind.VAT):
                paid[f"fees of {account.scope}"] += amount
    for subject in owed | paid:
        if owed[subject] != paid[subject]:
            raise InvalidCharge(f"{subject}: charges say {owed[subject]}, their postings pay {paid[subject]}")
