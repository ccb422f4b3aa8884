"""How well a provider delivered, as the apps above find it."""

from datetime import datetime

from core.transactions import assert_in_transaction
from providers.models import ProviderScore


def record_score(
    *, provider_id: int, contracts: int, contracted_tokens: int, undelivered_tokens: int, now: datetime
) -> ProviderScore:
    """
    Replace a provider's delivery score by one recomputed from all its settled contracts; repeating it is harmless.

    :param contracted_tokens: standard tokens of those contracts.
    :param undelivered_tokens: what of them was not made available, at most all.
    """
    assert_in_transaction()
    score, _created = ProviderScore.objects.update_or_create(
        provider_id=provider_id,
        defaults={
            "contracts": contracts,
            "contracted_tokens": contracted_tokens,
            "undelivered_tokens": undelivered_tokens,
            "updated_at": now,
        },
    )
    return score
