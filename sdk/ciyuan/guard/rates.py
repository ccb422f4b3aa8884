"""How much of its contract a buyer has taken here, and how fast: micro-standard-tokens against rate and quantity."""

from __future__ import annotations

import json
import math
from pathlib import Path

from ciyuan.guard.access import Claims
from ciyuan.guard.refusals import LIMITED, Refusal

MICRO = 1_000_000
SECONDS_PER_MINUTE = 60


class Allowance:
    """
    One contract's bucket: a minute's worth at most, filled at the contract's rate.

    Work is known when it is done, so a request begins while anything is left and takes what it turns out to be.
    """

    __slots__ = ("ends_at", "filled_at", "level", "probed", "used")

    def __init__(self, claims: Claims, now: float, used: int = 0) -> None:
        self.ends_at = claims.ends_at
        self.level = float(claims.st_per_minute * MICRO)
        self.filled_at = now
        self.used = used
        self.probed = 0

    def fill(self, st_per_minute: int, now: float) -> None:
        per_second = st_per_minute * MICRO / SECONDS_PER_MINUTE
        self.level = min(st_per_minute * MICRO, self.level + max(0.0, now - self.filled_at) * per_second)
        self.filled_at = max(self.filled_at, now)


class Allowances:
    """
    :param path: where the used quantities are kept over a restart. :param beyond_quantity: do not hold against them.
    """

    def __init__(self, path: Path, *, beyond_quantity: bool = False) -> None:
        self._path, self._beyond = path, beyond_quantity
        self._by_contract: dict[int, Allowance] = {}
        self._saved: dict[int, tuple[int, int]] = {}
        try:
            self._saved = {int(k): (int(v[0]), int(v[1])) for k, v in json.loads(path.read_text()).items()}
        except (OSError, ValueError, TypeError, KeyError):
            self._saved = {}

    def admit(self, claims: Claims, now: float) -> None:
        """
        :param now: Unix seconds. :raises Refusal: when the rate or the quantity is used up.
        """
        mine = self._of(claims, now)
        mine.fill(claims.st_per_minute, now)
        if not self._beyond and mine.used - mine.probed >= claims.quantity * MICRO:
            raise Refusal(
                429, "quantity_used_up",
                f"The {claims.quantity:,} standard tokens of contract {claims.contract} here are used up.",
                kind="insufficient_quota",
            )  # fmt: skip
        if mine.level <= 0:
            per_second = claims.st_per_minute * MICRO / SECONDS_PER_MINUTE
            wait = max(1, math.ceil((1 - mine.level) / per_second)) if per_second else SECONDS_PER_MINUTE
            raise Refusal(
                429, "rate_limit_exceeded",
                f"Contract {claims.contract} delivers {claims.st_per_minute:,} standard tokens a minute;"
                f" there is room again in {wait:,} s.",
                kind=LIMITED, retry_after=wait,
            )  # fmt: skip

    def take(self, claims: Claims, micro_st: int, now: float) -> None:
        """So much more has been done."""
        mine = self._of(claims, now)
        mine.level -= micro_st
        mine.used += micro_st

    def give_back(self, contract: int, micro_st: int) -> None:
        """So much in all of what was done on a contract was the exchange's own asking: no part of its quantity."""
        if (mine := self._by_contract.get(contract)) is not None:
            mine.probed = min(micro_st, mine.used)

    def used_micro_st(self, contract: int) -> int:
        mine = self._by_contract.get(contract)
        return mine.used if mine else 0

    def _of(self, claims: Claims, now: float) -> Allowance:
        mine = self._by_contract.get(claims.contract)
        if mine is None:
            used = self._saved.pop(claims.contract, (0, 0))[0]
            mine = self._by_contract[claims.contract] = Allowance(claims, now, used)
        return mine

    def save(self, now: float) -> None:
        """Write down what is used, and forget contracts that were over an hour ago."""
        over = now - 3600
        self._by_contract = {k: v for k, v in self._by_contract.items() if v.ends_at > over}
        self._saved = {k: v for k, v in self._saved.items() if v[1] > over}
        rows = {**self._saved, **{k: (v.used, v.ends_at) for k, v in self._by_contract.items()}}
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(rows))
        fresh.replace(self._path)
