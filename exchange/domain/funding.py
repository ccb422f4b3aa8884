"""
What an order holds, and what each step of its life takes out of the hold.

A buy holds quantity × its limit (an order without one: × the market's cap). A sell holds a bond, a share of its value
at its limit (or the cap), for the part beyond the seller's position; what the position covers is sold first. All
quantities are whole lots, so values are exact in micro-yuan; the bond is rounded once on the running total, so that the
parts add up to the whole.
"""

from dataclasses import dataclass

from core.money import cost_micro, share_micro


@dataclass(slots=True)
class Funding:
    """The hold of one live order; `take` and `release` change it in place."""

    hold_id: bytes
    hold_price_nano: int
    open_tokens: int
    covered_tokens: int = 0
    bond_thousandths: int = 0
    bonded_done_tokens: int = 0

    def take_buy(self, quantity_tokens: int, price_nano: int) -> int:
        """Fill a part of a buy; return what of its hold is free then, beyond quantity × price, in micro-yuan."""
        self.open_tokens -= quantity_tokens
        return quantity_tokens * (self.hold_price_nano - price_nano) // 1_000

    def take_sell(self, quantity_tokens: int) -> int:
        """Fill a part of a sell: return what goes from the hold to the seller's bond, in micro-yuan."""
        self.open_tokens -= quantity_tokens
        if self.covered_tokens:
            from_cover = min(quantity_tokens, self.covered_tokens)
            self.covered_tokens -= from_cover
            quantity_tokens -= from_cover
        before = self._bond_micro(self.bonded_done_tokens) if self.bonded_done_tokens else 0
        self.bonded_done_tokens += quantity_tokens
        return self._bond_micro(self.bonded_done_tokens) - before

    def rest_micro(self, *, buying: bool) -> int:
        """Return what is still held for the open quantity."""
        if buying:
            return self.open_tokens * self.hold_price_nano // 1_000
        bonded = self.bonded_done_tokens
        rest = self._bond_micro(bonded + self.open_tokens - self.covered_tokens)
        return rest - self._bond_micro(bonded) if bonded else rest

    def _bond_micro(self, tokens: int) -> int:
        return share_micro(tokens * self.hold_price_nano // 1_000, self.bond_thousandths)


def buy_hold_micro(*, quantity_tokens: int, price_nano: int) -> int:
    """Return what a buy holds."""
    return cost_micro(tokens=quantity_tokens, price_nano=price_nano)


def sell_hold_micro(*, quantity_tokens: int, covered_tokens: int, price_nano: int, bond_thousandths: int) -> int:
    """Return the bond that a sell holds for what its seller's position does not cover."""
    return share_micro(cost_micro(tokens=quantity_tokens - covered_tokens, price_nano=price_nano), bond_thousandths)


DEFAULT_BOND_THOUSANDTHS, LEAST_BOND_THOUSANDTHS, MOST_BOND_THOUSANDTHS = 200, 100, 500


def bond_rate_thousandths(delivered_thousandths: int | None) -> int:
    """
    Return the share of a sale's value that its seller holds as bond, by the share of what it sold that it delivered.

    Without a history 20%; 10% for a seller that never failed, rising evenly to 50% at nine tenths delivered or less.
    """
    if delivered_thousandths is None:
        return DEFAULT_BOND_THOUSANDTHS
    missing = min(1_000 - delivered_thousandths, 100)
    return LEAST_BOND_THOUSANDTHS + missing * (MOST_BOND_THOUSANDTHS - LEAST_BOND_THOUSANDTHS) // 100
