"""From a preliminary settlement to the final one: the grade's dispute days are over and every claim is decided."""

from datetime import datetime, timedelta

from core.errors import Conflict
from core.transactions import assert_in_transaction
from exchange.actions.markets import mark_final
from exchange.models import DeliveryContract, Market
from metering_ingest import queries, service_queries
from metering_ingest.actions.bonds import return_bonds
from metering_ingest.actions.settlement import settle_market


class NotFinalYet(Conflict):
    """The market is not settled, its dispute days last, or a claim or discrepancy waits."""

    code = "settlement-not-final"


def finalize_market(*, market_id: int, now: datetime) -> bool:
    """
    Settle a market for the last time with what was ruled since, give back what is left of its bonds, and close its
    claims. A second call does nothing; returns whether this one did.

    :raises NotFinalYet: before that time.
    """
    assert_in_transaction()
    market = Market.objects.select_for_update(no_key=True, of=("self",)).select_related("grade").get(pk=market_id)
    if market.finalized_at is not None:
        return False
    days = timedelta(days=market.grade.dispute_days)
    waits = queries.open_claims(market_id).exists() or queries.open_discrepancies(market_id).exists()
    waits = waits or service_queries.open_findings(market_id).exists()
    if market.settled_at is None or now < market.settled_at + days or waits:
        raise NotFinalYet("The dispute days of this market are not over, or a claim or discrepancy on it is open.")
    settle_market(market_id=market_id, now=now)
    providers = set(DeliveryContract.objects.filter(market_id=market_id).values_list("provider_id", flat=True))
    return_bonds(market, providers, now=now, final=True)
    mark_final(market_id=market_id, now=now)
    return True
