"""Whom a buyer does not want to be served by. What holds when a gate closes is honoured in its assignment."""

from datetime import datetime

from core.errors import BadRequest, Conflict, NotFound
from core.transactions import assert_in_transaction
from exchange.models import BuyerExclusion
from identity.models import Organization

MOST = 3


class TooManyExclusions(Conflict):
    """A buyer excludes three providers at most."""

    code = "too-many-exclusions"


class CannotExclude(BadRequest):
    """There is no such provider, or it is the buyer itself."""

    code = "cannot-exclude"


def exclude(*, buyer: Organization, provider_id: int, now: datetime) -> BuyerExclusion:
    """
    Exclude a provider from now on; excluded already, it stays so.

    :raises CannotExclude: no such provider, or the buyer itself.
    :raises TooManyExclusions: three are excluded.
    """
    assert_in_transaction()
    Organization.objects.select_for_update(no_key=True).only("pk").get(pk=buyer.pk)  # so that three stay three
    provider = Organization.objects.filter(pk=provider_id, kind__in=["provider", "both"]).first()
    if provider is None or provider.pk == buyer.pk:
        raise CannotExclude("provider is the id of a provider other than yourself.", field="provider")
    rows = BuyerExclusion.objects.filter(buyer=buyer).select_related("provider")
    known = rows.filter(provider=provider).first()
    if known is not None:
        return known
    if rows.count() >= MOST:
        raise TooManyExclusions(f"You exclude {MOST} providers already; readmit one of them first.", field="provider")
    return BuyerExclusion.objects.create(buyer=buyer, provider=provider, since=now)


def readmit(*, buyer: Organization, provider_id: int) -> None:
    """
    Take an exclusion back.

    :raises NotFound: that provider is not excluded.
    """
    assert_in_transaction()
    deleted, _ = BuyerExclusion.objects.filter(buyer=buyer, provider_id=provider_id).delete()
    if not deleted:
        raise NotFound("You do not exclude that provider.", field="provider")
