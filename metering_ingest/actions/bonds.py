"""Bonds of a market, given back once its settlement no longer needs them."""

from collections.abc import Iterable
from datetime import datetime

from billing.actions import ledger
from billing.domain import principal
from billing.domain.accounts import bond
from exchange.models import Market
from metering_ingest import queries


def return_bonds(market: Market, provider_ids: Iterable[int], *, now: datetime, final: bool = False) -> None:
    """Give the bonds of a market back: what open claims may cost is kept, unless the settlement is final."""
    accounts = {provider: bond(provider, market.scope) for provider in sorted(provider_ids)}
    claimed = {} if final else queries.claimed_micro(market.pk)
    balances = ledger.lock_accounts(accounts.values())
    ledger.post_all(
        [
            principal.return_bond(
                key=f"{'final' if final else 'settle'}bond:{market.pk}:{provider}", seller_id=provider,
                scope=market.scope, amount_micro=left,
            )
            for provider, account in accounts.items()
            if (left := balances[account].posted_micro - claimed.get(provider, 0)) > 0
        ],
        now=now,
    )  # fmt: skip
