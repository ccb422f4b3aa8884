"""The operator's console opens with today at a glance: markets, usage, what waits for a person."""

from datetime import date, timedelta
from typing import Any

from django.db.models import Q, Sum
from django.http import HttpRequest
from django.utils.translation import gettext as _

from billing.domain.accounts import AccountKind
from billing.models import Account
from core import clock
from core.templatetags.ciyuan import standard_tokens, tokens, yuan
from core.trading_calendar import holidays_published
from exchange import page_queries
from exchange.models import Market
from identity.models import AuditEntry
from metering_ingest.domain.classes import REQUESTS
from metering_ingest.models import Discrepancy, Meter, RejectedEvent, UsageRollup

NOVEMBER = 11


def context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the figures to the console's first page; unfold calls it."""
    now = clock.now()
    next_year = now.year + 1
    hour = now.replace(minute=0, second=0, microsecond=0)
    # A request is reported by up to three meters, and stands in a row of each of its classes: each counts once.
    providers = Meter.objects.filter(role=Meter.Role.PROVIDER)
    usage = UsageRollup.objects.filter(
        hour__gte=hour - timedelta(hours=1), meter_id__in=providers.values("pk")
    ).aggregate(events=Sum("events", filter=Q(token_class=REQUESTS), default=0), work=Sum("work_micro_st", default=0))
    sums = dict(
        Account.objects.filter(kind__in=(AccountKind.DEFAULT_FUND, AccountKind.SUSPENSE))
        .values_list("kind")
        .annotate(total=Sum("posted_micro"))
    )
    phases = page_queries.phase_counts()
    waiting = RejectedEvent.objects.filter(resolved_at__isnull=True).count()
    disputes = Discrepancy.objects.filter(state=Discrepancy.State.OPEN).count()
    halted = Market.objects.filter(halted=True).exclude(phase="settled").count()
    accounts = "/admin/billing/account/?kind__exact"
    context["figures"] = [
        (_("Calls open"), tokens(phases.get("call", 0)), "/admin/exchange/market/?phase__exact=call"),
        (_("Delivering"), tokens(phases.get("delivering", 0)), "/admin/exchange/market/?phase__exact=delivering"),
        (_("Markets halted"), tokens(halted), "/admin/exchange/market/?halted__exact=1"),
        (_("Requests, this hour and the last"), tokens(usage["events"]), "/usage"),
        (_("Standard tokens in them"), standard_tokens(usage["work"]), "/usage"),
        (_("Events set aside"), tokens(waiting), "/usage/rejected"),
        (_("Discrepancies open"), tokens(disputes), None),
        (_("Default account"), yuan(sums.get(AccountKind.DEFAULT_FUND, 0)), f"{accounts}=default_fund"),
        (_("Suspense: payments to match"), yuan(sums.get(AccountKind.SUSPENSE, 0)), f"{accounts}=suspense"),
    ]
    context["phases"] = [(Market.Phase(name).label, count) for name, count in phases.items() if count]
    context["next_calls"] = list(
        Market.objects.select_related("grade").filter(phase="call").order_by("call_closes_at", "pk")[:8]
    )
    context["latest_changes"] = list(AuditEntry.objects.select_related("user", "organization").order_by("-id")[:8])
    unpublished = now.month >= NOVEMBER and not holidays_published(date(next_year, 1, 1))
    context["holidays_missing"] = next_year if unpublished else None
    return context
