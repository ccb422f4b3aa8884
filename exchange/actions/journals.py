"""A market's journal as a file, and such a file read back: what the book was told, entry by entry."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from exchange.actions.market_state import MarketState, book_terms, empty_state, journal, replay
from exchange.domain.book import Book
from exchange.domain.journal_records import BadJournal, Header, from_csv, pack, to_csv, unpack
from exchange.domain.orders import Command, EventRow, MarketTerms, Phase
from exchange.models import Market

CSV_MARK = "# "


class Recorder(Book):
    """A book that keeps what it is told."""

    def __init__(self, terms: MarketTerms, phase: int) -> None:
        super().__init__(terms, phase)
        self.told: list[Command] = []

    def apply_each(self, commands: Iterable[Command]) -> Iterator[list[EventRow]]:
        """Keep each command and apply it: whatever the book is told comes this way."""
        return super().apply_each(self._kept(commands))

    def _kept(self, commands: Iterable[Command]) -> Iterator[Command]:
        for command in commands:
            self.told.append(command)
            yield command


@dataclass(frozen=True, slots=True)
class JournalFile:
    """
    A journal as it leaves its database. `entries` counts the market's journal; those that never reached the book
    (a replacement whose hold was too small) change nothing and are left out of `commands`.
    """

    header: Header
    commands: Sequence[Command]
    entries: int
    state_hash: str

    def records(self) -> bytes:
        """Return it as 32-byte records."""
        return pack(self.header, self.commands)

    def csv(self) -> str:
        """Return it as CSV, its header as JSON in a first line of its own."""
        header = json.dumps(asdict(self.header), ensure_ascii=False, sort_keys=True)
        return f"{CSV_MARK}{header}\n{to_csv(self.commands)}"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a journal file gives: the book's state hash, and a digest over all events in order."""

    state_hash: str
    events_digest: str
    commands: int
    open_orders: int


def export_journal(market: Market) -> JournalFile:
    """Return a market's journal, by replaying it from the beginning into a book that keeps what it is told."""
    state: MarketState = empty_state(market)
    recorder = Recorder(state.book.terms, Phase.SCHEDULED)
    state.book = recorder
    orders: dict[int, str] = {}
    owners: dict[int, str] = {}
    entries = 0
    for entry, command in journal(market):
        replay(state, entry, command)
        state.forget()
        entries += 1
        if command is not None:
            owners[command.organization_id] = str(command.organization_id)
            if entry.command_id is not None and entry.kind < 10:
                orders[entry.sequence] = str(entry.command_id)
    header = Header(
        market=str(market.pk),
        tick_nano=market.tick_nano,
        lot_tokens=state.book.terms.lot_tokens,
        orders=orders,
        owners=owners,
        terms=asdict(book_terms(market)),
    )
    return JournalFile(header, recorder.told, entries, recorder.state_hash())


def read_journal(content: bytes) -> tuple[Header, list[Command]]:
    """
    Return header and commands of a file of either form.

    :raises BadJournal: if it is neither.
    """
    if not content.startswith(CSV_MARK.encode()):
        return unpack(content)
    try:
        first, _, rest = content.decode().partition("\n")
        given = json.loads(first.removeprefix(CSV_MARK))
        for name in ("orders", "owners"):
            given[name] = {int(number): id_ for number, id_ in given[name].items()}
        header = Header(**given)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadJournal("The first line of a CSV journal is “# ” and its header as JSON.") from error
    return header, from_csv(rest)


def rebuild(header: Header, commands: Sequence[Command]) -> Rebuilt:
    """
    Play a journal file into an empty book.

    :raises BadJournal: if its header does not say what the market admitted.
    """
    try:
        terms = MarketTerms(**header.terms)  # type: ignore[arg-type]  # whole numbers, and one flag
    except TypeError as error:
        raise BadJournal("The header does not say what the market admitted.") from error
    book = Book(terms, Phase.SCHEDULED)
    digest = hashlib.blake2b(digest_size=16)
    for command in commands:
        digest.update(repr(book.apply(command)).encode())
    return Rebuilt(book.state_hash(), digest.hexdigest(), len(commands), len(book.orders))
