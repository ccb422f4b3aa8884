"""Grades: published once with their terms; how they are run may change."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ciyuan.standard_token import VERSION

from core.errors import BadRequest, Conflict
from core.money import LOT_TOKENS
from core.trading_calendar import DEFAULT_SCHEDULE, ScheduleError, WindowSchedule
from core.transactions import assert_in_transaction
from identity.access import Actor
from identity.actions import audit
from providers import queries
from providers.domain.roofline import BITS
from providers.models import Grade

REGION = re.compile(r"[a-z]{2}(-[a-z0-9]+)*")
MAX_DAYS_SECONDS = 90 * 86_400


class BadGrade(BadRequest):
    """Terms that nothing could trade on."""

    code = "bad-grade"


class BadSchedule(BadRequest):
    """The window schedule cannot be used."""

    code = "bad-schedule"


class GradeExists(Conflict):
    """The slug belongs to a grade with other terms: terms are frozen once published."""

    code = "grade-exists"


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeTerms:
    """The terms of a new grade; see `Grade`. `model` is a model card's slug or id."""

    slug: str
    name: str
    model: str | int
    precisions: tuple[str, ...]
    service_class: str
    region: str
    max_context_tokens: int
    max_output_tokens: int
    tick_nano: int
    name_zh: str = ""
    data_terms: str = ""
    take_or_pay_thousandths: int = 1_000
    cached_share_thousandths: int = 100
    grace_seconds: int = 72 * 3_600
    dispute_days: int = 7
    min_order_tokens: int = LOT_TOKENS
    first_token_p95_ms: int | None = None
    per_token_p95_ms: int | None = None
    error_share_thousandths: int | None = None
    late_reduction_thousandths: int = 100
    mode: str = Grade.Mode.AUCTION
    margin_rule: str = Grade.MarginRule.TIME
    window_schedule: Mapping[str, Any] | None = None
    call_opens_before_seconds: int = 24 * 3_600
    call_closes_before_seconds: int = 3_600
    gate_closes_before_seconds: int = 900
    reference_price_nano: int | None = None
    meter_tolerance_thousandths: int = 20
    signed_usage: bool = False
    random_end_seconds: int = 0
    volatility_call_seconds: int = 120
    static_collar_thousandths: int = 0
    dynamic_collar_thousandths: int = 0


def publish_grade(*, terms: GradeTerms, now: datetime, actor: Actor | None = None) -> tuple[Grade, bool]:
    """
    Publish a grade with the default schedule unless it names one; say whether it is new.

    :raises BadGrade: terms out of range, off the tick or contradicting each other; the first is named.
    :raises BadSchedule: a window schedule that cannot be used.
    :raises GradeExists: the slug is taken by other terms.
    :raises ModelUnknown: no such model card.
    """
    assert_in_transaction()
    model_card = queries.model_card(terms.model)
    _check_terms(terms)
    values = asdict(terms)
    del values["model"]
    values["precisions"] = sorted(set(terms.precisions), key=list(BITS).index)
    values["window_schedule"] = read_schedule(terms.window_schedule)
    values["model_card"] = model_card
    values["standard_version"] = VERSION
    grade, created = Grade.objects.get_or_create(slug=terms.slug, defaults={**values, "created_at": now})
    if created:
        audit.record(
            actor=actor,
            verb="grade.publish",
            subject=f"grade:{grade.slug}",
            now=now,
            after={**values, "model_card": model_card.slug},
        )
        return grade, True
    different = [name for name in FROZEN if getattr(grade, name) != values[name]]
    if different:
        raise GradeExists(
            f"The grade {terms.slug} is published with another {', '.join(different)}. Terms are frozen; publish "
            "the new ones under another slug.",
            field=different[0],
        )
    return grade, False


#: Terms that a trigger also refuses to change.
FROZEN = (
    "model_card",
    "precisions",
    "service_class",
    "region",
    "data_terms",
    "standard_version",
    "max_context_tokens",
    "max_output_tokens",
    "take_or_pay_thousandths",
    "cached_share_thousandths",
    "grace_seconds",
    "dispute_days",
    "tick_nano",
    "min_order_tokens",
    "first_token_p95_ms",
    "per_token_p95_ms",
    "error_share_thousandths",
    "late_reduction_thousandths",
)
#: How calls end and what interrupts trading: whole numbers, 0 for off.
GUARDS = (
    "random_end_seconds",
    "volatility_call_seconds",
    "static_collar_thousandths",
    "dynamic_collar_thousandths",
)
#: What the operator may change of a published grade.
CHANGEABLE = (
    "name",
    "name_zh",
    "mode",
    "margin_rule",
    "window_schedule",
    "call_opens_before_seconds",
    "call_closes_before_seconds",
    "gate_closes_before_seconds",
    "reference_price_nano",
    "meter_tolerance_thousandths",
    "signed_usage",
    "random_end_seconds",
    "volatility_call_seconds",
    "static_collar_thousandths",
    "dynamic_collar_thousandths",
    "status",
)


def change_grade(*, grade_id: int, changes: Mapping[str, Any], now: datetime, actor: Actor | None = None) -> Grade:
    """
    Change how a grade is run. Markets that exist already keep the times they were made with.

    :raises BadGrade: a field that is frozen or unknown, times out of order, a price off the tick, an unknown mode.
    :raises BadSchedule: a window schedule that cannot be used.
    """
    assert_in_transaction()
    grade = Grade.objects.select_for_update(no_key=True).get(pk=grade_id)
    values = check_changes(grade, changes)
    before = {name: getattr(grade, name) for name in values}
    for name, value in values.items():
        setattr(grade, name, value)
    grade.save(update_fields=list(values))
    audit.record(actor=actor, verb="grade.change", subject=f"grade:{grade.slug}", now=now, before=before, after=values)
    return grade


def check_changes(grade: Grade, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes as they would be stored; raises as `change_grade` does."""
    values = dict(changes)
    for name in values:
        if name not in CHANGEABLE:
            raise BadGrade(f"{name} is frozen or unknown; changeable are {', '.join(CHANGEABLE)}.", field=name)
    if "window_schedule" in values:
        values["window_schedule"] = read_schedule(values["window_schedule"])
    after = {name: values.get(name, getattr(grade, name)) for name in CHANGEABLE}
    _within("meter_tolerance_thousandths", after["meter_tolerance_thousandths"], 0, 1_000)
    if after["status"] not in Grade.Status.values:
        raise BadGrade(f"status is one of {', '.join(Grade.Status.values)}.", field="status")
    _check_running(
        mode=after["mode"],
        margin_rule=after["margin_rule"],
        times=(
            after["call_opens_before_seconds"],
            after["call_closes_before_seconds"],
            after["gate_closes_before_seconds"],
        ),
        guards={name: after[name] for name in GUARDS},
        reference_price_nano=after["reference_price_nano"],
        tick_nano=grade.tick_nano,
    )
    return values


def read_schedule(data: object) -> dict[str, Any]:
    """
    Return a window schedule in its stored form; None is today's practice.

    :raises BadSchedule: with the path of what is wrong.
    """
    if data is None:
        return DEFAULT_SCHEDULE.to_json()
    try:
        return WindowSchedule.from_json(data).to_json()
    except ScheduleError as error:
        path = "" if error.field == "schedule" else f".{error.field}"
        raise BadSchedule(f"window_schedule{path} {error.detail}.", field=f"window_schedule{path}") from None


def _check_terms(terms: GradeTerms) -> None:
    if not terms.precisions:
        raise BadGrade("precisions names at least one that sellers may serve in.", field="precisions")
    for precision in terms.precisions:
        if precision not in BITS:
            raise BadGrade(f"precisions knows {', '.join(BITS)}, not “{precision}”.", field="precisions")
    if terms.service_class not in Grade.ServiceClass.values:
        raise BadGrade(f"service_class is one of {', '.join(Grade.ServiceClass.values)}.", field="service_class")
    check_region(terms.region)
    _within("max_context_tokens", terms.max_context_tokens, 1, 100_000_000)
    _within("max_output_tokens", terms.max_output_tokens, 1, terms.max_context_tokens)
    _within("take_or_pay_thousandths", terms.take_or_pay_thousandths, 0, 1_000)
    _within("cached_share_thousandths", terms.cached_share_thousandths, 0, 1_000)
    _within("grace_seconds", terms.grace_seconds, 0, MAX_DAYS_SECONDS)
    _within("meter_tolerance_thousandths", terms.meter_tolerance_thousandths, 0, 1_000)
    _within("dispute_days", terms.dispute_days, 0, 90)
    _within("tick_nano", terms.tick_nano, 1, 10**15)
    _within("min_order_tokens", terms.min_order_tokens, LOT_TOKENS, 10**15)
    for name in ("first_token_p95_ms", "per_token_p95_ms"):
        if (promised := getattr(terms, name)) is not None:
            _within(name, promised, 1, 3_600_000)
    if terms.error_share_thousandths is not None:
        _within("error_share_thousandths", terms.error_share_thousandths, 0, 999)
    _within("late_reduction_thousandths", terms.late_reduction_thousandths, 0, 1_000)
    if terms.min_order_tokens % LOT_TOKENS:
        raise BadGrade(f"min_order_tokens is whole lots of {LOT_TOKENS:,} tokens.", field="min_order_tokens")
    _check_running(
        mode=terms.mode,
        margin_rule=terms.margin_rule,
        times=(
            terms.call_opens_before_seconds,
            terms.call_closes_before_seconds,
            terms.gate_closes_before_seconds,
        ),
        guards={name: getattr(terms, name) for name in GUARDS},
        reference_price_nano=terms.reference_price_nano,
        tick_nano=terms.tick_nano,
    )


def check_region(region: str) -> None:
    """:raises BadGrade: for anything but a country with parts after hyphens, such as `cn` or `cn-north-2`."""
    if not REGION.fullmatch(region):
        raise BadGrade("region is a country and parts of it in lower case, such as cn or cn-north-2.", field="region")


def _check_running(
    *,
    mode: str,
    margin_rule: str,
    times: tuple[int, int, int],
    guards: Mapping[str, int],
    reference_price_nano: int | None,
    tick_nano: int,
) -> None:
    if mode not in Grade.Mode.values:
        raise BadGrade(f"mode is one of {', '.join(Grade.Mode.values)}.", field="mode")
    if margin_rule not in Grade.MarginRule.values:
        raise BadGrade(f"margin_rule is one of {', '.join(Grade.MarginRule.values)}.", field="margin_rule")
    opens, closes, gate = times
    _within("gate_closes_before_seconds", gate, 0, MAX_DAYS_SECONDS)
    _within("call_closes_before_seconds", closes, gate, MAX_DAYS_SECONDS)
    _within("call_opens_before_seconds", opens, closes + 1, MAX_DAYS_SECONDS)
    _within("random_end_seconds", guards["random_end_seconds"], 0, closes - gate)
    for name in GUARDS[1:]:
        _within(name, guards[name], 1 if name == "volatility_call_seconds" else 0, 86_400)
    if reference_price_nano is not None and (reference_price_nano <= 0 or reference_price_nano % tick_nano):
        raise BadGrade("reference_price is above zero and a multiple of the tick.", field="reference_price")


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise BadGrade(f"{name} is from {low:,} to {high:,}.", field=name)
