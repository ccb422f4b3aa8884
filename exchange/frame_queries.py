"""Named reads of published frames, and the markets that they make, which each process keeps and brings up to date."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from uuid import UUID

from django.db.models import Max, Q

from exchange.domain.frames import Frame, PublicMarket, unpack, unpack_rows
from exchange.domain.numbering import entry_id, id_range, number_of
from exchange.domain.orders import Phase
from exchange.models import JournalEntry, Market, MarketFrame, OwnFrame

KEPT_MARKETS = 64
_kept: "OrderedDict[int, tuple[Lock, PublicMarket]]" = OrderedDict()
_kept_lock = Lock()


def frames_after(market_id: int, after: int, *, until: int | None = None, most: int | None = None) -> Iterator[Frame]:
    """Yield a market's frames that end after a journal number and at `until` at the latest, in order."""
    first, last = id_range(market_id, after)
    if until is not None:
        last = entry_id(market_id, until)
    rows = MarketFrame.objects.filter(id__gte=first, id__lte=last).order_by("id").values_list("content", flat=True)
    for content in rows[:most] if most is not None else rows.iterator(chunk_size=500):
        yield unpack(bytes(content))


def bring_up_to_date(market: PublicMarket, *, until: int | None = None) -> PublicMarket:
    """Apply the frames that have been committed since, and return the market."""
    for frame in frames_after(market.market_id, market.sequence, until=until):
        market.apply(frame)
    return market


def public_market(market_id: int, *, until: int | None = None, before: int | None = None) -> PublicMarket:
    """
    Return a market as its frames tell it: now, or after the last frame that ends at `until` or earlier, or before the
    frame that holds journal entry `before`.
    """
    first, last = id_range(market_id)
    if before is not None:
        until = before - 1
    if until is not None:
        last = entry_id(market_id, until)
    found = PublicMarket(market_id)
    row = MarketFrame.objects.filter(id__gte=first, id__lte=last, book__isnull=False).order_by("-id").first()
    if row is not None and row.book is not None:
        found.begin(unpack(bytes(row.content)), unpack_rows(bytes(row.book)))
    return bring_up_to_date(found, until=until)


class Reading:
    """A market as it is now, for as long as the `with` block lasts: others of this process wait for it."""

    def __init__(self, market_id: int) -> None:
        self.market_id = market_id

    def __enter__(self) -> PublicMarket:
        with _kept_lock:
            if self.market_id not in _kept:
                _kept[self.market_id] = (Lock(), PublicMarket(self.market_id))
            _kept.move_to_end(self.market_id)
            while len(_kept) > KEPT_MARKETS:
                _kept.popitem(last=False)
            self._lock, market = _kept[self.market_id]
        self._lock.acquire()
        try:
            if market.sequence == 0:
                market = public_market(self.market_id)
                with _kept_lock:
                    _kept[self.market_id] = (self._lock, market)
                return market
            return bring_up_to_date(market)
        except BaseException:
            forget_public_markets()
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def forget_public_markets() -> None:
    """Read every market anew."""
    with _kept_lock:
        _kept.clear()


def end_of_frame(market_id: int, sequence: int) -> int:
    """Return the last journal entry of the frame that holds an entry."""
    row = MarketFrame.objects.filter(id__gte=entry_id(market_id, sequence), id__lte=id_range(market_id)[1])
    return number_of(row.order_by("id").values_list("id", flat=True)[0])


def begin_of_call(market_id: int, sequence: int) -> int:
    """Return the journal entry before the frame in which the call began that ended with an auction."""
    frames = MarketFrame.objects.filter(
        id__gte=id_range(market_id)[0], id__lt=entry_id(market_id, sequence), new_phase=True
    )
    for row in frames.order_by("-id")[:10]:
        if any(phase == CALL for phase, _ in unpack(bytes(row.content)).phases):
            return row.prev_sequence
    return 0


def last_sequence(market_id: int) -> int:
    """Return the journal number that a market's frames reach to."""
    first, last = id_range(market_id)
    row = MarketFrame.objects.filter(id__gte=first, id__lte=last).order_by("-id").values_list("id", flat=True).first()
    return 0 if row is None else number_of(row)


@dataclass(frozen=True, slots=True)
class PhaseChange:
    """A phase that a market entered; `sequence` is 0 where the journal does not say so."""

    phase: str
    at: datetime
    sequence: int
    cause: str


CALL = int(Phase.CALL)
CAUSES = {0: "schedule", 1: "volatility"}
PHASE_NAMES = {0: "scheduled", 1: "call", 2: "uncross", 3: "continuous", 4: "closed"}


def phase_changes(market: Market) -> list[PhaseChange]:
    """Return the phases that a market has been through, the first first, and the halts between."""
    first, last = id_range(market.pk)
    found: list[PhaseChange] = []
    rows = MarketFrame.objects.filter(id__gte=first, id__lte=last, new_phase=True).order_by("id")
    for row in rows:
        frame = unpack(bytes(row.content))
        found += [
            PhaseChange(PHASE_NAMES[phase], row.at, frame.sequence, CAUSES[cause]) for phase, cause in frame.phases
        ]
    if market.phase in (Market.Phase.DELIVERING, Market.Phase.SETTLED):
        found.append(PhaseChange("delivering", market.window_start, 0, "schedule"))
    if market.settled_at is not None:
        found.append(PhaseChange("settled", market.settled_at, 0, "schedule"))
    return found


def own_frames(
    organization_id: int, after: dict[int, int], *, until: int | None = None, most: int = 200
) -> list[OwnFrame]:
    """Return a member's frames in some markets, each after a number, by market and sequence."""
    wanted = Q(pk__in=[])
    for market_id, sequence in after.items():
        wanted |= Q(market_id=market_id, sequence__gt=sequence)
    rows = OwnFrame.objects.filter(wanted, organization_id=organization_id)
    if until is not None:
        rows = rows.filter(sequence__lte=until)
    return list(rows.order_by("market_id", "sequence")[:most])


def own_positions(organization_id: int) -> dict[int, int]:
    """Return where a member's frames stand, by market: of its markets whose trading is not over."""
    rows = OwnFrame.objects.filter(organization_id=organization_id, market_id__in=live_markets())
    return dict(rows.values_list("market_id").annotate(last=Max("sequence")).order_by("market_id"))


def live_markets() -> list[int]:
    """Return the markets in which there is trading now."""
    return list(Market.objects.filter(phase__in=["call", "continuous"]).values_list("pk", flat=True))


def prev_own_sequence(frame: OwnFrame) -> int:
    """Return the number of the frame before, of the same member and market; 0 for the first."""
    rows = OwnFrame.objects.filter(
        organization_id=frame.organization_id, market_id=frame.market_id, sequence__lt=frame.sequence
    )
    return rows.order_by("-sequence").values_list("sequence", flat=True).first() or 0


def order_ids(market_id: int, numbers: list[int]) -> list[UUID]:
    """Return the ids of orders by their numbers."""
    ids = [entry_id(market_id, number) for number in numbers]
    rows = JournalEntry.objects.filter(id__in=ids, command_id__isnull=False).values_list("command_id", flat=True)
    return [command_id for command_id in rows if command_id is not None]
