"""Upfront quotes: a POST that changes nothing, open to everybody."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.serializers import StrictSerializer
from core.errors import BadRequest
from core.money import format_price, format_price_per_million, format_tokens, format_yuan
from core.periods import Period
from exchange.api.markets import WindowIn
from exchange.domain.quotes import Workload
from exchange.domain.requests import FAR
from exchange.quote_queries import Priced, Quote, grade_of_model, quote
from identity.api.base import ApiView
from providers.queries import grade as grade_by

MOST_TOKENS, MOST_REQUESTS = 10_000_000, 10**9


class QuoteIn(StrictSerializer):
    grade = serializers.CharField(required=False, max_length=80, help_text="Its slug or id; or name a model.")
    model = serializers.CharField(required=False, max_length=120)
    service_class = serializers.ChoiceField(choices=["realtime", "batch"], default="realtime")
    input_tokens = serializers.IntegerField(min_value=0, max_value=MOST_TOKENS, help_text="Of one request.")
    cached_tokens = serializers.IntegerField(min_value=0, max_value=MOST_TOKENS, default=0, help_text="Of the input.")
    output_tokens = serializers.IntegerField(min_value=0, max_value=MOST_TOKENS)
    requests = serializers.IntegerField(min_value=1, max_value=MOST_REQUESTS, default=1)
    window = WindowIn(required=False, help_text="When it is to run; now, if left out.")


class PricedOut(serializers.Serializer[Any]):
    """A price with what it comes from; `quantity` is what would be bought in `market`, `missing` what is not there."""

    amount = serializers.CharField(help_text="¥, VAT included.")
    price = serializers.CharField(help_text="¥ per standard token, on average.")
    price_per_million = serializers.CharField()
    basis = serializers.CharField()
    calculation = serializers.CharField()
    quantity = serializers.IntegerField(allow_null=True)
    missing = serializers.IntegerField()
    market = serializers.IntegerField(allow_null=True)
    window_start = serializers.DateTimeField(allow_null=True)
    window_end = serializers.DateTimeField(allow_null=True)
    lines = serializers.ListField(child=serializers.DictField())
    fills = serializers.ListField(child=serializers.DictField())


class QuoteOut(serializers.Serializer[Any]):
    """What a workload is and costs. A price is null where there is none now; a quote binds nobody."""

    at = serializers.DateTimeField()
    grade = serializers.CharField()
    model = serializers.CharField()
    service_class = serializers.CharField()
    requests = serializers.IntegerField()
    standard_tokens = serializers.CharField()
    standard_tokens_each = serializers.DictField(help_text="Of one request: input, cached_input, output.")
    reference_price = serializers.CharField(allow_null=True)
    list = PricedOut(allow_null=True)
    book = PricedOut(allow_null=True)
    off_peak = PricedOut(allow_null=True)
    needs_confirmation = serializers.ListField(
        child=serializers.CharField(), help_text="Prices over 100 times the reference: look again before you buy."
    )


class Quotes(ApiView):
    public = True
    http_method_names = ["post", "options"]

    @extend_schema(operation_id="quotes_create", request=QuoteIn, responses=QuoteOut)
    def post(self, request: Request) -> Response:
        """Say what a request or a workload costs: at list, at the book now, and in the next off-peak auction."""
        given = self.parse(QuoteIn)
        if ("grade" in given) == ("model" in given):
            raise BadRequest("Name either a grade or a model.", field="grade")
        window = None
        if (asked := given.get("window")) is not None:
            if asked["end"] <= asked["start"]:
                raise BadRequest("A window ends after it starts.", field="window.end")
            window = Period(asked["start"], asked["end"])
        grade = (
            grade_by(given["grade"]) if "grade" in given else grade_of_model(given["model"], given["service_class"])
        )
        load = Workload(given["input_tokens"], given["cached_tokens"], given["output_tokens"], given["requests"])
        return Response(show_quote(quote(grade=grade, load=load, window=window, now=self.now)) | {"at": self.now})


def show_quote(found: Quote) -> dict[str, Any]:
    """Return a quote as the API shows it."""
    grade, each = found.grade, found.each
    reference = found.reference_price_nano
    return {
        "grade": grade.slug,
        "model": grade.model_card.slug,
        "service_class": grade.service_class,
        "requests": found.load.requests,
        "standard_tokens": format_tokens(found.work_micro_st),
        "standard_tokens_each": {
            "input": format_tokens(each.input_micro_st),
            "cached_input": format_tokens(each.cached_input_micro_st),
            "output": format_tokens(each.output_micro_st),
        },
        "reference_price": None if reference is None else format_price(reference),
        "list": _priced(found.at_list),
        "book": _priced(found.at_book),
        "off_peak": _priced(found.off_peak),
        "needs_confirmation": [
            f"The price {name} is over {FAR} times the grade's reference price: look again before you buy."
            for name in found.far
        ],
    }


def _priced(one: Priced | None) -> dict[str, Any] | None:
    if one is None:
        return None
    market = one.market
    return {
        "amount": format_yuan(one.amount_micro),
        "price": format_price(one.price_nano),
        "price_per_million": format_price_per_million(one.price_nano),
        "basis": one.basis,
        "calculation": one.calculation,
        "quantity": one.quantity_tokens,
        "missing": one.missing_tokens,
        "market": market.pk if market else None,
        "window_start": market.window_start if market else None,
        "window_end": market.window_end if market else None,
        "lines": [
            {"class": line.token_class, "tokens": line.tokens, "amount": format_yuan(line.amount_micro),
             "calculation": line.calculation}
            for line in one.lines
        ],
        "fills": [{"price": format_price(part.price_nano), "quantity": part.quantity_tokens} for part in one.taken],
    }  # fmt: skip
