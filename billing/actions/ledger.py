"""
The one way into the ledger: `post_all`.

It locks the accounts whose balances change, sorted, in one statement; inserts a row per movement by COPY; adds up what
they do to each account; and updates every account once. Called last in a transaction, once, after every other lock.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from operator import attrgetter
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from django.db import IntegrityError, connection, transaction

from billing.actions import copy
from billing.actions.journal import open_day
from billing.domain.accounts import AccountRef
from billing.domain.bulk import Bulk, check_bulk, net_bulk
from billing.domain.postings import Delta, Posting, add, check_all, net, split, touched
from billing.models.ledger import RANDOM_ID, Transfer
from core import prepared
from core.errors import Conflict
from core.ids import new_id
from core.money import format_yuan
from core.transactions import assert_in_transaction, sqlstate

UNIQUE_VIOLATION = "23505"


class InsufficientFunds(Conflict):
    """An account has not got what a movement or hold takes from it. Nothing was booked."""

    code = "insufficient-funds"
    title = "Insufficient funds"

    def __init__(self, account: AccountRef, *, needed_micro: int, available_micro: int) -> None:
        super().__init__(
            f"This needs ¥{format_yuan(needed_micro)}, and {account.kind.value} has ¥{format_yuan(available_micro)}"
            " free. Deposit the difference, or cancel orders that hold money.",
            needed=format_yuan(needed_micro), available=format_yuan(available_micro))
        self.account = account
        self.needed_micro = needed_micro
        self.available_micro = available_micro


class TransferKeyReused(Conflict):
    """A transfer with this key exists and says something else."""

    code = "transfer-key-reused"

    def __init__(self, key: str) -> None:
        super().__init__(f"The ledger has a transfer “{key}” already, with other accounts or another amount.")
        self.key = key


class Balance(NamedTuple):
    """A locked account: its row's id and what stands on it."""

    id: int
    posted_micro: int
    held_micro: int

    @property
    def free_micro(self) -> int:
        """Return what could be spent now."""
        return self.posted_micro - self.held_micro


def lock_accounts(refs: Collection[AccountRef]) -> dict[AccountRef, Balance]:
    """
    Lock accounts until commit, in the order of their ids, and return their balances; make those that are missing.

    For a caller that decides by balances before it posts: it locks here everything that its `post_all` will touch.
    """
    assert_in_transaction()
    wanted = list(refs)
    rows = prepared.execute(_FIND_AND_LOCK, [*_found_by(wanted), len(wanted)]).fetchall()
    if rows:
        return {wanted[number - 1]: Balance(id_, posted, held) for number, id_, posted, held in rows}
    return _lock(_ensure(refs), refs)


def post_all(
    postings: Sequence[Posting], *, now: datetime, bulks: Sequence[Bulk] = (),
    locked: Mapping[AccountRef, Balance] = MappingProxyType({}), fresh: bool = False,
) -> list[UUID]:
    """
    Book the postings, and movements in bulk, all or none; return the postings' ids in order (of parts, the first).

    What is booked already under the same key, with the same content, changes nothing and returns the first one's id.
    `locked` is what the caller has from `lock_accounts`, as it is still. `fresh` says that nothing of it can be
    booked already (the caller has made the ids in this transaction), and that a refusal ends the transaction.

    :raises InsufficientFunds: an account that may not be overdrawn would be; nothing is booked.
    :raises TransferKeyReused: a key is booked already with another content; nothing is booked.
    :raises InvalidPosting: a posting that makes no sense: a defect of the caller.
    """
    assert_in_transaction()
    if not postings and not bulks:
        return []
    check_all(postings)
    for bulk in bulks:
        check_bulk(bulk)
    day = open_day(now)  # before the accounts: whoever waits for a closing day holds none of them
    given = [posting if posting.id else posting._replace(id=new_id()) for posting in postings]
    changed = touched(given).union(*map(net_bulk, bulks))
    named = changed.union([posting.credit for posting in given], *(bulk.accounts for bulk in bulks))
    ids = _ensure(named.difference(locked)) | {ref: balance.id for ref, balance in locked.items()}
    waiting = changed.difference(locked)
    balances = {**locked, **_lock(ids, waiting)} if waiting else dict(locked)
    if fresh:
        _book(given, bulks, balances, ids, now, day)
        return [posting.id for posting in given if posting.id]
    try:
        with transaction.atomic():  # so that a caller may catch a refusal and go on
            _book(given, bulks, balances, ids, now, day)
        return [posting.id for posting in given if posting.id]
    except IntegrityError as error:
        if sqlstate(error) != UNIQUE_VIOLATION:
            raise
    one_by_one = [*postings, *(posting for bulk in bulks for posting in bulk.postings())]
    return _book_the_missing(one_by_one, balances, ids, now, day)[: len(postings)]


def _book_the_missing(
    postings: Sequence[Posting], balances: dict[AccountRef, Balance], ids: dict[AccountRef, int], now: datetime,
    day: date,
) -> list[UUID]:
    """Some are booked already: check that they say the same, and book the rest."""
    known = _booked(postings)
    answer: list[UUID] = []
    fresh: list[Posting] = []
    for posting in postings:
        parts = known.get(posting.key)
        if parts is None:
            fresh.append(posting if posting.id else posting._replace(id=new_id()))
            answer.append(fresh[-1].id)  # type: ignore[arg-type]
        elif _same(posting, parts, ids):
            answer.append(parts[0].id)
        else:
            raise TransferKeyReused(posting.key)
    with transaction.atomic():
        _book(fresh, (), balances, ids, now, day)
    return answer


def _book(
    postings: Sequence[Posting], bulks: Sequence[Bulk], balances: dict[AccountRef, Balance],
    ids: dict[AccountRef, int], now: datetime, day: date,
) -> None:
    """Insert rows and change balances; the accounts are locked."""
    deltas: dict[AccountRef, Delta] = {}
    for bulk in bulks:
        copy.insert_bulk(bulk, ids, booked_at=now, booked_on=day)
        deltas = add(deltas, net_bulk(bulk))
    if postings:
        parts = _pay(postings, balances, deltas)
        # in the order of ids: two calls with the same keys wait for each other in one order
        copy.insert_postings(sorted(parts, key=attrgetter("id.int")), ids, booked_at=now, booked_on=day)
        deltas = add(deltas, net(parts))
    for ref, delta in deltas.items():
        balance = balances[ref]
        free = balance.free_micro + delta.posted_micro - delta.held_micro
        if free < 0 and not ref.kind.may_overdraw:
            raise InsufficientFunds(
                ref, needed_micro=delta.held_micro - delta.posted_micro, available_micro=balance.free_micro)
    _update(deltas, balances)


def _pay(
    postings: Sequence[Posting], balances: dict[AccountRef, Balance], deltas: dict[AccountRef, Delta]
) -> Sequence[Posting]:
    """Replace each posting with fallbacks by the parts that the balances allow, after all others have been done."""
    if not any(posting.fallbacks for posting in postings):
        return postings
    parts = [posting for posting in postings if not posting.fallbacks]
    free = {ref: balance.free_micro for ref, balance in balances.items()}
    for ref, delta in add(deltas, net(parts)).items():
        free[ref] += delta.posted_micro - delta.held_micro
    for posting in postings:
        if posting.fallbacks:
            parts += [part if part.id else part._replace(id=new_id()) for part in split(posting, free)]
    return parts


_UPDATE = """
UPDATE billing_account AS a SET posted_micro = a.posted_micro + d.posted, held_micro = a.held_micro + d.held
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS d (id, posted, held) WHERE a.id = d.id
"""
_FIND = """
SELECT w.number, a.id
FROM unnest(string_to_array(%s, E'\\x1f'), %s::bigint[], string_to_array(%s, E'\\x1f'))
     WITH ORDINALITY AS w (kind, organization, dotted_scope, number)
JOIN billing_account a
  ON coalesce(a.organization_id, 0) = w.organization AND a.kind = w.kind AND a.scope = substr(w.dotted_scope, 2)
"""
# Nothing is locked where one is missing: it is made before any lock is taken.
_FIND_AND_LOCK = f"""
WITH found AS MATERIALIZED ({_FIND})
SELECT found.number, a.id, a.posted_micro, a.held_micro FROM found JOIN billing_account a ON a.id = found.id
WHERE (SELECT count(*) FROM found) = %s ORDER BY a.id FOR NO KEY UPDATE OF a
"""
_CREATE = """
INSERT INTO billing_account (kind, organization_id, scope, may_overdraw, posted_micro, held_micro)
SELECT *, 0, 0 FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::boolean[])
ON CONFLICT DO NOTHING
"""
_LOCK = """
SELECT id, posted_micro, held_micro FROM billing_account WHERE id = ANY(%s::bigint[])
ORDER BY id FOR NO KEY UPDATE
"""


def _array(numbers: Iterable[int]) -> str:
    """Return numbers as the text of an array: psycopg takes a microsecond for each element of a list."""
    return f"{{{','.join(map(str, numbers))}}}"


def _update(deltas: dict[AccountRef, Delta], balances: dict[AccountRef, Balance]) -> None:
    prepared.execute(_UPDATE, [
        _array(balances[ref].id for ref in deltas), _array(delta.posted_micro for delta in deltas.values()),
        _array(delta.held_micro for delta in deltas.values())])


def _ensure(refs: Collection[AccountRef]) -> dict[AccountRef, int]:
    """Return the ids of accounts, and make those that are missing: in one order, and before any lock is taken."""
    found = _find(list(refs))
    missing = sorted((ref for ref in refs if ref not in found), key=str)
    if missing:
        with connection.cursor() as cursor:
            cursor.execute(_CREATE, [
                [ref.kind.value for ref in missing], [ref.organization_id for ref in missing],
                [ref.scope for ref in missing], [ref.kind.may_overdraw for ref in missing]])
        found |= _find(missing)
    return found


def _find(wanted: list[AccountRef]) -> dict[AccountRef, int]:
    if not wanted:
        return {}
    return {wanted[number - 1]: id_ for number, id_ in prepared.execute(_FIND, _found_by(wanted)).fetchall()}


def _found_by(wanted: list[AccountRef]) -> list[str]:
    """Return the parameters of `_FIND`."""
    return [
        "\x1f".join([ref.kind.value for ref in wanted]), _array(ref.organization_id or 0 for ref in wanted),
        "\x1f".join([f".{ref.scope}" for ref in wanted])]  # dotted: a lone empty text would be no element


def _lock(ids: dict[AccountRef, int], refs: Iterable[AccountRef]) -> dict[AccountRef, Balance]:
    by_id = {ids[ref]: ref for ref in refs}
    rows = prepared.execute(_LOCK, [_array(by_id)]).fetchall()
    return {by_id[id_]: Balance(id_, posted, held) for id_, posted, held in rows}


def _booked(postings: Sequence[Posting]) -> dict[str, list[Transfer]]:
    """Return the parts that are booked of each key, the first part first."""
    by_id = {posting.id: posting.key for posting in postings if posting.id}
    keys = [f"{posting.key}+{number}" if number else posting.key
            for posting in postings for number in range(1 + len(posting.fallbacks)) if number or not posting.id]
    rows = [*Transfer.objects.filter(id__in=by_id), *Transfer.objects.filter(RANDOM_ID, key__in=keys)]
    known: dict[str, list[Transfer]] = {}
    for row in sorted(rows, key=lambda row: row.key):
        key = by_id.get(row.id, row.key)
        known.setdefault(key, []).append(row)
    for posting in postings:
        for number in range(1, 1 + len(posting.fallbacks)):
            known.setdefault(posting.key, []).extend(known.pop(f"{posting.key}+{number}", []))
    return {key: parts for key, parts in known.items() if parts}


def _same(posting: Posting, parts: list[Transfer], ids: dict[AccountRef, int]) -> bool:
    """Whether what is booked is what is asked for."""
    sources = {ids.get(ref) for ref in (posting.debit, *posting.fallbacks)}
    return sum(part.amount_micro for part in parts) == posting.amount_micro and all(
        (part.kind, part.stage, part.credit_id, part.excess_micro, part.pending_id)
        == (posting.kind, posting.stage, ids[posting.credit], posting.excess_micro, posting.pending_id)
        and part.debit_id in sources for part in parts)
