"""What everybody is told: halts, stops, annulled auctions, changes of rules; read from facts that stand anyway."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import BigIntegerField, Case, OuterRef, QuerySet, Subquery, TextField, When
from django.db.models.functions import Cast, Substr
from django.utils.translation import gettext as _

from exchange.models import AuctionResult, Market
from identity.models import AuditEntry, Organization
from providers.models import Grade

HALTS = ("market.halt", "market.kill", "market.resume")
ANNULMENT = "auction.annul"
GRADES = ("grade.publish", "grade.change")
HOUSE_LIMITS = "limits.set"
#: Stops of one member's trading and their ends: told to everybody with the reason and without the member's name.
STOPS = ("trading.stop", "trading.allow")
VERBS = (*HALTS, ANNULMENT, *GRADES, HOUSE_LIMITS, *STOPS)
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
    """
    Return the entries of the audit log that everybody is told of; limits of one member are not among them.

    Of a stopped member an entry carries `member_name` and `member_name_zh`, which `reason_told` leaves out.
    """
    rows = AuditEntry.objects.filter(verb__in=VERBS).exclude(verb=HOUSE_LIMITS, subject__startswith="organization:")
    member = Organization.objects.filter(
        pk=Cast(Substr(OuterRef("subject"), len("organization:") + 1), BigIntegerField())
    )
    return rows.annotate(**{
        f"member_{name}": Case(
            When(verb__in=STOPS, then=Subquery(member.values(name)[:1])), default=None, output_field=TextField()
        )
        for name in ("name", "name_zh")
    })  # fmt: skip


def reason_told(entry: AuditEntry) -> str:
    """Return the reason that everybody is told of an entry of `published`: a stopped member is not named in it."""
    reason = str((entry.after or {}).get("reason", ""))
    for name in (getattr(entry, "member_name", None), getattr(entry, "member_name_zh", None)):
        if name:
            reason = re.sub(re.escape(name), _("the member"), reason, flags=re.IGNORECASE)
    return reason


def market_id_of(entry: AuditEntry) -> int | None:
    """Return the market that an entry names: the one halted, or the one in which a member is stopped; else None."""
    if entry.verb in STOPS:
        market: int | None = (entry.after or {}).get("market")
        return market
    return int(subject_id(entry)) if entry.verb in HALTS else None


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
    named = {number for row in rows if (number := market_id_of(row)) is not None}
    markets = Market.objects.select_related("grade").in_bulk(named | set(market_of.values()))
    slugs = {subject_id(row) for row in rows if row.verb in GRADES}
    grades = {grade.slug: grade for grade in Grade.objects.filter(slug__in=slugs)} if slugs else {}
    notices = []
    for row in rows:
        about = subject_id(row)
        auction = int(about) if row.verb == ANNULMENT else None
        market = markets.get(market_id_of(row) or market_of.get(auction or 0) or 0)
        notices.append(Notice(
            id=row.pk, at=row.at, verb=row.verb, reason=reason_told(row), market=market, auction_id=auction,
            grade=market.grade if market else grades.get(about), changes=changes_of(row),
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
    """Return the newest notice that touches what everybody trades already, where it is not two days old."""
    recent = published().filter(at__gt=now - NEWS_LASTS).exclude(verb__in=("grade.publish", *STOPS))
    return shown(recent.order_by("-pk")[:1])
