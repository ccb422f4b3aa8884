"""
What the ledger is asked to do, and what that does to balances: pure, so that it can be tested against a dumber twin.

A posting moves `amount_micro` from its debit account to its credit account, in one of four stages:

============  ===========================================  ==========================================
stage         on the debit account                         on the credit account
============  ===========================================  ==========================================
``POSTED``    posted − amount                              posted + amount
``PENDING``   held + amount (a hold; nothing moves yet)    nothing: it only names where it would go
``POST``      held − (amount + excess), posted − amount    posted + amount
``RELEASE``   held − amount                                nothing
============  ===========================================  ==========================================

``POST`` and ``RELEASE`` name the hold they use up by `pending_id`; a hold may be used in many parts.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from billing.domain.accounts import AccountRef

LARGEST_AMOUNT_MICRO = 10**18  # a million million yuan: a typing error, not money, and far below a bigint's end
LONGEST_KEY = 100
LONGEST_KIND = 24


class Stage(IntEnum):
    """How far a movement is; the stored code."""

    POSTED = 0
    PENDING = 1
    POST = 2
    RELEASE = 3


POSTED, PENDING, POST, RELEASE = map(int, Stage)  # plain integers compare quicker in the loops below


class InvalidPosting(ValueError):
    """A posting that no ledger can book: a defect of the code that made it."""


class Posting(NamedTuple):
    """
    One movement asked for.

    `key` names its cause and makes repeating it harmless. With `id` from `transfer_id` the primary key refuses a second
    one, which costs nothing; without it the ledger gives an id and a unique index on the key refuses. One kind of key
    always does the one or the other.

    `fallbacks` (stage POSTED only) are debited in turn for what `debit` cannot pay, such as `receivable` after
    `available`; the parts are transfers of their own, keyed `key`, `key+1`, `key+2`.
    """

    key: str
    kind: str
    stage: Stage
    debit: AccountRef
    credit: AccountRef
    amount_micro: int
    excess_micro: int = 0
    pending_id: UUID | None = None
    id: UUID | None = None
    label: str = ""
    fallbacks: tuple[AccountRef, ...] = ()


class Delta(NamedTuple):
    """What a batch of postings does to one account."""

    posted_micro: int
    held_micro: int


def transfer_id(key: str, at: datetime) -> UUID:
    """
    Return the id of the transfer that `key` names: 48 bits of `at` in milliseconds, then the key's BLAKE2b, as UUIDv8.

    `at` must be a fact that a repeat gives again (an order's or trade's time, never the clock), for it is in the id;
    it keeps ids in time order, so that a new transfer's place in the index is at its end.
    """
    milliseconds = int(at.timestamp() * 1000)
    number = milliseconds << 80 | int.from_bytes(blake2b(key.encode(), digest_size=10).digest(), "big")
    return UUID(int=number & ~(0xF000 << 64 | 0xC000 << 48) | 0x8000 << 64 | 0x8000 << 48)


def check(posting: Posting) -> None:
    """Raise InvalidPosting for what cannot be booked."""
    key, kind, stage, debit, credit, amount, excess, pending_id, *_, fallbacks = posting
    if not 0 < len(key) <= LONGEST_KEY:
        raise InvalidPosting(f"a transfer's key has 1 to {LONGEST_KEY} characters: {key!r}")
    if not 0 < len(kind) <= LONGEST_KIND:
        raise InvalidPosting(f"{key}: a kind has 1 to {LONGEST_KIND} characters: {kind!r}")
    if not 0 < amount <= LARGEST_AMOUNT_MICRO and not (amount == 0 and stage == Stage.POST and excess):
        raise InvalidPosting(f"{key}: the amount must be positive and at most what an account can hold, not {amount}")
    if excess and not (0 < excess <= LARGEST_AMOUNT_MICRO and stage == Stage.POST):
        raise InvalidPosting(f"{key}: only a post out of a hold has an excess, and no negative one: {excess}")
    if (pending_id is None) != (stage < Stage.POST):
        raise InvalidPosting(f"{key}: exactly a post or release names the hold it uses")
    if debit == credit:
        raise InvalidPosting(f"{key}: from {debit} to itself")
    if fallbacks and stage != Stage.POSTED:
        raise InvalidPosting(f"{key}: a hold has one account, without fallbacks")


def check_all(postings: Iterable[Posting]) -> None:
    """Raise InvalidPosting for the first posting that cannot be booked."""
    for posting in postings:
        key, kind, stage, debit, credit, amount, excess, pending_id, _, _, fallbacks = posting
        # The usual case in one expression; whatever fails it is looked at closely.
        if not (0 < amount <= LARGEST_AMOUNT_MICRO and not excess and not fallbacks and debit != credit
                and (pending_id is None) == (stage < POST) and 0 < len(key) <= LONGEST_KEY
                and 0 < len(kind) <= LONGEST_KIND):
            check(posting)


def touched(postings: Iterable[Posting]) -> set[AccountRef]:
    """Return the accounts whose balances the postings change: those to lock."""
    accounts: set[AccountRef] = set()
    for posting in postings:
        accounts.add(posting.debit)
        if posting.stage == POSTED or posting.stage == POST:
            accounts.add(posting.credit)
            accounts.update(posting.fallbacks)
    return accounts


def net(postings: Iterable[Posting]) -> dict[AccountRef, Delta]:
    """Return what postings without fallbacks do to each account, all together."""
    sums: dict[AccountRef, list[int]] = {}  # posted and held
    for _, _, stage, debit, credit, amount, excess, *_ in postings:
        source = sums.get(debit)
        if source is None:
            source = sums[debit] = [0, 0]
        if stage == PENDING:
            source[1] += amount
        elif stage == RELEASE:
            source[1] -= amount
        else:
            if stage == POST:
                source[1] -= amount + excess
            source[0] -= amount
            target = sums.get(credit)
            if target is None:
                target = sums[credit] = [0, 0]
            target[0] += amount
    return {account: Delta(posted, held) for account, (posted, held) in sums.items()}


def add(one: dict[AccountRef, Delta], other: dict[AccountRef, Delta]) -> dict[AccountRef, Delta]:
    """Return what two batches do together."""
    both = dict(one)
    for account, delta in other.items():
        first = both.get(account)
        both[account] = delta if first is None else Delta(
            first.posted_micro + delta.posted_micro, first.held_micro + delta.held_micro)
    return both


def split(posting: Posting, free_micro: dict[AccountRef, int]) -> list[Posting]:
    """
    Return the parts in which a posting with fallbacks is paid, given what each account has free; the last account
    pays whatever is left, overdrawn or not (the ledger refuses where it must). `free_micro` is reduced.
    """
    parts: list[Posting] = []
    left = posting.amount_micro
    sources = (posting.debit, *posting.fallbacks)
    for source in sources:
        part = left if source is sources[-1] else min(left, max(free_micro[source], 0))
        if part:
            number = len(parts)
            parts.append(posting._replace(
                debit=source, amount_micro=part, fallbacks=(),
                key=posting.key if not number else f"{posting.key}+{number}", id=None if number else posting.id))
            free_micro[source] -= part
            left -= part
        if not left:
            break
    return parts
