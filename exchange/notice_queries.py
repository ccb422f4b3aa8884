"""What everybody is told: halts, annulled auctions, changes of rules; read from facts that stand anyway."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from exchange.models import AuctionResult, Market
from identity.models import AuditEntry
from providers.models import Grade

HALTS = ("market.halt", "market.kill", "market.resume")
ANNULMENT = "auction.annul"
GRADES = ("grade.publish", "grade.change")
HOUSE_LIMITS = "limits.set"
VERBS = (*HALTS, ANNULMENT, *GRADES, HOUSE_LIMITS)
NEWS_LASTS = timedelta(days=2)
MOST_HALTED_NAMED = 5


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice as it is shown; `changes` are (field, before, after) of what changed and had another value."""

    id: int
    at: datetime
    verb: str
    reason: str
    market: Market | None
    auction_id: int | None
    grade: Grade | None
    changes: tuple[tuple[str, Any, Any], ...]


def published() -> "QuerySet[AuditEntry]":
    """Return the entries of the audit log that concern everybody; what concerns one member is not among them."""
    rows = AuditEntry.objects.filter(verb__in=VERBS)
    return rows.exclude(verb=HOUSE_LIMITS, subject__startswith="organization:")


def changes_of(entry: AuditEntry) -> tuple[tuple[str, Any, Any], ...]:
    """Return what an entry changed of a grade or of the house's limits: field, value before, value after."""
    if entry.verb not in ("grade.change", HOUSE_LIMITS):
        return ()
    before, after = entry.before or {}, entry.after or {}
    return tuple((name, before.get(name), value) for name, value in after.items() if before.get(name) != value)


def subject_id(entry: AuditEntry) -> str:
    """Return what an entry is about, without its kind: `12` of `market:12`."""
    return entry.subject.partition(":")[2]


def shown(entries: Iterable[AuditEntry]) -> list[Notice]:
    """Return entries with the markets and grades that they name: three queries, however many entries."""
    rows = list(entries)
    auctions = {int(subject_id(row)) for row in rows if row.verb == ANNULMENT}
    market_of = dict(AuctionResult.objects.filter(pk__in=auctions).values_list("pk", "market_id")) if auctions else {}
    ids = {int(subject_id(row)) for row in rows if row.verb in HALTS} | set(market_of.values())
    markets = Market.objects.select_related("grade").in_bulk(ids)
    slugs = {subject_id(row) for row in rows if row.verb in GRADES}
    grades = {grade.slug: grade for grade in Grade.objects.filter(slug__in=slugs)} if slugs else {}
    notices = []
    for row in rows:
        about = subject_id(row)
        auction = int(about) if row.verb == ANNULMENT else None
        market = markets.get(int(about) if row.verb in HALTS else market_of.get(auction or 0, 0))
        notices.append(Notice(
            id=row.pk, at=row.at, verb=row.verb, reason=str((row.after or {}).get("reason", "")), market=market,
            auction_id=auction, grade=market.grade if market else grades.get(about), changes=changes_of(row),
        ))  # fmt: skip
    return notices


def halted_markets() -> list[Market]:
    """Return the markets that stand still now, the next to deliver first."""
    rows = Market.objects.select_related("grade").filter(halted=True, phase__in=("scheduled", "call", "continuous"))
    return list(rows.order_by("window_start", "pk")[:MOST_HALTED_NAMED])


def reason_of_halt(market: Market) -> str:
    """Return why a market is halted, as everybody was told; empty for one that is not."""
    if not market.halted:
        return ""
    rows = AuditEntry.objects.filter(subject=f"market:{market.pk}", verb__in=HALTS[:2]).order_by("-at", "-pk")
    after = rows.values_list("after", flat=True).first() or {}
    return str(after.get("reason", ""))


def news(now: datetime) -> list[Notice]:
    """Return the newest notice that touches what trades already, where it is not two days old."""
    recent = published().filter(at__gt=now - NEWS_LASTS).exclude(verb="grade.publish")
    return shown(recent.order_by("-pk")[:1])
