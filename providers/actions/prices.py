"""List prices: set from a moment on, kept for ever; and the rules that every price of a grade follows."""

from datetime import datetime

from core.errors import BadRequest, Conflict
from core.money import format_price
from core.transactions import assert_in_transaction
from providers.actions.deployments import lock_deployment
from providers.models import Deployment, Grade, ListPrice


class PriceNotPositive(BadRequest):
    """A price is above zero."""

    code = "price-not-positive"


class PriceOffTick(BadRequest):
    """The price is between two steps of the grade's tick."""

    code = "price-off-tick"


class DeploymentRetired(Conflict):
    """A retired deployment offers nothing."""

    code = "deployment-retired"


def check_price(grade: Grade, price_nano: int, *, field: str) -> None:
    """
    Check a price of the grade.

    :raises PriceNotPositive: zero or less.
    :raises PriceOffTick: with the two nearest prices.
    """
    if price_nano <= 0:
        raise PriceNotPositive("A price is above zero.", field=field)
    if price_nano % grade.tick_nano:
        below = price_nano - price_nano % grade.tick_nano
        raise PriceOffTick(
            f"¥{format_price(price_nano)} is off the tick of ¥{format_price(grade.tick_nano)}; "
            f"nearest are ¥{format_price(below)} and ¥{format_price(below + grade.tick_nano)} a token.",
            field=field,
        )


def set_list_price(
    *, deployment_id: int, price_nano: int | None, now: datetime, provider_id: int | None = None
) -> ListPrice:
    """
    Put a deployment's list price into force from `now`; None takes it off the list.

    The same price again changes nothing.

    :raises NotFound: it is another provider's.
    :raises PriceNotPositive, PriceOffTick: the price breaks the grade's rules.
    :raises DeploymentRetired: it offers nothing any more.
    """
    assert_in_transaction()
    deployment = lock_deployment(deployment_id, provider_id=provider_id)
    if deployment.status == Deployment.Status.RETIRED:
        raise DeploymentRetired(f"{deployment.name} is retired and has no list price.", field="deployment")
    if price_nano is not None:
        check_price(deployment.grade, price_nano, field="price")
    return record_list_price(deployment, price_nano, now=now)


def record_list_price(deployment: Deployment, price_nano: int | None, *, now: datetime) -> ListPrice:
    """Append a checked price to the history of a locked deployment, unless it is the one in force."""
    latest = ListPrice.objects.filter(deployment=deployment).order_by("-valid_from").first()
    if latest is not None and latest.price_nano == price_nano:
        return latest
    if latest is not None and latest.valid_from >= now:
        raise Conflict("The list price was changed at this very moment; send it again.", field="price")
    return ListPrice.objects.create(deployment=deployment, price_nano=price_nano, valid_from=now)
