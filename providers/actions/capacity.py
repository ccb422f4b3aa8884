"""Capacity: published for a window, withdrawn before it is sold."""

from datetime import datetime

from core.errors import BadRequest, Conflict, NotFound
from core.money import LOT_TOKENS, format_price
from core.periods import Period
from core.transactions import assert_in_transaction
from providers import queries
from providers.actions.deployments import GradeRetired, lock_deployment
from providers.actions.prices import DeploymentRetired, check_price, record_list_price
from providers.models import Capacity, Deployment, Grade

MAX_TOKENS = 10**15


class BadWindow(BadRequest):
    """The window ends before it starts, or has ended."""

    code = "bad-window"


class QuantityNotInLots(BadRequest):
    """The quantity is not a positive number of whole lots."""

    code = "quantity-not-in-lots"


class CapacityBeyondRate(BadRequest):
    """More than the deployment's rate allows, a minute or in the window."""

    code = "capacity-beyond-rate"


class ReserveAboveList(BadRequest):
    """Nobody would pay more at auction than the list price."""

    code = "reserve-above-list"


class CapacityOverlaps(Conflict):
    """The deployment has capacity in a window that overlaps: the same capacity cannot be sold twice."""

    code = "capacity-overlaps"


class CapacityAlreadySold(Conflict):
    """What is sold cannot be withdrawn."""

    code = "capacity-already-sold"


class CapacityAlreadyWithdrawn(Conflict):
    """There is nothing left of it."""

    code = "capacity-already-withdrawn"


def window_of(start: datetime, end: datetime) -> Period:
    """
    Return the window of two aware times.

    :raises BadWindow: it ends before it starts.
    """
    if end <= start:
        raise BadWindow(f"The window ends ({end.isoformat()}) before it starts ({start.isoformat()}).", field="window")
    return Period(start, end)


def publish_capacity(
    *,
    deployment_id: int,
    window: Period,
    quantity_tokens: int,
    tokens_per_minute: int,
    reserve_price_nano: int,
    list_price_nano: int,
    wait: bool,
    now: datetime,
    provider_id: int | None = None,
) -> Capacity:
    """
    Publish what a deployment offers in a window, and put its list price into force.

    :param quantity_tokens: standard tokens, whole lots, at most `tokens_per_minute` × the window.
    :param tokens_per_minute: standard tokens a minute, at most 90% of the certified or else the rated rate.
    :param wait: do not offer it at once.
    :param provider_id: whose deployment it must be.
    :raises NotFound: there is no such deployment, or it is another provider's.
    :raises DeploymentRetired, GradeRetired: nothing is offered with it any more.
    :raises BadWindow: it has ended.
    :raises QuantityNotInLots, CapacityBeyondRate: too much, too little or no whole lots.
    :raises PriceNotPositive, PriceOffTick, ReserveAboveList: the prices break the grade's rules.
    :raises CapacityOverlaps: with the capacity that is in the way.
    """
    assert_in_transaction()
    deployment = lock_deployment(deployment_id, provider_id=provider_id)
    grade = deployment.grade
    if deployment.status == Deployment.Status.RETIRED:
        raise DeploymentRetired(f"{deployment.name} is retired and offers nothing.", field="deployment")
    if grade.status != Grade.Status.ACTIVE:
        raise GradeRetired(f"The grade {grade.slug} is retired and takes no new capacity.", field="deployment")
    if window.end <= now:
        raise BadWindow(f"The window ended at {window.end.isoformat()}.", field="window")
    _check_quantity(deployment, window, quantity_tokens, tokens_per_minute)
    check_price(grade, list_price_nano, field="list_price")
    check_price(grade, reserve_price_nano, field="reserve_price")
    if reserve_price_nano > list_price_nano:
        raise ReserveAboveList(
            f"The reserve price ¥{format_price(reserve_price_nano)} is above the list price "
            f"¥{format_price(list_price_nano)}.",
            field="reserve_price",
        )
    _check_free(deployment, window)
    capacity = Capacity.objects.create(
        deployment=deployment,
        grade=grade,
        provider_id=deployment.provider_id,
        window_start=window.start,
        window_end=window.end,
        quantity_tokens=quantity_tokens,
        tokens_per_minute=tokens_per_minute,
        reserve_price_nano=reserve_price_nano,
        list_price_nano=list_price_nano,
        wait=wait,
        published_at=now,
    )
    record_list_price(deployment, list_price_nano, now=now)
    return capacity


def withdraw_capacity(
    *, capacity_id: int, sold_tokens: int, now: datetime, quantity_tokens: int | None = None
) -> Capacity:
    """
    Take capacity back: all of it, or `quantity_tokens` of what is not sold.

    The caller has locked the market and knows what is sold or still on offer as sold.

    :param sold_tokens: standard tokens of it that are sold, in lots.
    :raises NotFound: there is no such capacity.
    :raises CapacityAlreadyWithdrawn: all of it was taken back before.
    :raises QuantityNotInLots: a quantity that is not a positive number of lots.
    :raises CapacityAlreadySold: with how much of it may be withdrawn.
    """
    assert_in_transaction()
    capacity = Capacity.objects.select_for_update(no_key=True).filter(pk=capacity_id).first()
    if capacity is None:
        raise NotFound("There is no such capacity.", field="capacity")
    if capacity.withdrawn_at is not None:
        raise CapacityAlreadyWithdrawn("All of this capacity was withdrawn before.")
    wanted = capacity.offered_tokens if quantity_tokens is None else quantity_tokens
    if wanted <= 0 or wanted % LOT_TOKENS:
        raise QuantityNotInLots(f"quantity is whole lots of {LOT_TOKENS:,} tokens.", field="quantity")
    free = max(0, capacity.offered_tokens - sold_tokens)
    if wanted > free:
        raise CapacityAlreadySold(
            f"{sold_tokens:,} of {capacity.offered_tokens:,} tokens are sold: at most {free:,} can be withdrawn.",
            field="quantity",
            sold=sold_tokens,
            withdrawable=free,
        )
    capacity.withdrawn_tokens += wanted
    if capacity.offered_tokens == 0:
        capacity.withdrawn_at = now
    capacity.save(update_fields=["withdrawn_tokens", "withdrawn_at"])
    return capacity


def release_waiting(*, capacity_id: int) -> Capacity:
    """Say that capacity which waited is to be offered now; offered already, it stays so."""
    assert_in_transaction()
    capacity = Capacity.objects.select_for_update(no_key=True).get(pk=capacity_id)
    if capacity.wait:
        capacity.wait = False
        capacity.save(update_fields=["wait"])
    return capacity


def _check_quantity(deployment: Deployment, window: Period, quantity_tokens: int, tokens_per_minute: int) -> None:
    if not 0 < quantity_tokens <= MAX_TOKENS or quantity_tokens % LOT_TOKENS:
        raise QuantityNotInLots(
            f"quantity is a positive number of whole lots of {LOT_TOKENS:,} standard tokens.", field="quantity"
        )
    if tokens_per_minute < 1:
        raise CapacityBeyondRate("tokens_per_minute is above zero.", field="tokens_per_minute")
    limit = queries.rate_limit_tokens_per_minute(deployment, at=window.start)
    if tokens_per_minute > limit:
        certified = queries.is_certified(deployment, at=window.start)
        why = "90% of its certificate" if certified else "its rating"
        raise CapacityBeyondRate(
            f"{deployment.name} may offer {limit:,} standard tokens a minute, by {why}; {tokens_per_minute:,} are "
            "asked for.",
            field="tokens_per_minute",
            limit_tokens_per_minute=limit,
        )
    most = int(window.duration.total_seconds()) * tokens_per_minute // 60
    if quantity_tokens > most:
        raise CapacityBeyondRate(
            f"{tokens_per_minute:,} standard tokens a minute make at most {most:,} in this window; "
            f"{quantity_tokens:,} are offered.",
            field="quantity",
            limit_tokens=most,
        )


def _check_free(deployment: Deployment, window: Period) -> None:
    """The deployment is locked, so nobody publishes in between; the exclusion constraint stands behind this."""
    other = Capacity.objects.filter(
        deployment=deployment, withdrawn_at__isnull=True, window_start__lt=window.end, window_end__gt=window.start
    ).first()
    if other is not None:
        raise CapacityOverlaps(
            f"{deployment.name} offers capacity {other.pk} from {other.window_start:%Y-%m-%d %H:%M} to "
            f"{other.window_end:%Y-%m-%d %H:%M} UTC already. Withdraw it first.",
            field="window",
            capacity=other.pk,
        )
