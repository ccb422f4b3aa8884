"""Looking through markets whose gate has closed, each once, and keeping what is found for the operator."""

from datetime import datetime

from core.transactions import assert_in_transaction
from exchange.models import Market, SurveillanceFinding, SurveillanceScan
from exchange.surveillance_queries import findings_of


def scan_market(*, market_id: int, now: datetime) -> int:
    """Look through a market; return how much was found. One that has been looked through, or is still open, gives 0."""
    assert_in_transaction()
    market = Market.objects.get(pk=market_id)
    if market.gate_closed_at is None:
        return 0
    _, fresh = SurveillanceScan.objects.get_or_create(market=market, defaults={"scanned_at": now})
    if not fresh:
        return 0
    rows = [
        SurveillanceFinding(
            rule=found.rule,
            market=market,
            organization_id=found.organization_id,
            counterparty_id=found.counterparty_id,
            figures=found.figures,
            found_at=now,
        )
        for found in findings_of(market)
    ]
    SurveillanceFinding.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)
