"""
The order ticket: what an order would cost before it is sent, placing it once, taking it back.

The form carries a key of its own, so that a double click, a reload or a repeated send places one order.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import msgspec
from ciyuan.standard_token import work
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing.queries import available_micro
from core import clock
from core.api.once import IdempotencyKeyReused, once
from core.money import MICRO_PER_TOKEN
from core.templatetags.ciyuan import short_tokens
from exchange import order_queries, page_queries
from exchange.actions.accept import Refused, accept
from exchange.domain.funding import bond_rate_thousandths, buy_hold_micro, sell_hold_micro
from exchange.domain.requests import (
    CancelAllRequest,
    CancelRequest,
    MarketTerms,
    OrderRequest,
    Refusal,
    Request,
    check_order,
)
from exchange.models import Market, MarketPosition
from exchange.views import market_page
from exchange.views.refusals import sentence
from exchange.views.ticket_form import TicketForm
from identity.access import Actor
from identity.pages import require_actor
from providers.queries import delivered_thousandths

TYPICAL_INPUT, TYPICAL_OUTPUT = 2_000, 500
LARGE_MICRO = 100_000 * 1_000_000  # orders of ¥100,000 and more are confirmed
FAR = 100  # and such at a hundred times the reference price or a hundredth


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an order means, before it is sent; money in micro-yuan, quantities in standard tokens."""

    order: OrderRequest
    held_micro: int
    value_micro: int
    available_micro: int
    requests: int
    tokens_per_minute: int
    unused_thousandths: int
    confirm: str

    @property
    def enough(self) -> bool:
        """Whether there is money to hold."""
        return self.held_micro <= self.available_micro


class _Refused(Exception):
    """Raised inside the transaction, so that nothing of a refused order is stored."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.code)
        self.refused = refused


@require_GET
@require_actor("trade")
def estimate(request: HttpRequest, actor: Actor, market_id: int) -> HttpResponse:
    """What the order in the ticket would hold, cost and mean; a fragment of the market page."""
    market = _market(market_id)
    form = TicketForm(request.GET)
    found = _estimate(form, market, actor)
    return render(request, "exchange/_estimate.html", {"form": form, "estimate": found, "market": market})


@require_http_methods(["GET", "POST"])
@require_actor("trade")
def place(request: HttpRequest, actor: Actor, market_id: int) -> HttpResponse:
    """Place the order of the ticket once; what is wrong is said at its field. Asked for, it is the market's page."""
    if request.method == "GET":  # after signing in again on the page that said what was wrong
        return redirect(f"/markets/{market_id}")
    market = get_object_or_404(page_queries.markets_compared(clock.now()), pk=market_id)
    form = TicketForm(request.POST)
    found = _estimate(form, market, actor)
    if found is None:
        return _again(request, market, form, actor, None)
    if found.confirm and not form.cleaned_data["confirm"]:
        form.add_error("confirm", found.confirm)
        return _again(request, market, form, actor, found)
    try:
        answer = _once(actor, form.cleaned_data["key"], found.order)
    except _Refused as error:
        terms = order_queries.market_terms([market_id])[market_id]
        _blame(form, error.refused, sentence(error.refused, terms, found.order))
        return _again(request, market, form, actor, found)
    except IdempotencyKeyReused:
        form.add_error(
            None, _("This ticket was sent before with another order. Look at your orders, then send it again.")
        )
        return _again(request, market, form, actor, found)
    if not answer.repeated:
        side = _("Buy order") if found.order.side == "buy" else _("Sell order")
        messages.success(
            request,
            _("%(side)s for %(tokens)s tokens accepted.")
            % {"side": side, "tokens": short_tokens(found.order.quantity_tokens)},
        )
    return redirect(f"/markets/{market_id}")


@require_POST
@require_actor("trade")
def cancel(request: HttpRequest, actor: Actor, order_id: UUID) -> HttpResponse:
    """Take back what is left of an order."""
    command = order_queries.orders_of(actor).filter(pk=order_id, organization_id=actor.organization_id).first()
    if command is None:
        messages.error(request, _("There is no such order."))
        return redirect("/orders")
    _take_back(request, actor, command.market_id, CancelRequest(order_id=order_id))
    return redirect(_back(request, command.market_id))


@require_POST
@require_actor("trade")
def cancel_all(request: HttpRequest, actor: Actor, market_id: int) -> HttpResponse:
    """Take back all one's orders in a market."""
    market = _market(market_id)
    _take_back(request, actor, market.pk, CancelAllRequest(market_id=market.pk))
    return redirect(_back(request, market_id))


def _take_back(request: HttpRequest, actor: Actor, market_id: int, command: Request) -> None:
    try:
        _once(actor, request.POST.get("key") or str(uuid4()), command)
    except _Refused as error:
        terms = order_queries.market_terms([market_id])[market_id]
        messages.error(request, sentence(error.refused, terms))
    else:
        messages.success(request, _("Cancellation accepted. Money or capacity is free once the book has taken it up."))


def _once(actor: Actor, key: str, command: Request) -> Any:
    now = clock.now()

    def perform() -> tuple[int, Any]:
        [outcome] = accept(organization=actor.organization, requests=[command], now=now)
        if isinstance(outcome, Refused):
            raise _Refused(outcome)
        return 202, {"order": str(outcome.order_id)}

    return once(
        organization_id=actor.organization_id,
        key=f"page:{key}",
        content=msgspec.to_builtins(command),
        perform=perform,
        now=now,
    )


def _estimate(form: TicketForm, market: Market, actor: Actor) -> Estimate | None:
    """Return what the form's order means; None, with the errors on the form, where it is none that could be placed."""
    if not form.is_valid():
        return None
    terms = order_queries.market_terms([market.pk])[market.pk]
    order = form.order(terms)
    try:
        check_order(order, terms, clock.now())
    except Refusal as refusal:
        _blame(form, refusal, sentence(refusal, terms, order))
        return None
    price_nano = order.price_nano or terms.cap_price_nano
    value = buy_hold_micro(quantity_tokens=order.quantity_tokens, price_nano=price_nano)
    if order.side == "buy":
        held = value
    else:
        row = MarketPosition.objects.filter(market=market, organization=actor.organization).first()
        resale = row.position_tokens if row is not None and market.mode == "exchange" else 0
        covered = max(0, min(order.quantity_tokens, resale - (row.open_sell_tokens if row is not None else 0)))
        held = sell_hold_micro(
            quantity_tokens=order.quantity_tokens,
            covered_tokens=covered,
            price_nano=price_nano,
            bond_thousandths=bond_rate_thousandths(delivered_thousandths(actor.organization_id)),
        )
    minutes = max(1, int((market.window_end - market.window_start).total_seconds()) // 60)
    grade = market.grade
    typical = work(grade.model_card.standard_card(), TYPICAL_INPUT, 0, TYPICAL_OUTPUT, grade.cached_share_thousandths)
    return Estimate(
        order=order,
        held_micro=held,
        value_micro=value,
        available_micro=available_micro(actor.organization_id),
        requests=order.quantity_tokens * MICRO_PER_TOKEN // typical.total_micro_st,
        tokens_per_minute=order.quantity_tokens // minutes,
        unused_thousandths=grade.take_or_pay_thousandths,
        confirm=_to_confirm(order, terms, value),
    )


def _to_confirm(order: OrderRequest, terms: MarketTerms, value_micro: int) -> str:
    """Return what the sender should look at again before the order goes, or nothing."""
    reference = terms.reference_price_nano
    price = order.price_nano
    if price and reference and (price * FAR <= reference or price >= reference * FAR):
        return _("The price is a hundred times off the reference price. Confirm that it is meant.")
    if value_micro >= LARGE_MICRO:
        return _("This is a large order. Confirm that it is meant.")
    return ""


def _blame(form: TicketForm, refused: Refused | Refusal, text: str) -> None:
    form.add_error(refused.field if refused.field in form.fields else None, text)


def _again(
    request: HttpRequest, market: Market, form: TicketForm, actor: Actor, found: Estimate | None
) -> HttpResponse:
    context = market_page.context(request, market) | {"ticket": form, "estimate": found}
    context["available_micro"] = available_micro(actor.organization_id)
    return render(request, "exchange/market.html", context, status=422)


def _market(market_id: int) -> Market:
    return get_object_or_404(Market.objects.select_related("grade__model_card"), pk=market_id)


def _back(request: HttpRequest, market_id: int) -> str:
    return "/orders" if request.POST.get("from") == "orders" else f"/markets/{market_id}"
