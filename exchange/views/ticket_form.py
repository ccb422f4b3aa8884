"""The order ticket as a form: what is typed becomes an `OrderRequest`; each mistake stands at its field."""

from django import forms
from django.utils.translation import gettext_lazy as _

from core.form_fields import PriceField, QuantityField
from exchange.domain.requests import MarketTerms, OrderRequest


class TicketForm(forms.Form):
    """An order with every kind that the market takes."""

    #: Choices that are not offered where there is one auction alone.
    CONTINUOUS_ONLY = ("stop", "stop_limit", "ioc", "fok", "continuous")

    side = forms.ChoiceField(choices=[("buy", _("Buy")), ("sell", _("Sell"))])
    type = forms.ChoiceField(
        choices=[("limit", _("Limit")), ("market", _("Market")), ("stop", _("Stop")), ("stop_limit", _("Stop limit"))]
    )
    price = PriceField(required=False, max_length=60)
    quantity = QuantityField(max_length=60, error_messages={"required": _("How many tokens?")})
    stop_price = PriceField(required=False, max_length=60)
    time_in_force = forms.ChoiceField(
        required=False,
        choices=[
            ("gtc", _("until gate closure")),
            ("gtd", _("until a time")),
            ("ioc", _("now, the rest is cancelled")),
            ("fok", _("now and whole, or not at all")),
        ],
    )
    expires_at = forms.DateTimeField(required=False, input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])
    session = forms.ChoiceField(
        required=False,
        choices=[
            ("any", _("auction and continuous")),
            ("auction", _("auction only")),
            ("continuous", _("continuous only")),
        ],
    )
    post_only = forms.BooleanField(required=False)
    all_or_none = forms.BooleanField(required=False)
    display_quantity = QuantityField(required=False, max_length=60)
    min_quantity = QuantityField(required=False, max_length=60)
    self_trade = forms.ChoiceField(
        required=False,
        choices=[
            ("cancel_newest", _("cancel the newer")),
            ("cancel_oldest", _("cancel the older")),
            ("cancel_both", _("cancel both")),
            ("decrement", _("reduce both")),
            ("none", _("let them trade")),
        ],
    )
    confirm = forms.BooleanField(required=False)
    key = forms.CharField(max_length=64)

    def order(self, terms: MarketTerms) -> OrderRequest:
        """Return the order of a valid form."""
        data = self.cleaned_data
        return OrderRequest(
            market_id=terms.market_id,
            side=data["side"],
            quantity_tokens=data["quantity"],
            type=data["type"],
            price_nano=data["price"] if data["type"] in ("limit", "stop_limit") else None,
            stop_price_nano=data["stop_price"] if data["type"] in ("stop", "stop_limit") else None,
            time_in_force=data["time_in_force"] or "gtc",
            expires_at=data["expires_at"],
            session=data["session"] or "any",
            post_only=data["post_only"],
            display_tokens=data["display_quantity"],
            min_quantity_tokens=data["min_quantity"],
            all_or_none=data["all_or_none"],
            self_trade=data["self_trade"] or "cancel_newest",
        )
