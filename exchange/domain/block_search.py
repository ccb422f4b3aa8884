"""
Which blocks to accept: a deterministic search for the highest welfare with no block at a loss.

1. *Relax*: treat blocks as divisible and find prices, window by window, until they hardly move.
2. *Repair*: accept what is in the money there, price exactly, and reject the largest loser until there is none.
3. *Add back*: whatever is in the money and can be accepted without anyone's loss, the largest surplus first.
4. *Enumerate*: among the contested blocks, those that lose most and those closest to the money, try as many choices as
   the steps allow; then again from there. With few blocks these are all, so the answer is the optimum.

It ends early where the blocks' lost surplus shows that nothing is left to gain.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from exchange.domain.sides import Int64
from exchange.domain.window_curve import WindowCurve


class BlockLike(Protocol):
    """What the search reads of a block; see `exchange.domain.blocks.Block`."""

    @property
    def buying(self) -> bool: ...
    @property
    def limit_tick(self) -> int: ...
    @property
    def lots(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def exclusive(self) -> int | None: ...
    @property
    def parent(self) -> int | None: ...
    @property
    def parts(self) -> int: ...
    def least_of(self, parts: int) -> int: ...


@dataclass(frozen=True, eq=False, slots=True)
class Trial:
    """A choice that was priced: what would change in each window, every block's gain a part, welfare."""

    changes: dict[int, int]
    windows: dict[int, tuple[int, int, int | None, int]]
    gains: Int64
    welfare: int
    fits: bool
    """Each window can fill its blocks."""


class BlockSearch:
    """The search's state; `run` leaves the best choice found in `accepted`, `buys`, `sells` and `welfare`."""

    def __init__(self, windows: Sequence[WindowCurve], blocks: Sequence[BlockLike]) -> None:
        self.windows, self.blocks = windows, blocks
        self.steps = 0
        self.accepted = [0] * len(blocks)
        self.buys, self.sells = [0] * len(windows), [0] * len(windows)
        self.welfare = sum(window.value_of_bids - window.cost(0) for window in windows)
        self.parts: list[int] = []
        self.lots_a_part: list[tuple[tuple[int, int], ...]] = []
        self._least: list[int] = []
        self._worth: list[int] = []
        self._try_cost = 4 + len(blocks) // 16
        self._groups: dict[int, list[int]] = {}
        self._children: dict[int, list[int]] = {}
        signed: list[tuple[int, int, int]] = []
        for number, block in enumerate(blocks):
            parts, sign, size = block.parts, 1 if block.buying else -1, 0
            legs = []
            for at, lots in block.lots:
                legs.append((at, lots // parts))
                signed.append((at, number, sign * (lots // parts)))
                size += lots // parts
            self.parts.append(parts)
            self.lots_a_part.append(tuple(legs))
            self._least.append(block.least_of(parts))
            self._worth.append(sign * block.limit_tick * size)
            if block.exclusive is not None:
                self._groups.setdefault(block.exclusive, []).append(number)
            if block.parent is not None:
                self._children.setdefault(block.parent, []).append(number)
        self._signed = np.zeros((len(windows), len(blocks)), dtype=np.int64)
        at_, number_, lots_ = np.array(signed, dtype=np.int64).reshape(-1, 3).T
        self._signed[at_, number_] = lots_
        self._all_parts = np.array(self.parts, dtype=np.int64)
        self._size = np.abs(self._signed).sum(axis=0) * self._all_parts
        self.prices: list[int | None] = [window.price(0, 0)[0] for window in windows]
        self._level_without_price = [self._guess(place) for place in range(len(windows))]
        self._levels = [self._level(place, price) for place, price in enumerate(self.prices)]
        self._holds = np.zeros(len(blocks), dtype=np.bool_)
        self._worth_of_all = np.array(self._worth, dtype=np.int64)
        self.gains = self._gains_at(self._levels)

    def run(self, steps: int) -> None:
        """Search for so many steps: a choice tried costs 4, 1 for each window it moves, and 1 for each 16 blocks."""
        if not self.blocks:
            return
        self._relax_and_repair()
        self._add_back(steps)
        for rounds_left in (4, 3, 2, 1):
            if self._good_enough():
                return
            self._enumerate(max(0, steps - self.steps) // (rounds_left if len(self.blocks) > 10 else 1))
            self._add_back(steps)

    def lost_surplus(self) -> Iterator[tuple[int, int]]:
        """Yield each block that would have gained at these prices, and what it lost by being unfilled."""
        for number in np.flatnonzero(self.gains > 0).tolist():
            missing = self.parts[number] - self.accepted[number]
            priced = all(self.prices[at] is not None for at, _ in self.blocks[number].lots)
            if missing and priced and self._allowed(number):
                yield number, int(self.gains[number]) * missing

    def _good_enough(self) -> bool:
        """
        Tell whether no other choice can be better by more than a hundred-thousandth. At these prices all divisible
        orders have what they want, so only what blocks lose could still be gained (of rivals and linked blocks, more).
        """
        if self._groups or self._children:
            return False
        missing = self._all_parts - np.array(self.accepted, dtype=np.int64)
        return int((np.maximum(self.gains, 0) * missing).sum()) * 100_000 <= self.welfare

    def _allowed(self, number: int) -> bool:
        """Tell whether nothing but its effect on prices forbids a block: not a rival of its group, not its parent."""
        block = self.blocks[number]
        if block.parent is not None and not self.accepted[block.parent]:
            return False
        rivals = self._groups.get(block.exclusive, []) if block.exclusive is not None else []
        return not any(self.accepted[rival] for rival in rivals if rival != number)

    # --- pricing -----------------------------------------------------------------------------------------------------

    def _level(self, place: int, price: int | None) -> int:
        return self._level_without_price[place] if price is None else price

    def _guess(self, place: int) -> int:
        """Return at which price to compare blocks where a window has none of its own."""
        window = self.windows[place]
        known = [t for t in (window.curves.best_bid_tick, window.curves.best_ask_tick) if t is not None]
        if known:
            return sum(known) // len(known)
        if window.reference_tick is not None:
            return window.reference_tick
        limits = sorted(block.limit_tick for block in self.blocks if any(at == place for at, _ in block.lots))
        return limits[len(limits) // 2] if limits else 0

    def _gains_at(self, levels: Sequence[int]) -> Int64:
        """Return what each block gains a part at these prices."""
        gains = self._worth_of_all.copy()
        for place, level in enumerate(levels):
            gains -= self._signed[place] * level
        return gains

    def _try(self, changes: dict[int, int]) -> Trial:
        """Price the choice that sets these blocks to these parts."""
        moved: dict[int, tuple[int, int]] = {}
        welfare = self.welfare
        for number, parts in changes.items():
            difference = parts - self.accepted[number]
            welfare += self._worth[number] * difference
            for at, lots in self.lots_a_part[number]:
                buys, sells = moved.get(at) or (self.buys[at], self.sells[at])
                if self.blocks[number].buying:
                    buys += lots * difference
                else:
                    sells += lots * difference
                moved[at] = buys, sells
        gains, fits, windows = self.gains, True, {}
        for at, (buys, sells) in moved.items():
            price, volume = self.windows[at].price(buys, sells)
            windows[at] = (buys, sells, price, volume)
            welfare += self.windows[at].cost(self.buys[at] - self.sells[at]) - self.windows[at].cost(buys - sells)
            fits = fits and max(buys, sells) <= volume
            level = self._level(at, price)
            if level != self._levels[at]:
                gains = gains - self._signed[at] * (level - self._levels[at])
        self.steps += self._try_cost + len(moved)
        return Trial(changes, windows, gains, welfare, fits)

    def _take(self, trial: Trial) -> None:
        for number, parts in trial.changes.items():
            self.accepted[number] = parts
            self._holds[number] = parts > 0
        for at, (buys, sells, price, _) in trial.windows.items():
            self.buys[at], self.sells[at], self.prices[at] = buys, sells, price
            self._levels[at] = self._level(at, price)
        self.gains, self.welfare = trial.gains, trial.welfare

    def _harmless(self, trial: Trial) -> bool:
        """Tell whether no block is at a loss, those included that the trial would accept."""
        if not trial.fits:
            return False
        losers = np.flatnonzero(self._holds & (trial.gains < 0))
        if any(trial.changes.get(int(number), 1) for number in losers):
            return False
        return all(trial.gains[number] >= 0 for number, parts in trial.changes.items() if parts)

    # --- relax and repair --------------------------------------------------------------------------------------------

    def _relax_and_repair(self) -> None:
        coupled = any(len(block.lots) > 1 for block in self.blocks) or bool(self._groups)
        levels = list(self._levels)
        for _ in range(4 if coupled else 1):
            before = list(levels)
            for place in range(len(self.windows)):
                levels[place] = self._relaxed_level(place, levels)
            if levels == before:
                break
        gains = self._gains_at(levels)
        wanted = self._without_rivals(gains)
        wanted &= gains > 0
        chosen = {number: self.parts[number] for number in np.flatnonzero(wanted).tolist()}
        while orphans := [n for n in chosen if (p := self.blocks[n].parent) is not None and p not in chosen]:
            for number in orphans:
                del chosen[number]
        self._take(self._try(chosen))
        self._repair()

    def _without_rivals(self, gains: Int64) -> npt.NDArray[np.bool_]:
        """Mark all blocks but those of exclusive groups that gain less than another of their group."""
        kept = np.ones(len(self.blocks), dtype=np.bool_)
        for members in self._groups.values():
            best = max(members, key=lambda number: (int(gains[number]) * self.parts[number], -number))
            kept[members] = False
            kept[best] = True
        return kept

    def _relaxed_level(self, place: int, levels: list[int]) -> int:
        """Return where a window would clear if its blocks were divisible, the other windows' prices given."""
        window = self.windows[place]
        ticks = window.curves.ticks
        if not ticks.size:
            return levels[place]
        gains = self._gains_at(levels)
        signed = self._signed[place]
        concerned = np.flatnonzero((signed != 0) & self._without_rivals(gains))
        lots = signed[concerned]
        parts = self._all_parts[concerned]
        # the price in this window at which each block neither gains nor loses
        limits = levels[place] + np.sign(lots) * (gains[concerned] // np.abs(lots))
        demand = np.zeros(ticks.size + 1, dtype=np.int64)
        buying = lots > 0
        np.add.at(demand, np.searchsorted(ticks, limits[buying], side="right"), lots[buying] * parts[buying])
        supply = np.zeros(ticks.size + 1, dtype=np.int64)
        np.add.at(supply, np.searchsorted(ticks, limits[~buying]), -lots[~buying] * parts[~buying])
        bought = np.cumsum(demand[::-1])[::-1][1:]  # a block buys at every tick below where its limit would stand
        surplus = window.curves.surplus_lots + bought - np.cumsum(supply)[:-1]
        self.steps += self._try_cost
        return int(ticks[min(int(np.searchsorted(-surplus, 0)), ticks.size - 1)])

    def _repair(self) -> None:
        """Reject blocks until every window can fill those it has and none of them is at a loss."""
        while True:
            number = self._misfit()
            if number is None:
                losers = np.flatnonzero(self._holds & (self.gains < 0)).tolist()
                if not losers:
                    return
                number = min(losers, key=lambda n: (int(self.gains[n]) * self.accepted[n], -n))
            self._take(self._try(self._rejection(number)))

    def _misfit(self) -> int | None:
        """Return the block to reject first where a window cannot fill its blocks: the one of least gain a lot."""
        for at, window in enumerate(self.windows):
            volume = window.price(self.buys[at], self.sells[at])[1]
            for taken, buying in ((self.buys[at], True), (self.sells[at], False)):
                if taken > volume:
                    here = [n for n in np.flatnonzero(self._holds & (self._signed[at] != 0)).tolist()
                            if self.blocks[n].buying is buying]
                    return min(here, key=lambda n: (self.gains[n] / abs(self._signed[at, n]), -n))
        return None

    def _rejection(self, number: int) -> dict[int, int]:
        """Return the changes that reject a block and, with it, whatever is linked to it."""
        changes, queue = {number: 0}, [number]
        while queue:
            for child in self._children.get(queue.pop(), []):
                if self.accepted[child] and child not in changes:
                    changes[child] = 0
                    queue.append(child)
        return changes

    # --- improve -----------------------------------------------------------------------------------------------------

    def _add_back(self, steps: int) -> None:
        """Accept, or fill further, what is in the money, costs nobody a loss and does not lower welfare."""
        again = True
        while again:
            again = False
            gains = self.gains.tolist()
            missing = [parts - filled for parts, filled in zip(self.parts, self.accepted, strict=True)]
            open_ = [number for number, gain in enumerate(gains) if gain >= 0 and missing[number]]
            for number in sorted(open_, key=lambda n: (-gains[n] * missing[n], n)):
                if self.steps >= steps:
                    return
                if self._allowed(number) and self._fill_more(number):
                    again = True

    def _fill_more(self, number: int) -> bool:
        """Fill a block as far as it goes without a loss to anyone, if welfare does not fall."""
        least = max(self._least[number], self.accepted[number] + 1)
        most = self.parts[number]
        best = self._try({number: most})
        if not self._harmless(best):
            if least == most:
                return False
            best = self._try({number: least})
            if not self._harmless(best):
                return False
            fine, too_much = least, most
            while too_much - fine > 1:
                between = (fine + too_much) // 2
                trial = self._try({number: between})
                if self._harmless(trial):
                    fine, best = between, trial
                else:
                    too_much = between
        if best.welfare < self.welfare:
            return False
        self._take(best)
        return True

    def _contested(self, tries: int) -> list[int]:
        """
        Return the blocks among which that many choices can be tried: up to half of them those that lose most by being
        rejected, the rest those closest to the money.
        """
        count = min(max(tries, 1).bit_length() - 1, len(self.blocks))
        gains = self.gains * self._all_parts
        lost = np.where(self._holds, 0, gains)
        losing = [number for number in np.argsort(-lost, kind="stable")[: count // 2].tolist() if lost[number] > 0]
        closest = np.argsort(np.abs(gains) / self._size, kind="stable").tolist()
        return list(dict.fromkeys(losing + closest))[:count]

    def _enumerate(self, steps: int) -> None:
        """Try every choice among the contested blocks, in an order that changes one block at a time."""
        contested = self._contested(steps // (self._try_cost + max(len(block.lots) for block in self.blocks)))
        if not contested:
            return
        best, best_welfare = list(self.accepted), self.welfare
        stretches = any(self._least[number] < self.parts[number] for number in contested)
        self._take(self._try(dict.fromkeys(contested, 0)))
        for code in range(1, 2 ** len(contested)):
            number = contested[(code & -code).bit_length() - 1]
            self._take(self._try({number: 0 if self.accepted[number] else self._least[number]}))
            if (self.welfare <= best_welfare and not stretches) or not self._sound():
                continue
            there, welfare = list(self.accepted), self.welfare
            self._stretch(contested)
            if self.welfare > best_welfare:
                best, best_welfare = list(self.accepted), self.welfare
            if self.accepted != there:
                self._take(self._try({n: parts for n, parts in enumerate(there) if parts != self.accepted[n]}))
                assert self.welfare == welfare
        self._take(self._try({n: parts for n, parts in enumerate(best) if parts != self.accepted[n]}))

    def _stretch(self, contested: list[int]) -> None:
        """Fill divisible blocks beyond their least part as far as that helps."""
        for number in contested:
            if 0 < self.accepted[number] < self.parts[number]:
                self._fill_more(number)

    def _sound(self) -> bool:
        """Tell whether the present choice keeps every promise."""
        held = np.flatnonzero(self._holds)
        if (self.gains[held] < 0).any() or not all(self._allowed(number) for number in held.tolist()):
            return False
        return all(
            max(buys, sells) <= window.price(buys, sells)[1]
            for window, buys, sells in zip(self.windows, self.buys, self.sells, strict=True) if buys or sells
        )
