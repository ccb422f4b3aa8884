"""
Replacement: where the tokens of a provider that withdraws come from instead.

The cheapest unsold offers of the market serve first, the oldest among equals, each at its own price and up to half
above what the buyer pays. The dearest lots of the contract go first: they are what would be refunded first. Everything
is whole lots. A provider serves as much as its free money secures.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from core.money import LOT_TOKENS, cost_micro, share_micro

MOST_THOUSANDTHS = 1_500  # of the price that the buyer pays
AHEAD_SECONDS = 3_600
PENALTY_THOUSANDTHS, AHEAD_PENALTY_THOUSANDTHS = 200, 100


class UnsoldOffer(NamedTuple):
    """What is left of a capacity after the gate, and its price."""

    capacity_id: int
    provider_id: int
    tokens: int
    price_nano: int


class LostLot(NamedTuple):
    """A part of a contract's lot that its provider does not deliver."""

    lot_id: int
    tokens: int
    buyer_price_nano: int
    seller_price_nano: int


class Security(NamedTuple):
    """What a provider may still serve in a market, its free money, and the share of a sale that is held as bond."""

    tokens: int
    free_micro: int
    bond_thousandths: int


class Part(NamedTuple):
    """A quantity that an offer serves instead of a lost lot, with the bond that its provider puts up for it."""

    lost: LostLot
    offer: UnsoldOffer
    tokens: int
    bond_micro: int

    @property
    def cost_micro(self) -> int:
        """What it costs more than the lost lot's seller was to get; negative where it is cheaper."""
        return cost_micro(tokens=self.tokens, price_nano=self.offer.price_nano) - cost_micro(
            tokens=self.tokens, price_nano=self.lost.seller_price_nano
        )


def lost_lots(lots: Sequence[LostLot], *, already_tokens: int, tokens: int) -> list[LostLot]:
    """
    Return which parts of a contract's lots are lost next, the dearest for the buyer first.

    :param already_tokens: what was lost before and not replaced: it has taken the dearest.
    :raises ValueError: for more than the lots hold.
    """
    lost: list[LostLot] = []
    for lot in sorted(lots, key=lambda lot: (-lot.buyer_price_nano, -lot.seller_price_nano, -lot.lot_id)):
        skipped = min(already_tokens, lot.tokens)
        already_tokens -= skipped
        part = min(tokens, lot.tokens - skipped)
        tokens -= part
        if part:
            lost.append(lot._replace(tokens=part))
    if tokens:
        raise ValueError("more is lost than the contract has left")
    return lost


def replace_lost(
    lost: Sequence[LostLot], offers: Sequence[UnsoldOffer], securities: Mapping[int, Security]
) -> list[Part]:
    """Return what can be replaced by which offers; a provider without security serves nothing."""
    cheapest_first = sorted(offers, key=lambda offer: (offer.price_nano, offer.capacity_id))
    left = {offer.capacity_id: offer.tokens // LOT_TOKENS * LOT_TOKENS for offer in offers}
    may = {provider: [security.tokens, security.free_micro] for provider, security in securities.items()}
    parts: list[Part] = []
    for lot in lost:
        wanted = lot.tokens // LOT_TOKENS * LOT_TOKENS
        for offer in cheapest_first:
            if offer.price_nano * 1_000 > lot.buyer_price_nano * MOST_THOUSANDTHS:
                break
            if not wanted or offer.provider_id not in may:
                continue
            tokens_left, free_micro = may[offer.provider_id]
            share = securities[offer.provider_id].bond_thousandths
            tokens = min(wanted, left[offer.capacity_id], tokens_left // LOT_TOKENS * LOT_TOKENS)
            tokens = min(tokens, _secured_tokens(free_micro, offer.price_nano, share))
            if tokens <= 0:
                continue
            bond = share_micro(cost_micro(tokens=tokens, price_nano=offer.price_nano), share)
            parts.append(Part(lot, offer, tokens, bond))
            wanted -= tokens
            left[offer.capacity_id] -= tokens
            may[offer.provider_id] = [tokens_left - tokens, free_micro - bond]
    return parts


def _secured_tokens(free_micro: int, price_nano: int, bond_thousandths: int) -> int:
    """Return how many tokens, in whole lots, a bond out of `free_micro` secures at most."""
    a_lot = cost_micro(tokens=LOT_TOKENS, price_nano=price_nano)
    # Rounding the bond up never asks for more than is there.
    lots = max(free_micro, 0) * 1_000 // (a_lot * bond_thousandths) if bond_thousandths else 10**12
    while lots and share_micro(lots * a_lot, bond_thousandths) > free_micro:
        lots -= 1
    return lots * LOT_TOKENS


def penalty_thousandths(*, seconds_ahead: float) -> int:
    """Return the share of the price owed on top for what is not replaced: half, where it was reported an hour ahead."""
    return AHEAD_PENALTY_THOUSANDTHS if seconds_ahead >= AHEAD_SECONDS else PENALTY_THOUSANDTHS
