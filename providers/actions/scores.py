"""How well a provider delivered, as the apps above find it."""

from collections.abc import Iterable
from datetime import datetime

from django.db import connection

from core.transactions import assert_in_transaction
from identity.models import Organization
from providers import queries
from providers.models import DeliveryRecord, ProviderScore

_LATEST = """
    SELECT coalesce(sum(contracts), 0), coalesce(sum(contracted_tokens), 0), coalesce(sum(undelivered_tokens), 0)
    FROM (SELECT DISTINCT ON (scope) * FROM providers_deliveryrecord WHERE provider_id = %s
          ORDER BY scope, revision DESC) AS latest
"""


def lock_scores(provider_ids: Iterable[int]) -> None:
    """Let one settlement at a time score these providers, until commit. Before any lock on money."""
    assert_in_transaction()
    rows = Organization.objects.select_for_update(no_key=True).only("pk")
    list(rows.filter(pk__in=set(provider_ids)).order_by("pk"))


def record_delivery(
    *, provider_id: int, scope: str, contracts: int, contracted_tokens: int, undelivered_tokens: int, now: datetime
) -> ProviderScore | None:
    """
    Record how a provider delivered in one scope, whole, and score it anew from all its records.

    :param contracted_tokens: standard tokens of its contracts there, replaced ones among them.
    :param undelivered_tokens: what of them it did not make available, at most all.
    :returns: the score that holds now. The same again changes nothing.
    """
    assert_in_transaction()
    lock_scores([provider_id])
    found = (contracts, contracted_tokens, undelivered_tokens)
    rows = DeliveryRecord.objects.filter(provider_id=provider_id, scope=scope).order_by("-revision")
    last = rows.first()
    if last is None or (last.contracts, last.contracted_tokens, last.undelivered_tokens) != found:
        DeliveryRecord.objects.create(
            provider_id=provider_id,
            scope=scope,
            revision=last.revision + 1 if last else 0,
            contracts=contracts,
            contracted_tokens=contracted_tokens,
            undelivered_tokens=undelivered_tokens,
            recorded_at=now,
        )
    with connection.cursor() as cursor:
        cursor.execute(_LATEST, [provider_id])
        totals = [int(total) for total in cursor.fetchone()]
    return record_score(
        provider_id=provider_id, contracts=totals[0], contracted_tokens=totals[1], undelivered_tokens=totals[2], now=now
    )


def record_score(
    *, provider_id: int, contracts: int, contracted_tokens: int, undelivered_tokens: int, now: datetime
) -> ProviderScore:
    """
    Put a provider's delivery score, recomputed from all its settled contracts, on record as the next version.

    :param contracted_tokens: standard tokens of those contracts.
    :param undelivered_tokens: what of them was not made available, at most all.
    :returns: the score that holds now. The same again makes no version.
    """
    assert_in_transaction()
    lock_scores([provider_id])
    last = queries.delivery_scores(provider_id).first()
    found = (contracts, contracted_tokens, undelivered_tokens)
    if last is not None and (last.contracts, last.contracted_tokens, last.undelivered_tokens) == found:
        return last
    return ProviderScore.objects.create(
        provider_id=provider_id,
        version=last.version + 1 if last else 1,
        contracts=contracts,
        contracted_tokens=contracted_tokens,
        undelivered_tokens=undelivered_tokens,
        updated_at=now,
    )
