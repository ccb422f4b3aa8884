"""A provider's calendar: windows are chosen by drag or by ticking them, and capacity is published in each of them."""

import re
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from core import clock
from core.api.once import once
from core.errors import Problem
from core.form_fields import PriceField, QuantityField
from core.money import LOT_TOKENS, format_price_per_million
from core.templatetags.ciyuan import window_text
from exchange.actions import offers
from exchange.calendar_queries import MOST_WEEKS_AHEAD, calendar
from exchange.models import Market
from identity.access import Actor
from identity.page_forms import OnceForm, told
from providers.models import Capacity, Deployment

MOST_WINDOWS = 200
CHOSEN = re.compile(r"[1-9][0-9]{0,17}:[1-9][0-9]{0,17}", re.ASCII)


class WindowsField(forms.MultipleChoiceField):
    """Chosen windows as deployment:market; one that was published meanwhile is known by the form's key."""

    def valid_value(self, value: Any) -> bool:
        return CHOSEN.fullmatch(str(value)) is not None


class CalendarForm(OnceForm):
    """What is published in each of the chosen windows; their quantity is the rate × the window's minutes."""

    tokens_per_minute = QuantityField(max_length=60, label=gettext_lazy("Standard tokens a minute"))
    reserve_price = PriceField(max_length=60, label=gettext_lazy("Reserve price, ¥ per million"))
    list_price = PriceField(max_length=60, label=gettext_lazy("List price, ¥ per million"))
    wait = forms.BooleanField(required=False, label=gettext_lazy("Publish only; I offer it later"))
    rolls_over = forms.BooleanField(
        required=False, label=gettext_lazy("Offer what stays unsold in the next auction as well")
    )
    windows = WindowsField(error_messages={"required": gettext_lazy("Choose one window at least.")})

    def clean_windows(self) -> list[str]:
        """Return the windows that were chosen, each once."""
        chosen = list(dict.fromkeys(self.cleaned_data["windows"]))
        if len(chosen) > MOST_WINDOWS:
            raise forms.ValidationError(gettext_lazy("Choose 200 windows at most."))
        return chosen


@dataclass(frozen=True, slots=True)
class Refusal:
    """A window in which nothing was published, and why."""

    where: str
    why: str


def calendar_context(request: HttpRequest, actor: Actor, form: CalendarForm | None = None) -> dict[str, Any]:
    """Return what the calendar draws: the week that is asked for, and its form."""
    asked = (request.POST if form is not None else request.GET).get("week", "")
    week = int(asked) if re.fullmatch("[0-9]", asked, re.ASCII) else 0
    return {
        "calendar": calendar(actor.organization_id, week=min(week, MOST_WEEKS_AHEAD), now=clock.now()),
        "calendar_form": form or CalendarForm(initial=_usual(actor)),
        "chosen": request.POST.getlist("windows") if form is not None else [],
    }


def publish_each(actor: Actor, form: CalendarForm) -> list[Refusal]:
    """Publish in each window of a valid form on its own; what one refuses leaves the others published."""
    pairs = [tuple(int(number) for number in value.split(":")) for value in form.cleaned_data["windows"]]
    mine = Deployment.objects.filter(provider_id=actor.organization_id)
    deployments = mine.in_bulk([deployment for deployment, _market in pairs])
    markets = Market.objects.in_bulk([market for _deployment, market in pairs])
    refused = []
    for deployment_id, market_id in pairs:
        deployment, market = deployments.get(deployment_id), markets.get(market_id)
        if deployment is None or market is None:
            continue  # nobody was shown such a window
        try:
            _publish(actor, form.cleaned_data, deployment, market)
        except Problem as problem:
            where = f"{deployment.name} · {window_text(market.window_start, market.window_end)}"
            refused.append(Refusal(where, told(problem)))
    return refused


def _publish(actor: Actor, typed: dict[str, Any], deployment: Deployment, market: Market) -> None:
    minutes = int((market.window_end - market.window_start).total_seconds()) // 60
    terms = {name: value for name, value in typed.items() if name not in ("key", "windows")}
    now = clock.now()

    def perform() -> tuple[int, Any]:
        published = offers.publish_and_offer(
            provider=actor.organization,
            deployment_id=deployment.pk,
            market_id=market.pk,
            window=None,
            quantity_tokens=typed["tokens_per_minute"] * minutes // LOT_TOKENS * LOT_TOKENS,
            tokens_per_minute=typed["tokens_per_minute"],
            reserve_price_nano=typed["reserve_price"],
            list_price_nano=typed["list_price"],
            wait=typed["wait"],
            rolls_over=typed["rolls_over"],
            now=now,
        )
        return 201, {"capacity": published.capacity.pk}

    once(
        organization_id=actor.organization_id,
        key=f"page:{typed['key']}:{deployment.pk}:{market.pk}",
        content={name: str(value) for name, value in terms.items()},
        perform=perform,
        now=now,
    )


def _usual(actor: Actor) -> dict[str, Any]:
    """Return rate and prices of what was published last, as they are typed."""
    last = Capacity.objects.filter(provider_id=actor.organization_id).order_by("-pk").first()
    if last is None:
        return {}
    return {
        "tokens_per_minute": last.tokens_per_minute,
        "reserve_price": format_price_per_million(last.reserve_price_nano),
        "list_price": format_price_per_million(last.list_price_nano),
    }
