"""The end of a market's money: its collecting accounts are emptied into the house's."""

from datetime import datetime

from billing.actions import ledger
from billing.domain.accounts import fee, revenue, rounding, vat
from billing.domain.principal import sweep
from billing.models import SettledScope
from core.transactions import assert_in_transaction


def sweep_market(*, scope: str, now: datetime) -> bool:
    """
    Empty a market's fee, VAT and rounding accounts into the house's, and record that its charges are complete.

    Called last in the transaction that settles the market. Again it takes what a later revision has brought, if
    anything. Returns whether money moved.
    """
    assert_in_transaction()
    SettledScope.objects.get_or_create(scope=scope, defaults={"settled_at": now})
    settled = SettledScope.objects.select_for_update(no_key=True).get(scope=scope)
    collecting = fee(scope), vat(scope), rounding(scope)
    balances = ledger.lock_accounts([*collecting, revenue(), vat(), rounding()])
    amounts = [balances[account].posted_micro for account in collecting]
    if not any(amounts):
        return False
    SettledScope.objects.filter(pk=settled.pk).update(sweeps=settled.sweeps + 1)
    ledger.post_all(
        sweep(key=f"sweep:{scope}:{settled.sweeps}", scope=scope, fee_micro=amounts[0], vat_micro=amounts[1],
              rounding_micro=amounts[2]), now=now)
    return True
