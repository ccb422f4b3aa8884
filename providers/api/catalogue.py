"""Accelerators, model cards and grades: read by everybody, entered by the operator."""

from typing import Any

from ciyuan.foreign_units import SAMPLE_TOKENS, SAMPLES, TABLE_VERSION, table
from ciyuan.standard_token import WORK_UNITS_PER_BYTE
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import PriceField, StrictSerializer, TokensField
from core.errors import NotFound
from core.money import format_price, format_price_per_million
from core.periods import shanghai_date
from core.trading_calendar import calendar_note, offpeak_windows
from identity.api.base import ApiView
from providers import queries
from providers.actions import catalogue, grades
from providers.domain.roofline import work_units_per_byte_tenths
from providers.models import Accelerator, Grade, ModelCard

SLUG = r"^[a-z0-9][a-z0-9.-]*$"


@extend_schema_field({"oneOf": [{"type": "integer"}, {"type": "string"}]})
class SlugOrIdField(serializers.Field[Any, Any, Any, Any]):
    """A thing by its slug or its id."""

    def to_internal_value(self, data: Any) -> str | int:
        if isinstance(data, bool) or not isinstance(data, str | int):
            raise serializers.ValidationError("Write the slug as a string, or the id as a whole number.")
        if isinstance(data, int) and not 0 < data < 2**63:
            raise serializers.ValidationError("An id is a whole number above zero.")
        if isinstance(data, str) and not 0 < len(data) <= 120:
            raise serializers.ValidationError("A slug has 1 to 120 characters.")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class FigureField(serializers.IntegerField):
    """A whole number above zero that fits 64 bits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=2**63 - 1, **kwargs)

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            raise serializers.ValidationError("Write a whole number, without quotes.")
        return super().to_internal_value(data)


class AcceleratorIn(StrictSerializer):
    slug = serializers.RegexField(SLUG, max_length=60)
    vendor = serializers.CharField(max_length=60)
    vendor_zh = serializers.CharField(max_length=60, required=False, default="", allow_blank=True)
    name = serializers.CharField(max_length=80)
    memory_bytes = FigureField(allow_null=True)
    memory_kind = serializers.CharField(max_length=20, required=False, default="", allow_blank=True)
    bandwidth_bytes_per_second = FigureField(allow_null=True)
    gflops = serializers.DictField(child=FigureField())
    source = serializers.CharField(max_length=300)  # type: ignore[assignment]
    as_of = serializers.DateField()
    unverified = serializers.ListField(child=serializers.CharField(max_length=40), required=False, default=list)
    note = serializers.CharField(max_length=300, required=False, default="", allow_blank=True)


class AcceleratorOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    slug = serializers.CharField()
    vendor = serializers.CharField()
    vendor_zh = serializers.CharField()
    name = serializers.CharField()
    memory_bytes = serializers.IntegerField(allow_null=True)
    memory_kind = serializers.CharField()
    bandwidth_bytes_per_second = serializers.IntegerField(allow_null=True)
    gflops = serializers.DictField(child=serializers.IntegerField())
    work_units_per_byte = serializers.CharField(
        allow_null=True, help_text="40% of its 16-bit arithmetic ÷ bandwidth, beside the standard's own."
    )
    standard_work_units_per_byte = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    as_of = serializers.DateField()
    unverified = serializers.ListField(child=serializers.CharField())
    note = serializers.CharField()


class AcceleratorPage(serializers.Serializer[Any]):
    items = AcceleratorOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ForeignUnitOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    kind = serializers.CharField(help_text="model_token or accelerator_hour.")
    title = serializers.CharField()
    version = serializers.CharField()
    micro_st = serializers.IntegerField(help_text="Micro-standard-tokens of `per` of the unit, exactly.")
    per = serializers.IntegerField()
    derivation = serializers.CharField()


class ForeignUnitsOut(serializers.Serializer[Any]):
    version = serializers.CharField()
    units = ForeignUnitOut(many=True)
    samples = serializers.DictField(child=serializers.CharField(), help_text="Texts on which tokenizers are compared.")
    sample_tokens = serializers.DictField(child=serializers.DictField(child=serializers.IntegerField()))


class AttentionIn(StrictSerializer):
    layers = FigureField()
    width = FigureField()
    kv_bytes = FigureField()
    span = FigureField(required=False, allow_null=True, default=None)


class ModelIn(StrictSerializer):
    slug = serializers.RegexField(SLUG, max_length=80)
    name = serializers.CharField(max_length=120)
    active_params = FigureField()
    active_weight_bytes = FigureField()
    attention = AttentionIn(many=True)
    total_params = FigureField()
    weights_sha256 = serializers.RegexField(r"^[0-9a-f]{64}$", required=False, default="")
    source = serializers.CharField(max_length=300)  # type: ignore[assignment]
    as_of = serializers.DateField()


class ModelOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    slug = serializers.CharField()
    name = serializers.CharField()
    standard_version = serializers.CharField()
    active_params = serializers.IntegerField()
    active_weight_bytes = serializers.IntegerField()
    attention = serializers.ListField(child=serializers.DictField())
    total_params = serializers.IntegerField()
    weights_sha256 = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    as_of = serializers.DateField()


class ModelPage(serializers.Serializer[Any]):
    items = ModelOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class RunningIn(StrictSerializer):
    """How a grade is run: what may change after it is published."""

    name = serializers.CharField(max_length=120, required=False)
    name_zh = serializers.CharField(max_length=120, required=False, allow_blank=True)
    mode = serializers.ChoiceField(choices=Grade.Mode.choices, required=False)
    margin_rule = serializers.ChoiceField(choices=Grade.MarginRule.choices, required=False)
    window_schedule = serializers.JSONField(required=False)
    call_opens_before_seconds = serializers.IntegerField(required=False)
    call_closes_before_seconds = serializers.IntegerField(required=False)
    gate_closes_before_seconds = serializers.IntegerField(required=False)
    reference_price = PriceField(required=False, allow_null=True)
    meter_tolerance_thousandths = serializers.IntegerField(required=False)
    signed_usage = serializers.BooleanField(required=False)
    random_end_seconds = serializers.IntegerField(required=False)
    volatility_call_seconds = serializers.IntegerField(required=False)
    static_collar_thousandths = serializers.IntegerField(required=False)
    dynamic_collar_thousandths = serializers.IntegerField(required=False)


class GradeChangeIn(RunningIn):
    status = serializers.ChoiceField(choices=Grade.Status.choices, required=False)


class GradeIn(RunningIn):
    slug = serializers.RegexField(SLUG, max_length=60)
    name = serializers.CharField(max_length=120)
    model = SlugOrIdField()
    precisions = serializers.ListField(child=serializers.CharField(max_length=10), min_length=1, max_length=10)
    service_class = serializers.ChoiceField(choices=Grade.ServiceClass.choices)
    region = serializers.CharField(max_length=40)
    data_terms = serializers.CharField(max_length=200, required=False, allow_blank=True)
    max_context_tokens = serializers.IntegerField()
    max_output_tokens = serializers.IntegerField()
    take_or_pay_thousandths = serializers.IntegerField(required=False)
    cached_share_thousandths = serializers.IntegerField(required=False)
    grace_seconds = serializers.IntegerField(required=False)
    dispute_days = serializers.IntegerField(required=False)
    first_token_p95_ms = serializers.IntegerField(required=False, allow_null=True)
    per_token_p95_ms = serializers.IntegerField(required=False, allow_null=True)
    error_share_thousandths = serializers.IntegerField(required=False, allow_null=True)
    late_reduction_thousandths = serializers.IntegerField(required=False)
    tick = PriceField()
    min_order = TokensField(required=False)


class WindowOut(serializers.Serializer[Any]):
    kind = serializers.CharField()
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()


class GradeOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    slug = serializers.CharField()
    name = serializers.CharField()
    name_zh = serializers.CharField()
    model = serializers.CharField()
    precisions = serializers.ListField(child=serializers.CharField())
    service_class = serializers.CharField()
    region = serializers.CharField()
    data_terms = serializers.CharField()
    standard_version = serializers.CharField()
    max_context_tokens = serializers.IntegerField()
    max_output_tokens = serializers.IntegerField()
    take_or_pay_thousandths = serializers.IntegerField()
    cached_share_thousandths = serializers.IntegerField()
    grace_seconds = serializers.IntegerField()
    dispute_days = serializers.IntegerField(help_text="From settlement until it is final.")
    first_token_p95_ms = serializers.IntegerField(allow_null=True, help_text="Promised; null where nothing is.")
    per_token_p95_ms = serializers.IntegerField(allow_null=True)
    error_share_thousandths = serializers.IntegerField(allow_null=True)
    late_reduction_thousandths = serializers.IntegerField(help_text="Of the price of an hour with late answers.")
    tick = serializers.CharField()
    min_order = serializers.IntegerField()
    mode = serializers.CharField()
    margin_rule = serializers.CharField()
    window_schedule = serializers.JSONField()
    call_opens_before_seconds = serializers.IntegerField()
    call_closes_before_seconds = serializers.IntegerField()
    gate_closes_before_seconds = serializers.IntegerField()
    reference_price = serializers.CharField(allow_null=True)
    reference_price_per_million = serializers.CharField(allow_null=True)
    meter_tolerance_thousandths = serializers.IntegerField()
    signed_usage = serializers.BooleanField()
    random_end_seconds = serializers.IntegerField()
    volatility_call_seconds = serializers.IntegerField()
    static_collar_thousandths = serializers.IntegerField()
    dynamic_collar_thousandths = serializers.IntegerField()
    status = serializers.CharField()


class GradeDetailOut(GradeOut):
    windows_today = WindowOut(many=True)
    calendar_note = serializers.CharField(allow_null=True)


class GradePage(serializers.Serializer[Any]):
    items = GradeOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def show_accelerator(row: Accelerator) -> dict[str, Any]:
    tenths = work_units_per_byte_tenths(row.hardware())
    return {
        "id": row.pk,
        "slug": row.slug,
        "vendor": row.vendor,
        "vendor_zh": row.vendor_zh,
        "name": row.name,
        "memory_bytes": row.memory_bytes,
        "memory_kind": row.memory_kind,
        "bandwidth_bytes_per_second": row.bandwidth_bytes_per_second,
        "gflops": row.gflops,
        "work_units_per_byte": None if tenths is None else f"{tenths // 10}.{tenths % 10}",
        "standard_work_units_per_byte": f"{WORK_UNITS_PER_BYTE}.0",
        "source": row.source,
        "as_of": row.as_of,
        "unverified": row.unverified,
        "note": row.note,
    }


def show_model(row: ModelCard) -> dict[str, Any]:
    return {
        "id": row.pk,
        "slug": row.slug,
        "name": row.name,
        "standard_version": row.standard_version,
        "active_params": row.active_params,
        "active_weight_bytes": row.active_weight_bytes,
        "attention": row.attention,
        "total_params": row.total_params,
        "weights_sha256": row.weights_sha256,
        "source": row.source,
        "as_of": row.as_of,
    }


SAME = (
    "slug", "name", "name_zh", "precisions", "service_class", "region", "data_terms", "standard_version",
    "max_context_tokens", "max_output_tokens", "take_or_pay_thousandths", "cached_share_thousandths", "grace_seconds",
    "dispute_days", "first_token_p95_ms", "per_token_p95_ms", "error_share_thousandths", "late_reduction_thousandths",
    "mode", "margin_rule", "window_schedule", "call_opens_before_seconds", "call_closes_before_seconds",
    "gate_closes_before_seconds", "meter_tolerance_thousandths", "signed_usage", "random_end_seconds",
    "volatility_call_seconds", "static_collar_thousandths", "dynamic_collar_thousandths", "status",
)  # fmt: skip


def show_grade(row: Grade) -> dict[str, Any]:
    reference = row.reference_price_nano
    return {name: getattr(row, name) for name in SAME} | {
        "id": row.pk,
        "model": row.model_card.slug,
        "tick": format_price(row.tick_nano),
        "min_order": row.min_order_tokens,
        "reference_price": None if reference is None else format_price(reference),
        "reference_price_per_million": None if reference is None else format_price_per_million(reference),
    }


class Accelerators(ApiView):
    """The catalogue of accelerators."""

    public = True
    scopes = {"POST": "operate"}

    @extend_schema(responses=AcceleratorPage)
    def get(self, request: Request) -> Response:
        """List accelerators with their published figures, sources and dates."""
        return Response(page(request, Accelerator.objects.order_by(), show_accelerator))

    @extend_schema(request=AcceleratorIn, responses={201: AcceleratorOut})
    def post(self, request: Request) -> Response:
        """Enter an accelerator, or correct its figures."""
        data = self.parse(AcceleratorIn)
        data["unverified"] = tuple(data["unverified"])
        facts = catalogue.AcceleratorFacts(**data)
        return self.once(
            lambda: show_accelerator(catalogue.put_accelerator(facts=facts, now=self.now, actor=self.actor)[0])
        )


class AcceleratorDetail(ApiView):
    """One accelerator."""

    public = True

    @extend_schema(operation_id="accelerators_read", responses=AcceleratorOut)
    def get(self, request: Request, accelerator: str) -> Response:
        """Show its figures, and its own compute-to-bandwidth ratio beside the standard's 118."""
        row = Accelerator.objects.filter(slug=accelerator).first()
        if row is None:
            raise NotFound("There is no such accelerator.")
        return Response(show_accelerator(row))


class ForeignUnits(ApiView):
    """Other vendors' units in standard tokens."""

    public = True

    @extend_schema(operation_id="foreign_units_read", responses=ForeignUnitsOut)
    def get(self, request: Request) -> Response:
        """List the published table: what a unit is worth, exactly, and how that was derived."""
        return Response({"version": TABLE_VERSION, "units": [entry.to_dict() for entry in table()],
                         "samples": SAMPLES, "sample_tokens": SAMPLE_TOKENS})  # fmt: skip


class Models(ApiView):
    """The model cards."""

    public = True
    scopes = {"POST": "operate"}

    @extend_schema(responses=ModelPage)
    def get(self, request: Request) -> Response:
        """List model cards with the numbers that standard tokens follow from."""
        return Response(page(request, ModelCard.objects.order_by(), show_model))

    @extend_schema(request=ModelIn, responses={201: ModelOut})
    def post(self, request: Request) -> Response:
        """Publish a model card. It is frozen from then on."""
        data = self.parse(ModelIn)
        card = {name: data.pop(name) for name in ("active_params", "active_weight_bytes")}
        card["attention"] = [dict(group) for group in data.pop("attention")]
        facts = catalogue.ModelFacts(card=card, **data)
        return self.once(
            lambda: show_model(catalogue.publish_model_card(facts=facts, now=self.now, actor=self.actor)[0])
        )


class Grades(ApiView):
    """The grades: what is interchangeable, and on which terms."""

    public = True
    scopes = {"POST": "operate"}

    @extend_schema(responses=GradePage)
    def get(self, request: Request) -> Response:
        """List grades."""
        return Response(page(request, Grade.objects.select_related("model_card").order_by(), show_grade))

    @extend_schema(request=GradeIn, responses={201: GradeOut})
    def post(self, request: Request) -> Response:
        """Publish a grade. Its terms are frozen from then on."""
        data = self.parse(GradeIn)
        data["precisions"] = tuple(data["precisions"])
        data["tick_nano"] = data.pop("tick")
        if "min_order" in data:
            data["min_order_tokens"] = data.pop("min_order")
        if "reference_price" in data:
            data["reference_price_nano"] = data.pop("reference_price")
        terms = grades.GradeTerms(**data)
        return self.once(lambda: show_grade(grades.publish_grade(terms=terms, now=self.now, actor=self.actor)[0]))


class GradeDetail(ApiView):
    """One grade, by slug or id."""

    public = True
    scopes = {"PATCH": "operate"}

    @extend_schema(responses=GradeDetailOut)
    def get(self, request: Request, slug_or_id: str) -> Response:
        """Show a grade with today's delivery windows."""
        grade = self._grade(slug_or_id)
        today = shanghai_date(self.now)
        return Response(
            show_grade(grade)
            | {
                "windows_today": [
                    {"kind": window.kind, "start": window.start, "end": window.end}
                    for window in offpeak_windows(today, grade.schedule())
                ],
                "calendar_note": calendar_note(today),
            }
        )

    @extend_schema(request=GradeChangeIn, responses=GradeOut)
    def patch(self, request: Request, slug_or_id: str) -> Response:
        """Change how a grade is run; its terms are frozen."""
        changes = self.parse(GradeChangeIn)
        if "reference_price" in changes:
            changes["reference_price_nano"] = changes.pop("reference_price")
        grade_id = self._grade(slug_or_id).pk
        return self.once(
            lambda: show_grade(grades.change_grade(grade_id=grade_id, changes=changes, now=self.now, actor=self.actor)),
            status=200,
        )

    def _grade(self, slug_or_id: str) -> Grade:
        wanted = int(slug_or_id) if slug_or_id.isdecimal() and len(slug_or_id) < 19 else slug_or_id
        try:
            return queries.grade(wanted)
        except queries.GradeUnknown as error:
            raise NotFound(error.detail) from None
