"""Setting what an organization's orders may be at most."""

from collections.abc import Mapping
from datetime import datetime

from django.db.models import Q

from core.errors import BadRequest, NotFound
from core.transactions import assert_in_transaction
from exchange.models import TradingLimits
from identity.access import Actor
from identity.actions import audit
from identity.models import Organization

FIELDS = ("order_tokens", "order_value_micro", "price_distance_thousandths", "orders_per_minute", "position_tokens")


class BadLimit(BadRequest):
    """A limit that is not above zero."""

    code = "bad-limit"


def set_limits(
    *, organization_id: int | None, limits: Mapping[str, int | None], now: datetime, actor: Actor | None = None
) -> TradingLimits:
    """
    Set an organization's limits, or without one the house's, which hold for all that have none of their own.

    Fields left out are no limits: an organization's own row replaces the house's whole.

    :raises BadLimit: for a field that is unknown or not above zero.
    :raises NotFound: there is no such organization.
    """
    assert_in_transaction()
    for name, value in limits.items():
        if name not in FIELDS:
            raise BadLimit(f"The limits are {', '.join(FIELDS)}.", field=name)
        if value is not None and not 0 < value < 2**31 * (1 if name in FIELDS[2:4] else 2**31):
            raise BadLimit("A limit is above zero; null is none.", field=name)
    if organization_id is not None and not Organization.objects.filter(pk=organization_id).exists():
        raise NotFound(f"There is no organization {organization_id}.", field="organization")
    values = {name: limits.get(name) for name in FIELDS}
    whose = Q(organization__isnull=True) if organization_id is None else Q(organization_id=organization_id)
    row = TradingLimits.objects.select_for_update(no_key=True).filter(whose).first()
    before = None if row is None else {name: getattr(row, name) for name in FIELDS}
    if row is None:
        row = TradingLimits.objects.create(organization_id=organization_id, changed_at=now, **values)
    else:
        TradingLimits.objects.filter(pk=row.pk).update(changed_at=now, **values)
        row.refresh_from_db()
    subject = "house" if organization_id is None else f"organization:{organization_id}"
    audit.record(actor=actor, verb="limits.set", subject=subject, now=now, before=before, after=values)
    return row
