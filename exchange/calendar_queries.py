"""A provider's calendar of capacity: its deployments by the days of a week, with the windows that each could offer."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from core.periods import SHANGHAI, Period, shanghai_date, shanghai_day
from exchange.models import Market
from exchange.page_queries import markets_to_offer_in
from providers.models import Capacity, Deployment

DAYS = 7
MOST_WEEKS_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Slot:
    """A window of a day for one deployment: free to be offered, or what has been published in it."""

    window: Period
    market: Market | None
    capacity: Capacity | None
    value: str

    @property
    def label(self) -> str:
        """Return the window's times of day in Shanghai, such as 00:00–09:00; midnight at its end is 24:00."""
        first, last = self.window.start.astimezone(SHANGHAI), self.window.end.astimezone(SHANGHAI)
        seconds = "%H:%M:%S" if first.second or last.second else "%H:%M"
        ends = "24:00" if last.date() > first.date() and last.strftime("%H%M%S") == "000000" else f"{last:{seconds}}"
        return f"{first:{seconds}}–{ends}"

    @property
    def minutes(self) -> int:
        """Return the window's length."""
        return int((self.window.end - self.window.start).total_seconds()) // 60

    @property
    def free(self) -> bool:
        """Whether capacity may be published in it."""
        return self.capacity is None and self.market is not None


@dataclass(frozen=True, slots=True)
class Row:
    """A deployment with the slots of each day shown."""

    deployment: Deployment
    days: list[list[Slot]]


@dataclass(frozen=True, slots=True)
class Calendar:
    """A week of Shanghai days, and what each deployment offers or could offer in it."""

    week: int
    days: list[date]
    rows: list[Row]
    more: bool


def calendar(provider_id: int, *, week: int, now: datetime) -> Calendar:
    """Return the week that is `week` weeks from today on, by three reads however much there is."""
    first = shanghai_date(now) + timedelta(days=DAYS * week)
    days = [first + timedelta(days=n) for n in range(DAYS)]
    shown = Period(shanghai_day(first).start, shanghai_day(days[-1]).end)
    active = Deployment.objects.select_related("grade").filter(
        provider_id=provider_id, status=Deployment.Status.ACTIVE
    )
    deployments = list(active.order_by("name", "pk"))
    markets: defaultdict[int, list[Market]] = defaultdict(list)
    more = False
    for market in markets_to_offer_in({one.grade_id for one in deployments}, now=now):
        if shown.start <= market.window_start < shown.end:
            markets[market.grade_id].append(market)
        more = more or market.window_start >= shown.end
    published: defaultdict[int, list[Capacity]] = defaultdict(list)
    taken = Capacity.objects.select_related("offer").filter(
        deployment__in=deployments, withdrawn_at__isnull=True, window_start__lt=shown.end, window_end__gt=shown.start
    )
    for capacity in taken.order_by("window_start"):
        published[capacity.deployment_id].append(capacity)
    rows = [Row(one, _slots(one, days, markets[one.grade_id], published[one.pk])) for one in deployments]
    return Calendar(week, days, rows, more and week < MOST_WEEKS_AHEAD)


def _slots(
    deployment: Deployment, days: Sequence[date], markets: Sequence[Market], published: Sequence[Capacity]
) -> list[list[Slot]]:
    """Return a deployment's slots of each day: what is published, and the markets' windows that it leaves free."""
    by_day: dict[date, list[Slot]] = {day: [] for day in days}
    for capacity in published:
        window = Period(capacity.window_start, capacity.window_end)
        day = max(shanghai_date(window.start), days[0])
        by_day[day].append(Slot(window, None, capacity, ""))
    for market in markets:
        window = market.window
        if not any(one.window_start < window.end and window.start < one.window_end for one in published):
            by_day[shanghai_date(window.start)].append(Slot(window, market, None, f"{deployment.pk}:{market.pk}"))
    return [sorted(slots, key=lambda slot: slot.window.start) for slots in by_day.values()]
