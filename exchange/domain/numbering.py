"""
Ids of what happens in a market: the market's id in the high 32 bits, a number in the market in the low ones, so that
its rows lie together and in order.
"""

from typing import Final

NUMBER_BITS: Final = 32
NUMBER_MASK: Final = (1 << NUMBER_BITS) - 1


def entry_id(market_id: int, number: int) -> int:
    """Return the id of a market's journal entry or trade by its number."""
    return market_id << NUMBER_BITS | number


def market_of(row_id: int) -> int:
    """Return the market of a journal entry or trade by its id."""
    return row_id >> NUMBER_BITS


def number_of(row_id: int) -> int:
    """Return the number within its market of a journal entry or trade by its id."""
    return row_id & NUMBER_MASK


def id_range(market_id: int, after: int = 0) -> tuple[int, int]:
    """Return the first and the last id that a market's entries or trades after number `after` may have."""
    return entry_id(market_id, after + 1), entry_id(market_id, NUMBER_MASK)
