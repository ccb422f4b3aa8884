"""What the audit recomputes of providers: every row against the rules that actions and constraints keep."""

from collections.abc import Iterator

from ciyuan.named_cards import UnknownModel, named_card
from django.db import connection

from core.audit import Check, Finding
from core.trading_calendar import ScheduleError
from providers.models import Capacity, Grade, ModelCard


def capacity_within_its_window() -> Iterator[Finding]:
    """Nothing is offered beyond rate × time."""
    for capacity in Capacity.objects.order_by("id").iterator():
        most = int(capacity.window.duration.total_seconds()) * capacity.tokens_per_minute // 60
        if capacity.quantity_tokens > most:
            yield Finding(
                "capacity-rate", f"capacity:{capacity.pk}", f"at most {most:,}", f"{capacity.quantity_tokens:,}"
            )


def capacity_of_its_deployment() -> Iterator[Finding]:
    """Provider and grade of a capacity are its deployment's."""
    for capacity in Capacity.objects.select_related("deployment").order_by("id").iterator():
        expected = (capacity.deployment.provider_id, capacity.deployment.grade_id)
        if (capacity.provider_id, capacity.grade_id) != expected:
            yield Finding(
                "capacity-owner",
                f"capacity:{capacity.pk}",
                "provider {} and grade {}".format(*expected),
                f"provider {capacity.provider_id} and grade {capacity.grade_id}",
            )


def capacity_never_overlaps() -> Iterator[Finding]:
    """No two capacities of a deployment share a moment."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.id, b.id FROM providers_capacity a JOIN providers_capacity b"
            " ON a.deployment_id = b.deployment_id AND a.id < b.id"
            " AND a.window_start < b.window_end AND b.window_start < a.window_end"
            " WHERE a.withdrawn_at IS NULL AND b.withdrawn_at IS NULL ORDER BY 1, 2"
        )
        for first, second in cursor.fetchall():
            yield Finding("capacity-overlap", f"capacity:{second}", "a window of its own", f"one with capacity {first}")


def prices_on_tick() -> Iterator[Finding]:
    """Reserve and list prices are multiples of the grade's tick."""
    for capacity in Capacity.objects.select_related("grade").order_by("id").iterator():
        for name in ("reserve_price_nano", "list_price_nano"):
            price = getattr(capacity, name)
            if price % capacity.grade.tick_nano:
                yield Finding(
                    "price-tick",
                    f"capacity:{capacity.pk}",
                    f"{name} in steps of {capacity.grade.tick_nano}",
                    f"{price}",
                )


def cards_as_published() -> Iterator[Finding]:
    """A card of a name that the SDK publishes has the SDK's numbers."""
    for row in ModelCard.objects.order_by("id"):
        try:
            published = named_card(row.slug)
        except UnknownModel:
            continue
        stored = row.standard_card()
        if (stored.active_params, stored.active_weight_bytes, stored.attention) != (
            published.active_params,
            published.active_weight_bytes,
            published.attention,
        ):
            yield Finding("model-card", f"model_card:{row.slug}", str(published), str(stored))


def schedules_usable() -> Iterator[Finding]:
    """Every grade's window schedule can be read, and its version is its card's."""
    for grade in Grade.objects.select_related("model_card").order_by("id"):
        try:
            grade.schedule()
        except ScheduleError as error:
            yield Finding("grade-schedule", f"grade:{grade.slug}", "a window schedule", str(error))
        if grade.standard_version != grade.model_card.standard_version:
            yield Finding(
                "grade-version", f"grade:{grade.slug}", grade.model_card.standard_version, grade.standard_version
            )


CHECKS: list[Check] = [
    ("capacity within rate and window", capacity_within_its_window),
    ("capacity belongs to its deployment", capacity_of_its_deployment),
    ("capacity never overlaps", capacity_never_overlaps),
    ("prices on tick", prices_on_tick),
    ("model cards as published", cards_as_published),
    ("grade schedules usable", schedules_usable),
]
