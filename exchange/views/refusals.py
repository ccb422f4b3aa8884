"""A refused order in the reader's language, with the values that would be accepted."""

from django.utils.translation import gettext as _

from core.money import LOT_TOKENS
from core.templatetags.ciyuan import per_million, price
from core.templatetags.ciyuan import tokens as grouped
from core.typed import nearest_multiples
from exchange.actions.accept import Refused
from exchange.domain.requests import MarketTerms, OrderRequest, Refusal
from identity.problem_texts import in_readers_language


def sentence(refused: Refused | Refusal, terms: MarketTerms, order: OrderRequest | None = None) -> str:
    """Return why the market does not take this order; what has no sentence of its own is told as the API tells it."""
    code = refused.code
    if code == "price-off-tick":
        typed = order.price_nano if order and refused.field == "price" else order.stop_price_nano if order else None
        tick = per_million(terms.tick_nano)
        if typed and typed > 0:
            low, high = nearest_multiples(typed, terms.tick_nano)
            near = _(" or ").join(per_million(one) for one in (low, high) if 0 < one <= terms.cap_price_nano)
            return _("Prices move in steps of %(tick)s per million; the nearest are %(near)s.") % {
                "tick": tick, "near": near,
            }  # fmt: skip
        return _("Prices move in steps of %(tick)s per million.") % {"tick": tick}
    if code == "price-above-cap":
        return _("No price here may be above the cap, %(cap)s per million (%(price)s per token).") % {
            "cap": per_million(terms.cap_price_nano),
            "price": price(terms.cap_price_nano),
        }
    if code == "quantity-off-lot":
        typed = order.quantity_tokens if order and refused.field == "quantity" else None
        if typed:
            low, high = nearest_multiples(typed, LOT_TOKENS)
            near = _(" or ").join(grouped(one) for one in (low, high) if one >= terms.min_order_tokens)
            return _("Quantities are multiples of %(lot)s tokens; the nearest are %(near)s.") % {
                "lot": grouped(LOT_TOKENS), "near": near,
            }  # fmt: skip
        return _("Quantities are multiples of %(lot)s tokens.") % {"lot": grouped(LOT_TOKENS)}
    if code == "quantity-below-minimum":
        return _("The smallest order here is %(least)s tokens.") % {"least": grouped(terms.min_order_tokens)}
    simple = {
        "market-halted": _("Trading in this market is halted; send the order again when it resumes."),
        "market-not-open": _("This market's call has not opened yet."),
        "market-closed": _("This market has closed since the page was shown. Choose one that is open."),
        "price-missing": _("This kind of order needs a price."),
        "price-not-allowed": _("A market order has no price: it takes what the auction gives, up to the cap."),
        "stop-price-missing": _("A stop order needs a trigger price."),
        "stop-price-not-allowed": _("Only a stop order has a trigger price."),
        "type-not-allowed": _("Stops need a continuous book; this market has one auction."),
        "no-reference-price": _("This market has no reference price, so its auction takes limit orders only."),
        "expiry-missing": _("Say until when the order is good."),
        "expiry-out-of-range": _("The time lies after now and at latest at gate closure."),
        "time-in-force-not-allowed": _("“Now or never” orders need a continuous book; now is the call."),
        "insufficient-funds": _("There is not enough money available to hold for this order."),
        "insufficient-capacity": _("You can offer your capacity and position here, less what is on offer already."),
        "display-above-quantity": _("An iceberg shows at most its own size."),
        "minimum-above-quantity": _("The minimum fill is at most the order's own size."),
        "order-ended": _("This order has ended; nothing is left of it."),
        "order-not-found": _("There is no such order."),
    }
    return simple.get(code) or in_readers_language(refused.detail)
