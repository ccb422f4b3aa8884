"""Named reads of the catalogue, of supply and of list prices."""

from collections.abc import Iterable
from datetime import datetime
from difflib import get_close_matches
from typing import TypeVar

from django.db.models import Model, QuerySet

from core import prepared
from core.errors import BadRequest, NotFound
from identity.access import Actor
from providers.domain.roofline import rate_limit
from providers.models import (
    Accelerator,
    Capacity,
    Certificate,
    Deployment,
    Grade,
    ListPrice,
    ModelCard,
    ProviderScore,
)

M = TypeVar("M", bound=Model)


class AcceleratorUnknown(BadRequest):
    """No accelerator of that slug or id in the catalogue."""

    code = "accelerator-unknown"


class ModelUnknown(BadRequest):
    """No model card of that slug or id."""

    code = "model-unknown"


class GradeUnknown(BadRequest):
    """No grade of that slug or id."""

    code = "grade-unknown"


def accelerator(slug_or_id: str | int) -> Accelerator:
    """:raises AcceleratorUnknown: with the slugs that look like it."""
    found = _by_slug_or_id(Accelerator.objects.all(), slug_or_id)
    if found is None:
        near = _near(slug_or_id, list(Accelerator.objects.values_list("slug", flat=True)))
        raise AcceleratorUnknown(
            f"The catalogue has no accelerator “{slug_or_id}”{near}. GET /v1/accelerators lists them.",
            field="accelerator",
        )
    return found


def model_card(slug_or_id: str | int) -> ModelCard:
    """:raises ModelUnknown: with the slugs that look like it."""
    found = _by_slug_or_id(ModelCard.objects.all(), slug_or_id)
    if found is None:
        near = _near(slug_or_id, list(ModelCard.objects.values_list("slug", flat=True)))
        raise ModelUnknown(f"There is no model card “{slug_or_id}”{near}. GET /v1/models lists them.", field="model")
    return found


def grade(slug_or_id: str | int) -> Grade:
    """:raises GradeUnknown: with the slugs that look like it."""
    found = _by_slug_or_id(Grade.objects.select_related("model_card"), slug_or_id)
    if found is None:
        near = _near(slug_or_id, list(Grade.objects.values_list("slug", flat=True)))
        raise GradeUnknown(f"There is no grade “{slug_or_id}”{near}. GET /v1/grades lists them.", field="grade")
    return found


def grades_to_schedule() -> list[Grade]:
    """Return the active grades, which markets are made for, by id."""
    return list(Grade.objects.filter(status=Grade.Status.ACTIVE).select_related("model_card").order_by("id"))


def deployment(deployment_id: int) -> Deployment:
    """:raises NotFound: there is none of that id."""
    found = deployments().filter(pk=deployment_id).first()
    if found is None:
        raise NotFound("There is no such deployment.", field="deployment")
    return found


def deployments() -> "QuerySet[Deployment]":
    """Return all deployments with what they are shown with."""
    return Deployment.objects.select_related("provider", "grade__model_card", "accelerator")


def deployments_readable(actor: Actor) -> "QuerySet[Deployment]":
    """Return the deployments that `actor` may see: its own, or all for operator and auditor."""
    return deployments().filter(provider__in=actor.organizations_readable())


def rate_limit_tokens_per_minute(deployment: Deployment, *, at: datetime) -> int:
    """
    Return the most standard tokens a minute that the deployment may publish for then.

    90% of its certificate while that is valid, else what its provider rates, at most the roofline.
    """
    certified = deployment.certified_tokens_per_minute if is_certified(deployment, at=at) else None
    return rate_limit(
        rated=deployment.rated_tokens_per_minute,
        certified=certified,
        bound=None if certified is not None else deployment.roofline().tokens_per_minute,
    )


def certified_limit(certified: int) -> int:
    """Return what may be published by a certificate of so many standard tokens a minute."""
    return rate_limit(rated=0, certified=certified, bound=None)


def certificates_readable(actor: Actor) -> "QuerySet[Certificate]":
    """Return the certificates that `actor` may see: of its own deployments, or all for operator and auditor."""
    return Certificate.objects.filter(deployment__provider__in=actor.organizations_readable())


def is_certified(deployment: Deployment, *, at: datetime) -> bool:
    """Whether a certificate of the deployment is valid then."""
    return deployment.certified_until is not None and at < deployment.certified_until


def capacity(capacity_id: int) -> Capacity:
    """:raises NotFound: there is none of that id."""
    found = Capacity.objects.select_related("deployment", "grade").filter(pk=capacity_id).first()
    if found is None:
        raise NotFound("There is no such capacity.", field="capacity")
    return found


def capacities_readable(actor: Actor) -> "QuerySet[Capacity]":
    """Return the capacity that `actor` may see: its own, or all for operator and auditor."""
    rows = Capacity.objects.select_related("deployment", "grade")
    return rows.filter(provider__in=actor.organizations_readable())


def list_price_nano(deployment_id: int, at: datetime) -> int | None:
    """Return the deployment's list price in force then, in nano-yuan a token; None when it has none."""
    return (
        ListPrice.objects.filter(deployment_id=deployment_id, valid_from__lte=at)
        .order_by("-valid_from")
        .values_list("price_nano", flat=True)
        .first()
    )


def highest_list_price_nano(grade_id: int, at: datetime) -> int | None:
    """Return the highest list price in force then for the grade: a market's default cap."""
    in_force = [prices[-1] for prices in _prices_since(grade_id, at, at).values()]
    return max((price for price in in_force if price is not None), default=None)


def grades_with_list_price(grade_ids: Iterable[int], at: datetime) -> set[int]:
    """Return those of the grades for which a list price is in force then."""
    latest = (
        ListPrice.objects.filter(
            deployment__grade_id__in=set(grade_ids), deployment__status=Deployment.Status.ACTIVE, valid_from__lte=at
        )
        .order_by("deployment_id", "-valid_from")
        .distinct("deployment_id")
        .values_list("deployment__grade_id", "price_nano")
    )
    return {grade_id for grade_id, price_nano in latest if price_nano is not None}


def lowest_list_price_nano(grade_id: int, since: datetime, at: datetime) -> int | None:
    """
    Return the lowest list price from `since` to `at`, among deployments that were open to buy all that time.

    Discounts are measured against it. A price raised shortly before does not count, nor one that came and went: the
    lowest of the whole stretch does, of sellers who had one throughout.
    """
    throughout = (prices for prices in _prices_since(grade_id, since, at).values() if None not in prices)
    return min((price for prices in throughout for price in prices if price is not None), default=None)


def _prices_since(grade_id: int, since: datetime, at: datetime) -> dict[int, list[int | None]]:
    """The prices of each active deployment in [since, at], the one in force at `since` first; None for no price."""
    prices: dict[int, list[int | None]] = {}
    rows = (
        ListPrice.objects.filter(
            deployment__grade_id=grade_id, deployment__status=Deployment.Status.ACTIVE, valid_from__lte=at
        )
        .order_by("deployment_id", "valid_from")
        .values_list("deployment_id", "price_nano", "valid_from")
    )
    for deployment_id, price_nano, valid_from in rows:
        if valid_from <= since:
            prices[deployment_id] = [price_nano]
        else:
            prices.setdefault(deployment_id, [None]).append(price_nano)
    return prices


_SCORE = """
SELECT contracts, contracted_tokens, undelivered_tokens FROM providers_providerscore WHERE provider_id = %s
ORDER BY version DESC LIMIT 1
"""


def delivered_thousandths(provider_id: int) -> int | None:
    """Return the share of what the provider sold that it made available, in thousandths; None before its first."""
    row = prepared.execute(_SCORE, [provider_id]).fetchone()
    if row is None:
        return None
    contracts, contracted, undelivered = row
    score = ProviderScore(contracts=contracts, contracted_tokens=contracted, undelivered_tokens=undelivered)
    return score.delivered_thousandths if contracts else None


def delivery_scores(provider_id: int) -> "QuerySet[ProviderScore]":
    """Return the versions of a provider's score, the one that holds first."""
    return ProviderScore.objects.filter(provider_id=provider_id).order_by("-version")


def _by_slug_or_id(rows: "QuerySet[M]", slug_or_id: str | int) -> M | None:
    if isinstance(slug_or_id, int):
        return rows.filter(pk=slug_or_id).first()
    return rows.filter(slug=slug_or_id).first()


def _near(wanted: str | int, known: list[str]) -> str:
    near = get_close_matches(str(wanted), known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""
