"""The page of blocks: the same rate over several windows of one call, all or none or in part, and what became of it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from core import clock
from core.form_fields import PriceField, QuantityField
from core.templatetags.ciyuan import window_text
from exchange import queries
from exchange.actions.blocks import BlockRequest, place_blocks, withdraw_block
from exchange.domain.requests import at_rate, in_lots
from exchange.models import BlockResult, Market
from exchange.page_queries import localized_name
from identity.access import Actor
from identity.page_forms import OnceForm, new_key
from identity.pages import require_actor

PER_PAGE, MOST_WINDOWS = 50, 96
OUTCOMES = {
    BlockResult.Outcome.ACCEPTED: gettext_lazy("Accepted"),
    BlockResult.Outcome.REJECTED: gettext_lazy("Rejected: not at its price"),
    BlockResult.Outcome.REJECTED_IN_THE_MONEY: gettext_lazy("Rejected although in the money"),
    BlockResult.Outcome.WITHDRAWN: gettext_lazy("Withdrawn"),
    BlockResult.Outcome.SELF_TRADE: gettext_lazy("Taken out: it would have met your own order"),
}


class BlockForm(OnceForm):
    """A block of one rate over windows that clear together."""

    side = forms.ChoiceField(
        choices=[("buy", gettext_lazy("Buy")), ("sell", gettext_lazy("Sell"))], label=gettext_lazy("Side")
    )
    windows = forms.MultipleChoiceField(
        label=gettext_lazy("Delivery windows"), widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("Those of one call, which clear together."),
    )  # fmt: skip
    rate = QuantityField(
        max_length=60, label=gettext_lazy("Standard tokens a minute"),
        help_text=gettext_lazy("In each window; its quantity is rounded up to lots of 1,000."),
    )  # fmt: skip
    limit = PriceField(
        max_length=60, label=gettext_lazy("Limit, ¥ per million"),
        help_text=gettext_lazy("On average over all windows."),
    )  # fmt: skip
    least = forms.IntegerField(
        min_value=1, max_value=100, initial=100, label=gettext_lazy("At least, per cent"),
        help_text=gettext_lazy("100: all of it or nothing."),
    )  # fmt: skip

    def __init__(self, *args: Any, markets: dict[int, Market], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["windows"].choices = [  # type: ignore[attr-defined]
            (str(market.pk), f"{localized_name(market.grade)} · {window_text(market.window_start, market.window_end)}")
            for market in markets.values()
        ]


@require_http_methods(["GET", "POST"])
@require_actor("read")
def blocks(request: HttpRequest, actor: Actor) -> HttpResponse:
    """One's blocks, the newest first; another is placed here while a call is open."""
    open_calls = (
        Market.objects.filter(phase=Market.Phase.CALL, halted=False)
        .select_related("grade__model_card")
        .order_by("grade__slug", "window_start")[:MOST_WINDOWS]
    )
    markets = {market.pk: market for market in open_calls}
    form = BlockForm(request.POST or None, markets=markets)
    if request.method == "POST":
        actor.require("trade")
        answer = form.send(
            actor, lambda typed: _place(typed, markets, actor), fields={"blocks": "windows", "blocks.0.legs": "windows"}
        )
        if answer is not None:
            messages.info(request, _("Placed. It is decided when the call is cleared."))
            return redirect("blocks")
    page = Paginator(queries.blocks_of(actor.organization_id).order_by("-pk"), PER_PAGE).get_page(
        request.GET.get("page")
    )
    context = {
        "page": page,
        "blocks": [_Shown(row) for row in page],
        "form": form if "trade" in actor.scopes and markets else None,
        "may_withdraw": "trade" in actor.scopes,
        "key": new_key(),
    }
    return render(request, "exchange/blocks.html", context, status=422 if form.errors else 200)


@require_POST
@require_actor("trade")
def withdraw(request: HttpRequest, actor: Actor, block_id: UUID) -> HttpResponse:
    """Take a block back before its call is cleared; cleared meanwhile, its outcome is told."""
    if not queries.blocks_of(actor.organization_id).filter(pk=block_id).exists():
        raise Http404
    sent = OnceForm({"key": f"withdraw:{block_id}:{request.POST.get('key', '')[:20]}"})
    if sent.send(actor, lambda _typed: _withdraw(block_id, actor)) is None:
        messages.error(request, _("It was too late: the call has been cleared."))
    return redirect("blocks")


class _Shown:
    """A block as it is written."""

    def __init__(self, row: Any) -> None:
        self.row = row
        self.result = getattr(row, "result", None)
        self.outcome = _("Open") if self.result is None else OUTCOMES[self.result.outcome]
        self.windows = row.legs.all()
        self.least_percent = row.least_tokens * 100 // row.quantity_tokens


def _place(typed: dict[str, Any], markets: dict[int, Market], actor: Actor) -> dict[str, Any]:
    legs = []
    for chosen in typed["windows"]:
        market = markets[int(chosen)]
        seconds = (market.window_end - market.window_start) // timedelta(seconds=1)
        legs.append((market.pk, at_rate(typed["rate"], seconds)))
    least = -(-sum(tokens for _, tokens in legs) * typed["least"] // 100)
    wanted = BlockRequest(
        side=typed["side"], limit_price_nano=typed["limit"], legs=tuple(legs), least_tokens=in_lots(least),
        tokens_per_minute=typed["rate"] if typed["side"] == "buy" and typed["least"] == 100 else None,  # a reservation
    )  # fmt: skip
    [block] = place_blocks(organization=actor.organization, requests=[wanted], now=clock.now())
    return {"block": str(block.pk)}


def _withdraw(block_id: UUID, actor: Actor) -> dict[str, Any]:
    withdraw_block(block_id=block_id, organization=actor.organization, now=clock.now())
    return {"block": str(block_id)}
