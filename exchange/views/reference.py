"""Public pages to look things up: what a request is in standard tokens and in ¥, and when markets trade."""

from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

from ciyuan.standard_token import StandardTokenError, Work, work
from django import forms
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from core import clock
from core.form_fields import QuantityField
from core.money import MICRO_PER_TOKEN, work_cost_micro
from exchange import page_queries
from exchange.models import Market
from providers.models import Grade

PER_PAGE = 50
ICS_MARKETS = 500


class RequestForm(forms.Form):
    """One request, as a user of a model thinks of it."""

    grade = forms.ModelChoiceField(
        queryset=Grade.objects.none(), to_field_name="slug", label=gettext_lazy("Grade"),
        empty_label=gettext_lazy("Choose …"),
    )  # fmt: skip
    input_tokens = QuantityField(max_length=20, label=gettext_lazy("Input tokens"))
    cached_tokens = QuantityField(max_length=20, required=False, label=gettext_lazy("of them from a cache"))
    output_tokens = QuantityField(max_length=20, label=gettext_lazy("Output tokens"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["grade"].queryset = Grade.objects.order_by("slug")  # type: ignore[attr-defined]
        self.fields["grade"].label_from_instance = page_queries.localized_name  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Worth:
    """A request in standard tokens, and what it costs at each price that is known; money in micro-yuan."""

    work: Work
    per_million_tokens: int
    prices: list[tuple[str, int, int]]


@require_GET
def standard_token(request: HttpRequest) -> HttpResponse:
    """What a standard token is, and what a request is worth."""
    asked = "grade" in request.GET
    form = RequestForm(request.GET if asked else None, initial={"input_tokens": "2,000", "output_tokens": "500"})
    worth = None
    if asked and form.is_valid():
        try:
            worth = _worth(**form.cleaned_data)
        except StandardTokenError as error:
            form.add_error("cached_tokens" if "cached" in error.field else None, str(error))
    return render(
        request, "exchange/standard_token.html", {"form": form, "worth": worth}, status=422 if form.errors else 200
    )


def _worth(*, grade: Grade, input_tokens: int, cached_tokens: int | None, output_tokens: int) -> Worth:
    card = grade.model_card.standard_card()
    found = work(card, input_tokens, cached_tokens or 0, output_tokens, grade.cached_share_thousandths)
    last = page_queries.past_auctions(grade_id=grade.pk).filter(price_nano__isnull=False).first()
    known = [(_("last auction"), last.price_nano if last else None), (_("reference price"), grade.reference_price_nano)]
    prices = [
        (name, nano, work_cost_micro(work_micro_st=found.total_micro_st, price_nano=nano))
        for name, nano in known
        if nano
    ]
    a_million = MICRO_PER_TOKEN * 1_000_000 // found.total_micro_st if found.total_micro_st else 0
    return Worth(found, a_million, prices)


@require_GET
def calendar(request: HttpRequest) -> HttpResponse:
    """When calls open and close and what they deliver, the next first."""
    rows = _ahead()
    return render(
        request, "exchange/calendar.html", {"page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))}
    )


@require_GET
def calendar_ics(request: HttpRequest) -> HttpResponse:
    """The calls ahead as an iCalendar file (RFC 5545), for people's own calendars."""
    stamp = "%Y%m%dT%H%M%SZ"
    now = clock.now().astimezone(UTC).strftime(stamp)
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Ciyuan//markets//ZH", "CALSCALE:GREGORIAN"]
    for market in _ahead()[:ICS_MARKETS]:
        name = page_queries.localized_name(market.grade).replace("\\", "\\\\").replace(",", "\\,").replace(";", "\\;")
        lines += [
            "BEGIN:VEVENT",
            f"UID:market-{market.pk}@{request.get_host()}",
            f"DTSTAMP:{now}",
            f"DTSTART:{market.call_opens_at.astimezone(UTC).strftime(stamp)}",
            f"DTEND:{market.call_closes_at.astimezone(UTC).strftime(stamp)}",
            _folded(f"SUMMARY:{_('Call auction')} {name}"),
            f"URL:{request.build_absolute_uri(f'/markets/{market.pk}')}",
            "END:VEVENT",
        ]
    lines.append("END:VCALENDAR")
    answer = HttpResponse("\r\n".join(lines) + "\r\n", content_type="text/calendar; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="ciyuan-markets.ics"'
    return answer


def _folded(line: str) -> str:
    """Return a content line in pieces of at most 75 octets (RFC 5545 §3.1), whole characters each."""
    pieces, current = [], ""
    for character in line:
        if len((current + character).encode()) > 74:
            pieces.append(current)
            current = " "
        current += character
    return "\r\n".join([*pieces, current])


def _ahead() -> Any:
    rows = Market.objects.select_related("grade").filter(phase__in=("scheduled", "call", "continuous"))
    return rows.filter(window_end__gt=clock.now() - timedelta(hours=1)).order_by("call_closes_at", "pk")
