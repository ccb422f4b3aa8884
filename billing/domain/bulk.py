"""
Movements of one kind by the hundred thousand, as columns of numbers: what an auction's settlement posts.

A `Bulk` says what a list of postings with equal stage and kind says, and `Bulk.postings` says it so; the ledger books
either with the same result, the columns ten times as fast. Keys are a prefix and a number, and ids are made of a time,
the prefix and the number, so that no key is hashed or formatted one by one.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from billing.domain.accounts import AccountRef
from billing.domain.postings import (
    LARGEST_AMOUNT_MICRO,
    LONGEST_KEY,
    LONGEST_KIND,
    PENDING,
    POST,
    POSTED,
    Delta,
    InvalidPosting,
    Posting,
    Stage,
)

Integers = NDArray[np.int64]
Ids = NDArray[np.void]  # of 16 bytes each
NUMBER_DIGITS = 19
LARGEST_NUMBER = 2**62 - 1


class Bulk(NamedTuple):
    """
    Movements in columns of one length. `debit` and `credit` are places in `accounts`; `numbers` name the causes (such
    as trade ids, each once) and with `prefix` make the keys; `milliseconds` are the causes' times since 1970.
    """

    prefix: str
    kind: str
    stage: Stage
    accounts: Sequence[AccountRef]
    numbers: Integers
    milliseconds: Integers
    debit: Integers
    credit: Integers
    amount_micro: Integers
    excess_micro: Integers | None = None
    pending_ids: Ids | None = None

    def ids(self) -> Ids:
        """Return the transfers' ids; see `numbered_id`."""
        halves = np.empty((len(self.numbers), 2), ">u8")
        halves[:, 0] = self.milliseconds.astype(np.uint64) << np.uint64(16) | np.uint64(0x8000 | _purpose(self.prefix))
        halves[:, 1] = self.numbers.astype(np.uint64) | np.uint64(1 << 63)
        return halves.view("V16").reshape(-1)

    def keys(self) -> NDArray[np.bytes_]:
        """Return the transfers' keys, equally long: `prefix` and the number in nineteen digits."""
        digits = np.empty((len(self.numbers), NUMBER_DIGITS), np.uint8)
        rest = self.numbers.copy()
        for place in range(NUMBER_DIGITS - 1, -1, -1):
            rest, digit = np.divmod(rest, 10)
            digits[:, place] = digit
        digits += ord("0")
        start = np.frombuffer(self.prefix.encode(), np.uint8)
        text = np.hstack([np.broadcast_to(start, (len(digits), len(start))), digits])
        return np.ascontiguousarray(text).view(f"S{text.shape[1]}").reshape(-1)

    def postings(self) -> Iterator[Posting]:
        """Yield the same movements one by one."""
        excess = self.excess_micro if self.excess_micro is not None else np.zeros_like(self.amount_micro)
        for place, (number, millisecond) in enumerate(zip(
                self.numbers.tolist(), self.milliseconds.tolist(), strict=True)):
            yield Posting(
                numbered_key(self.prefix, number), self.kind, self.stage, self.accounts[int(self.debit[place])],
                self.accounts[int(self.credit[place])], int(self.amount_micro[place]), int(excess[place]),
                None if self.pending_ids is None else UUID(bytes=self.pending_ids[place].tobytes()),
                numbered_id(self.prefix, number, millisecond))


def numbered_key(prefix: str, number: int) -> str:
    """Return a numbered movement's key, such as `trade:0000000000000000042`."""
    return f"{prefix}{number:0{NUMBER_DIGITS}d}"


def numbered_id(prefix: str, number: int, millisecond: int) -> UUID:
    """Return a numbered movement's id, a UUIDv8: 48 bits of milliseconds, 12 of the prefix, 62 of the number."""
    return UUID(int=(millisecond << 16 | 0x8000 | _purpose(prefix)) << 64 | 1 << 63 | number)


def _purpose(prefix: str) -> int:
    """Return 12 bits that stand for a prefix, so that a trade's movements of several kinds have ids of their own."""
    return int.from_bytes(blake2b(prefix.encode(), digest_size=2).digest(), "big") & 0xFFF


def check_bulk(bulk: Bulk) -> None:
    """
    Raise InvalidPosting for what cannot be booked. Looks at columns as a whole: the message names the first number.

    Two prefixes of one call with the same 12 bits would give the same ids, which the primary key refuses.
    """
    amount, stage = bulk.amount_micro, bulk.stage
    excess = bulk.excess_micro if bulk.excess_micro is not None else np.zeros_like(amount)
    rules: tuple[tuple[str, Any], ...] = (
        ("a number is from 0 to 2⁶² − 1", (bulk.numbers >= 0) & (bulk.numbers <= LARGEST_NUMBER)),
        ("the amount must be positive and at most what an account can hold",
         ((amount > 0) | ((amount == 0) & (excess > 0))) & (amount <= LARGEST_AMOUNT_MICRO)),
        ("only a post out of a hold has an excess, and no negative one",
         (excess == 0) | ((stage == POST) & (excess > 0) & (excess <= LARGEST_AMOUNT_MICRO))),
        ("from an account to itself", bulk.debit != bulk.credit),
    )
    for rule, holds in rules:
        if not holds.all():
            raise InvalidPosting(f"{bulk.prefix}{bulk.numbers[np.argmin(holds)]}: {rule}")
    if (bulk.pending_ids is None) != (stage < POST):
        raise InvalidPosting(f"{bulk.prefix}: exactly a post or release names the hold it uses")
    if not (0 < len(bulk.prefix) + NUMBER_DIGITS <= LONGEST_KEY and 0 < len(bulk.kind) <= LONGEST_KIND):
        raise InvalidPosting(f"{bulk.prefix}: the key or kind is too long, or empty")
    if not bulk.prefix.isascii():
        raise InvalidPosting(f"{bulk.prefix}: a prefix is ASCII")
    if len(amount) and (int(amount.max()) + int(excess.max())) * len(amount) >= 2**62:
        raise InvalidPosting(f"{bulk.prefix}: so many large amounts could leave 64 bits; post them in parts")


def net_bulk(bulk: Bulk) -> dict[AccountRef, Delta]:
    """Return what a bulk does to each account that it changes."""
    posted = np.zeros(len(bulk.accounts), np.int64)
    held = np.zeros(len(bulk.accounts), np.int64)
    changed = np.zeros(len(bulk.accounts), np.bool_)
    changed[bulk.debit] = True
    if bulk.stage in (POSTED, POST):
        changed[bulk.credit] = True
        np.subtract.at(posted, bulk.debit, bulk.amount_micro)
        np.add.at(posted, bulk.credit, bulk.amount_micro)
    if bulk.stage == PENDING:
        np.add.at(held, bulk.debit, bulk.amount_micro)
    elif bulk.stage != POSTED:
        np.subtract.at(held, bulk.debit, bulk.amount_micro)
        if bulk.excess_micro is not None:
            np.subtract.at(held, bulk.debit, bulk.excess_micro)
    return {
        account: Delta(posted_micro, held_micro) for account, posted_micro, held_micro, is_changed
        in zip(bulk.accounts, posted.tolist(), held.tolist(), changed.tolist(), strict=True) if is_changed}
