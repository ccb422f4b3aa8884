"""The catalogue: accelerators and model cards, entered by the operator or loaded from the data files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from ciyuan.standard_token import VERSION, StandardTokenError
from ciyuan.standard_token import ModelCard as StandardCard

from core.errors import BadRequest, Conflict
from core.transactions import assert_in_transaction
from identity.access import Actor
from identity.actions import audit
from providers.domain.roofline import ARITHMETIC
from providers.models import Accelerator, ModelCard

#: The fields of an accelerator that may be marked as reported rather than published.
FIGURES = ("memory_bytes", "bandwidth_bytes_per_second", "gflops")


class BadAccelerator(BadRequest):
    """The accelerator's figures cannot be used."""

    code = "bad-accelerator"


class BadModelCard(BadRequest):
    """The card's numbers give no standard tokens."""

    code = "bad-model-card"


class ModelCardFrozen(Conflict):
    """A card of that name is published with other numbers."""

    code = "model-card-frozen"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorFacts:
    """What is known of an accelerator; see `Accelerator`."""

    slug: str
    vendor: str
    name: str
    memory_bytes: int | None
    bandwidth_bytes_per_second: int | None
    gflops: Mapping[str, int]
    source: str
    as_of: date
    vendor_zh: str = ""
    memory_kind: str = ""
    unverified: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model; see `ModelCard`. `card` is as the SDK's `ModelCard.from_dict` reads it."""

    slug: str
    name: str
    card: Mapping[str, Any]
    total_params: int
    source: str
    as_of: date
    weights_sha256: str = field(default="")


def put_accelerator(*, facts: AcceleratorFacts, now: datetime, actor: Actor | None = None) -> tuple[Accelerator, bool]:
    """
    Store an accelerator, or replace the figures of the one with this slug; say whether anything changed.

    :raises BadAccelerator: an unknown arithmetic or figure name, or a figure that is no positive whole number.
    """
    assert_in_transaction()
    _check_figures(facts)
    values: dict[str, Any] = {
        "vendor": facts.vendor,
        "vendor_zh": facts.vendor_zh,
        "name": facts.name,
        "memory_bytes": facts.memory_bytes,
        "memory_kind": facts.memory_kind,
        "bandwidth_bytes_per_second": facts.bandwidth_bytes_per_second,
        "gflops": dict(facts.gflops),
        "source": facts.source,
        "as_of": facts.as_of,
        "unverified": list(facts.unverified),
        "note": facts.note,
    }
    row = Accelerator.objects.select_for_update(no_key=True).filter(slug=facts.slug).first()
    if row is None:
        row = Accelerator.objects.create(slug=facts.slug, **values)
        before = None
    else:
        before = {name: getattr(row, name) for name in values}
        if before == values:
            return row, False
        for name, value in values.items():
            setattr(row, name, value)
        row.save(update_fields=list(values))
    audit.record(
        actor=actor,
        verb="accelerator.put",
        subject=f"accelerator:{facts.slug}",
        now=now,
        before=before and _json(before),
        after=_json(values),
    )
    return row, True


def _json(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "as_of": values["as_of"].isoformat()}


def _check_figures(facts: AcceleratorFacts) -> None:
    if not facts.gflops:
        raise BadAccelerator("gflops names at least one arithmetic.", field="gflops")
    for name, value in facts.gflops.items():
        if name not in ARITHMETIC:
            raise BadAccelerator(f"gflops knows {', '.join(ARITHMETIC)}, not “{name}”.", field="gflops")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**12:
            raise BadAccelerator(f"gflops.{name} is a whole number above 0 (10⁹ operations a second).", field="gflops")
    for name, figure in (
        ("memory_bytes", facts.memory_bytes),
        ("bandwidth_bytes_per_second", facts.bandwidth_bytes_per_second),
    ):
        if figure is not None and not 0 < figure < 2**63:
            raise BadAccelerator(f"{name} is a whole number above 0, or null where unknown.", field=name)
    for name in facts.unverified:
        if name not in FIGURES:
            raise BadAccelerator(f"unverified names {', '.join(FIGURES)}, not “{name}”.", field="unverified")


def publish_model_card(*, facts: ModelFacts, now: datetime, actor: Actor | None = None) -> tuple[ModelCard, bool]:
    """
    Store a model card under the current version of the standard token; say whether it is new.

    :raises BadModelCard: numbers that no model has.
    :raises ModelCardFrozen: the slug is taken by a card with other numbers.
    """
    assert_in_transaction()
    try:
        card = StandardCard.from_dict(facts.card, name=facts.slug)
    except StandardTokenError as error:
        raise BadModelCard(f"{error.detail}.", field=error.field) from None
    if facts.total_params < card.active_params:
        raise BadModelCard("total_params is at least active_params.", field="total_params")
    numbers = card.to_dict()
    values = {
        "active_params": numbers["active_params"],
        "active_weight_bytes": numbers["active_weight_bytes"],
        "attention": numbers["attention"],
        "total_params": facts.total_params,
        "weights_sha256": facts.weights_sha256,
    }
    row, created = ModelCard.objects.get_or_create(
        slug=facts.slug,
        defaults={
            **values,
            "name": facts.name,
            "standard_version": VERSION,
            "source": facts.source,
            "as_of": facts.as_of,
        },
    )
    if created:
        audit.record(actor=actor, verb="model_card.publish", subject=f"model_card:{facts.slug}", now=now, after=values)
        return row, True
    different = sorted(name for name, value in values.items() if getattr(row, name) != value)
    if different:
        raise ModelCardFrozen(
            f"The card {facts.slug} is published with another {', '.join(different)}: contracts were priced by it. "
            "Publish the new numbers under another slug.",
            field=different[0],
        )
    return row, False
