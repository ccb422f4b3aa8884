"""
What a contract's usage costs whom: one pure function from lots and usage to lines, and from lines to flows of money.

The escrow of a contract holds its lots at the *seller's* price. A lot's tokens end in one of three ways: used (the
seller is paid its price), unused though available (the take-or-pay share goes to the seller, the rest back to the
buyer) or undelivered (the buyer gets back what it paid; the provider owes what the escrow lacks for that, and a penalty
on top). Usage consumes lots cheapest first for the buyer; what was not made available is taken from the other end, the
dearest. What exceeds the lots is charged by the price book in force, or where none stands as overage at the
deployment's list price, up to the buyer's limit in ¥; beyond the limit it is recorded at ¥0.

Money moves between the *pots* of a contract. Applied to an escrow that holds the lots' value, a settlement leaves it at
exactly zero; what rounding takes or gives goes to the rounding pot, never to a party.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from core.money import MICRO_PER_TOKEN, cost_micro, round_half_up, share_micro, work_cost_micro
from exchange.domain.replacement import PENALTY_THOUSANDTHS
from metering_ingest.domain.list_usage import Beyond, ListPrices, rate_list_usage

NANO_MICRO_PER_MICRO = 10**9  # micro-ST × nano-yuan per ST, in a micro-yuan


@dataclass(frozen=True, slots=True)
class Lot:
    """Tokens of one contract at one pair of prices. `quantity_tokens` are standard tokens, a multiple of 1,000."""

    number: int
    quantity_tokens: int
    buyer_price_nano: int
    seller_price_nano: int

    @property
    def quantity_micro_st(self) -> int:
        """The lot in micro-standard-tokens."""
        return self.quantity_tokens * MICRO_PER_TOKEN

    @property
    def escrow_micro(self) -> int:
        """What the escrow holds for it: the seller's price."""
        return cost_micro(tokens=self.quantity_tokens, price_nano=self.seller_price_nano)


@dataclass(frozen=True, slots=True)
class DeploymentUsage:
    """
    What one deployment delivered on a contract, and the list price at which its overage is charged.

    `disputed_micro_st` comes on top of `work_micro_st`: what the meters disagree about and nobody has ruled on yet.
    """

    deployment_id: int
    work_micro_st: int
    list_price_nano: int = 0
    tokens: Mapping[str, int] = field(default_factory=dict)
    disputed_micro_st: int = 0


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Standard tokens that were due and not made available, and the share of their price that is owed as penalty."""

    quantity_tokens: int
    penalty_thousandths: int = PENALTY_THOUSANDTHS


@dataclass(frozen=True, slots=True)
class Late:
    """Work of hours in which a promised time was missed, and by what share of its price it is cheaper."""

    work_micro_st: int
    reduction_thousandths: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What the grade and the buyer agreed to."""

    take_or_pay_thousandths: int
    fee_thousandths: int = 0
    overage_limit_micro: int = 0


class LineKind(StrEnum):
    """How the tokens of a line ended."""

    USED = "used"
    UNUSED = "unused"
    UNDELIVERED = "undelivered"
    COMPENSATION = "compensation"
    PENALTY = "penalty"
    LATE = "late"
    DISPUTED = "disputed"
    OVERAGE = "overage"
    LIST = "list"
    UNCHARGED = "uncharged"


class Pot(StrEnum):
    """
    Where money of a contract can lie. The action maps each to accounts.

    COMPENSATION and PENALTY are what the provider owes for tokens that it did not deliver: its bond bears them first.
    """

    ESCROW = "escrow"
    BUYER = "buyer"
    PROVIDER = "provider"
    FEE = "fee"
    COMPENSATION = "compensation"
    PENALTY = "penalty"
    DISPUTE = "dispute"
    DEFAULT_FUND = "default_fund"
    ROUNDING = "rounding"


@dataclass(frozen=True, slots=True)
class Line:
    """
    Tokens that ended alike, on one lot (None beyond the lots) and, where used, by one deployment.

    `buyer_amount_micro` is what the buyer bears for them in all, `seller_amount_micro` what the provider gets before
    its fee, `refund_micro` what comes back to the buyer out of escrow, `surplus_micro` what the escrow leaves over for
    the default account, `held_micro` what of the escrow waits for a ruling. A compensation (what the buyer's price
    exceeds the seller's by) and a penalty (`penalty_thousandths` of the buyer's price) speak of tokens whose own line
    is `undelivered`; their amounts are negative. A line that a price book rated has no price of a standard token: it
    names the book's version, the class and the calculation.
    """

    kind: LineKind
    lot_number: int | None
    deployment_id: int | None
    quantity_micro_st: int
    buyer_price_nano: int
    seller_price_nano: int
    buyer_amount_micro: int
    seller_amount_micro: int
    fee_micro: int = 0
    refund_micro: int = 0
    surplus_micro: int = 0
    held_micro: int = 0
    penalty_thousandths: int = 0
    tokens: Mapping[str, int] = field(default_factory=dict)
    price_book: str = ""
    price_rule: str = ""
    calculation: str = ""

    @property
    def key(self) -> str:
        """The line's name within its contract, the same in every revision."""
        place = f"{self.kind}:{self.lot_number or 0}:{self.deployment_id or 0}"
        if self.price_rule:
            return f"{place}:{self.price_rule}"
        return f"{place}:{self.penalty_thousandths}" if self.penalty_thousandths else place

    @property
    def accounts_for_tokens(self) -> bool:
        """Whether it says how tokens ended; a compensation, penalty or reduction speaks of tokens that others have."""
        return self.kind not in (LineKind.COMPENSATION, LineKind.PENALTY, LineKind.LATE)


@dataclass(frozen=True, slots=True)
class Settlement:
    """The lines of one contract and how much of its lots the escrow held."""

    lines: tuple[Line, ...]
    escrow_micro: int

    def pots(self) -> dict[Pot, int]:
        """
        Return what each pot gains by the whole settlement, in micro-yuan; the gains add up to zero.

        A pot is only ever paid from this contract's escrow, what its provider owes, or its buyer's own money.
        """
        gains = dict.fromkeys(Pot, 0)
        for line in self.lines:
            for pot, amount in line_gains(line).items():
                gains[pot] += amount
        gains[Pot.ROUNDING] += self.escrow_micro + gains[Pot.ESCROW]
        gains[Pot.ESCROW] = -self.escrow_micro
        return gains


def line_gains(line: Line) -> dict[Pot, int]:
    """Return what each pot gains by one line; the gains add up to zero."""
    if line.kind is LineKind.DISPUTED:
        return {Pot.ESCROW: -line.held_micro, Pot.DISPUTE: line.held_micro}
    provider = line.seller_amount_micro - line.fee_micro
    if line.kind in (LineKind.OVERAGE, LineKind.LIST, LineKind.UNCHARGED):
        return {Pot.BUYER: -line.buyer_amount_micro, Pot.PROVIDER: provider, Pot.FEE: line.fee_micro}
    if line.kind is LineKind.COMPENSATION:
        return {Pot.ESCROW: -line.seller_amount_micro, Pot.COMPENSATION: line.seller_amount_micro}
    if line.kind in (LineKind.PENALTY, LineKind.LATE):
        return {Pot.BUYER: -line.buyer_amount_micro, Pot.PENALTY: line.seller_amount_micro}
    paid = line.refund_micro + provider + line.fee_micro + line.surplus_micro
    return {
        Pot.ESCROW: -paid, Pot.BUYER: line.refund_micro, Pot.PROVIDER: provider, Pot.FEE: line.fee_micro,
        Pot.DEFAULT_FUND: line.surplus_micro,
    }  # fmt: skip


def settle(
    lots: Sequence[Lot],
    usage: Sequence[DeploymentUsage],
    *,
    terms: Terms,
    undelivered: Sequence[Undelivered] = (),
    replaced_tokens: int = 0,
    list_prices: ListPrices | None = None,
    late: Late | None = None,
) -> Settlement:
    """
    Rate a contract's usage against its lots.

    :param lots: what is left of the contract; what another provider replaced is not in it.
    :param undelivered: what was due and not made available, in the order in which it was reported. What was used was
        delivered, so at most the unused rest counts.
    :param replaced_tokens: what another provider delivers instead. Usage beyond the lots up to that is not charged: the
        buyer has paid for those tokens once, and the provider has given them up.
    :param list_prices: the price book that stands for what exceeds the lots and what has no formula; else what exceeds
        them is overage at each deployment's list price, and the rest costs nothing.
    :param late: what of the usage came in late hours: the buyer gets a share of its price back, as the provider owes it
        like a penalty. What was used out of the lots counts, the cheapest first.
    :raises ValueError: for a negative quantity.
    """
    quantities = [
        replaced_tokens, *(missing.quantity_tokens for missing in undelivered),
        *(u.work_micro_st for u in usage), *(u.disputed_micro_st for u in usage),
        *(lot.quantity_tokens for lot in lots), late.work_micro_st if late else 0,
    ]  # fmt: skip
    if min(quantities) < 0:
        raise ValueError("quantities are never negative")
    cheapest_first = sorted(lots, key=lambda lot: (lot.buyer_price_nano, lot.seller_price_nano, lot.number))
    left = {lot.number: lot.quantity_micro_st for lot in cheapest_first}
    by_deployment = sorted(usage, key=lambda u: u.deployment_id)
    # What is agreed takes its lots before what is not: a dispute never makes the undisputed part dearer.
    agreed = [_take(cheapest_first, left, used.work_micro_st) for used in by_deployment]
    disputed = [_take(cheapest_first, left, used.disputed_micro_st) for used in by_deployment]

    lines: list[Line] = []
    held: list[Line] = []
    beyond: list[tuple[DeploymentUsage, int, Mapping[str, int]]] = []
    apart = list_prices.priced_without_formula if list_prices else frozenset()
    for used, parts, waiting in zip(by_deployment, agreed, disputed, strict=True):
        counted = {name: count for name, count in used.tokens.items() if name not in apart}
        split = iter(_split_tokens(counted, [quantity for _, quantity in (*parts, *waiting)]))
        for lot, quantity in parts:
            tokens = next(split)
            if lot is None:
                beyond.append((used, quantity, tokens))
            else:
                lines.append(_used(lot, used.deployment_id, quantity, tokens, terms))
        held += [_disputed(lot, used.deployment_id, quantity, next(split)) for lot, quantity in waiting]
    lines += held
    if late is not None:
        lines += _late(cheapest_first, lines, late)

    missing = _missing(cheapest_first, left, undelivered)
    for one in cheapest_first:
        by_share = missing.get(one.number, {})
        unused = left[one.number] - sum(by_share.values())
        if unused:
            lines.append(_unused(one, unused, terms))
        if by_share:
            lines += _undelivered(one, by_share)
    free = replaced_tokens * MICRO_PER_TOKEN
    lines += _by_book(list_prices, beyond, terms, free) if list_prices else _overage(beyond, terms, uncharged=free)
    return Settlement(tuple(lines), sum(lot.escrow_micro for lot in lots))


def _take(lots: Sequence[Lot], left: dict[int, int], work: int) -> list[tuple[Lot | None, int]]:
    """Take work off what is left of the lots, in their order; what they have not got is a part without lot."""
    parts: list[tuple[Lot | None, int]] = []
    for lot in lots:
        taken = min(work, left[lot.number])
        if taken:
            parts.append((lot, taken))
            left[lot.number] -= taken
            work -= taken
    return [*parts, (None, work)] if work else parts


def _used(lot: Lot, deployment_id: int, quantity: int, tokens: Mapping[str, int], terms: Terms) -> Line:
    seller = work_cost_micro(work_micro_st=quantity, price_nano=lot.seller_price_nano)
    return Line(
        LineKind.USED, lot.number, deployment_id, quantity, lot.buyer_price_nano, lot.seller_price_nano,
        buyer_amount_micro=work_cost_micro(work_micro_st=quantity, price_nano=lot.buyer_price_nano),
        seller_amount_micro=seller, fee_micro=share_micro(seller, terms.fee_thousandths), tokens=tokens,
    )  # fmt: skip


def _disputed(lot: Lot | None, deployment_id: int, quantity: int, tokens: Mapping[str, int]) -> Line:
    """Nobody pays or gets anything yet; what the escrow holds for it waits. Beyond the lots nothing is held."""
    if lot is None:
        return Line(LineKind.DISPUTED, None, deployment_id, quantity, 0, 0, 0, 0, tokens=tokens)
    return Line(
        LineKind.DISPUTED, lot.number, deployment_id, quantity, lot.buyer_price_nano, lot.seller_price_nano,
        buyer_amount_micro=0, seller_amount_micro=0, tokens=tokens,
        held_micro=work_cost_micro(work_micro_st=quantity, price_nano=lot.seller_price_nano),
    )  # fmt: skip


def _unused(lot: Lot, quantity: int, terms: Terms) -> Line:
    """The buyer gets back (1 − take-or-pay) of the lower of both prices, the seller what the escrow has beyond that."""
    lower = min(lot.buyer_price_nano, lot.seller_price_nano)
    returned = 1_000 - terms.take_or_pay_thousandths
    refund = round_half_up(quantity * lower * returned, NANO_MICRO_PER_MICRO * 1_000)
    seller = work_cost_micro(work_micro_st=quantity, price_nano=lot.seller_price_nano) - refund
    return Line(
        LineKind.UNUSED, lot.number, None, quantity, lot.buyer_price_nano, lot.seller_price_nano,
        buyer_amount_micro=work_cost_micro(work_micro_st=quantity, price_nano=lot.buyer_price_nano) - refund,
        seller_amount_micro=seller, fee_micro=share_micro(seller, terms.fee_thousandths), refund_micro=refund,
    )  # fmt: skip


def _missing(
    cheapest_first: Sequence[Lot], left: Mapping[int, int], undelivered: Iterable[Undelivered]
) -> dict[int, dict[int, int]]:
    """Return, by lot and share of penalty, how many micro-ST were not delivered: the dearest lots first."""
    free = dict(left)
    missing: dict[int, dict[int, int]] = {}
    for one in undelivered:
        quantity = one.quantity_tokens * MICRO_PER_TOKEN
        for lot in reversed(cheapest_first):
            take = min(quantity, free[lot.number])
            if take:
                by_share = missing.setdefault(lot.number, {})
                by_share[one.penalty_thousandths] = by_share.get(one.penalty_thousandths, 0) + take
                free[lot.number] -= take
                quantity -= take
    return missing


def _undelivered(lot: Lot, by_share: Mapping[int, int]) -> list[Line]:
    """
    The buyer gets back its own price: the escrow gives the seller's, and the provider compensates what that lacks; what
    it leaves over is the default account's. On top comes the penalty.
    """
    quantity = sum(by_share.values())
    refund = work_cost_micro(work_micro_st=quantity, price_nano=lot.buyer_price_nano)
    held = work_cost_micro(work_micro_st=quantity, price_nano=lot.seller_price_nano)
    prices = (lot.buyer_price_nano, lot.seller_price_nano)
    lines = [
        Line(
            LineKind.UNDELIVERED, lot.number, None, quantity, *prices, buyer_amount_micro=0, seller_amount_micro=0,
            refund_micro=refund, surplus_micro=max(0, held - refund),
        )
    ]  # fmt: skip
    if refund > held:
        lines.append(Line(LineKind.COMPENSATION, lot.number, None, quantity, *prices, 0, held - refund))
    for share, part in sorted(by_share.items()):
        penalty = penalty_micro(quantity_micro_st=part, price_nano=lot.buyer_price_nano, thousandths=share)
        if penalty:
            lines.append(
                Line(LineKind.PENALTY, lot.number, None, part, *prices, -penalty, -penalty, penalty_thousandths=share)
            )
    return lines


def _late(cheapest_first: Sequence[Lot], lines: Sequence[Line], late: Late) -> list[Line]:
    """Give a share of the price of late work back, by lot: at most what was used of each."""
    used: dict[int, int] = {}
    for line in lines:
        if line.kind is LineKind.USED and line.lot_number is not None:
            used[line.lot_number] = used.get(line.lot_number, 0) + line.quantity_micro_st
    found, left, share = [], late.work_micro_st, late.reduction_thousandths
    for lot in cheapest_first:
        part = min(left, used.get(lot.number, 0))
        left -= part
        amount = penalty_micro(quantity_micro_st=part, price_nano=lot.buyer_price_nano, thousandths=share)
        if amount:
            prices = (lot.buyer_price_nano, lot.seller_price_nano)
            found.append(
                Line(LineKind.LATE, lot.number, None, part, *prices, -amount, -amount, penalty_thousandths=share)
            )
    return found


def penalty_micro(*, quantity_micro_st: int, price_nano: int, thousandths: int) -> int:
    """Return the penalty for undelivered work: a share of its price, rounded half up once."""
    return round_half_up(quantity_micro_st * price_nano * thousandths, NANO_MICRO_PER_MICRO * 1_000)


def _overage(
    beyond: Iterable[tuple[DeploymentUsage, int, Mapping[str, int]]], terms: Terms, *, uncharged: int = 0
) -> list[Line]:
    """
    Charge what exceeds the lots at each deployment's list price until the buyer's limit is reached; the first
    `uncharged` micro-ST cost nothing.
    """
    lines = []
    limit = terms.overage_limit_micro
    for used, quantity, tokens in beyond:
        price = used.list_price_nano
        free = min(quantity, uncharged)
        uncharged -= free
        charged = quantity - free
        if work_cost_micro(work_micro_st=charged, price_nano=price) > limit:
            charged = min(charged, max(limit, 0) * NANO_MICRO_PER_MICRO // price)
        if not limit or not price:
            charged = 0
        for kind, part, part_tokens in zip(
            (LineKind.OVERAGE, LineKind.UNCHARGED), (charged, quantity - charged),
            _split_tokens(tokens, [charged, quantity - charged]), strict=True,
        ):  # fmt: skip
            if not part:
                continue
            at = price if kind is LineKind.OVERAGE else 0
            cost = work_cost_micro(work_micro_st=part, price_nano=at)
            limit -= cost
            lines.append(
                Line(
                    kind,
                    None,
                    used.deployment_id,
                    part,
                    at,
                    at,
                    buyer_amount_micro=cost,
                    seller_amount_micro=cost,
                    fee_micro=share_micro(cost, terms.fee_thousandths),
                    tokens=part_tokens,
                )
            )
    return lines


def _by_book(
    prices: ListPrices, beyond: Iterable[tuple[DeploymentUsage, int, Mapping[str, int]]], terms: Terms, uncharged: int
) -> list[Line]:
    """Charge by the book what exceeds the lots but for the first `uncharged` micro-ST, and what has no formula."""
    lines: list[Line] = []
    parts: list[Beyond] = []
    for used, quantity, tokens in beyond:
        free = min(quantity, uncharged)
        uncharged -= free
        charged_tokens, free_tokens = _split_tokens(tokens, [quantity - free, free])
        if quantity - free:
            parts.append(Beyond(used.deployment_id, quantity - free, charged_tokens))
        if free:
            lines.append(_uncharged(used.deployment_id, free, free_tokens))
    bill = rate_list_usage(prices, parts, limit_micro=terms.overage_limit_micro)
    if bill.uncharged_micro_st or bill.uncharged_tokens:
        lines.append(_uncharged(None, bill.uncharged_micro_st, bill.uncharged_tokens))
    for line in bill.lines:
        lines.append(
            Line(
                LineKind.LIST, None, None, line.work_micro_st, 0, 0, buyer_amount_micro=line.amount_micro,
                seller_amount_micro=line.amount_micro, fee_micro=share_micro(line.amount_micro, terms.fee_thousandths),
                tokens={line.rule: line.tokens} if line.tokens else {}, price_book=f"{prices.book} v{prices.version}",
                price_rule=line.rule, calculation=line.calculation,
            )
        )  # fmt: skip
    return lines


def _uncharged(deployment_id: int | None, quantity: int, tokens: Mapping[str, int]) -> Line:
    return Line(LineKind.UNCHARGED, None, deployment_id, quantity, 0, 0, 0, 0, tokens=tokens)


def _split_tokens(tokens: Mapping[str, int], weights: Sequence[int]) -> list[dict[str, int]]:
    """Split each class's count over parts in proportion to their work, exactly; the last part takes the rest."""
    parts: list[dict[str, int]] = [{} for _ in weights]
    total = sum(weights)
    for name, count in tokens.items():
        given = done = 0
        for part, weight in zip(parts, weights, strict=True):
            done += weight
            upto = count * done // total if total else 0
            if upto > given:
                part[name] = upto - given
            given = upto
    return parts


def difference(before: Settlement | None, after: Settlement) -> dict[Pot, int]:
    """Return what each pot gains by going from one settlement of a contract to a later one; adds up to zero."""
    gains = after.pots()
    for pot, amount in (before.pots() if before else {}).items():
        gains[pot] = gains.get(pot, 0) - amount
    return {pot: amount for pot, amount in gains.items() if amount}
