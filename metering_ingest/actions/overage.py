"""What buyers may still use beyond their contracts: within the month's limit, and as far as they can pay."""

from collections.abc import Mapping, Sequence
from datetime import date

from billing import queries as billing
from billing.actions import ledger
from billing.domain.accounts import AccountRef, available, bond, escrow, fee, payable, receivable, rounding, vat
from core.periods import SHANGHAI
from identity.models import Organization
from metering_ingest.actions.settlement_entries import Due
from metering_ingest.models import OverageMonth


def overage_months(due: Sequence[Due]) -> dict[int, OverageMonth]:
    """Lock, in the buyers' order, what each has spent beyond its contracts in the month of the period's start."""
    month: date = due[0].period.start.astimezone(SHANGHAI).date().replace(day=1)
    buyers = sorted({one.contract.buyer_id for one in due})
    OverageMonth.objects.bulk_create(
        [OverageMonth(buyer_id=buyer, month=month) for buyer in buyers], ignore_conflicts=True
    )
    rows = OverageMonth.objects.select_for_update(of=("self",)).select_related("buyer")
    return {row.buyer_id: row for row in rows.filter(buyer_id__in=buyers, month=month).order_by("buyer_id")}


class Credit:
    """
    What buyers can still pay for usage beyond their contracts: gifts and bundles, free money, and credit that they do
    not owe yet.

    Where any of them may, every account of the settlement is locked, so that nobody spends the same money meanwhile.
    """

    def __init__(
        self, due: Sequence[Due], drawn_first: Mapping[int, Sequence[AccountRef]], buyers: Sequence[Organization]
    ) -> None:
        self.left: dict[int, int] = {}
        may = [buyer for buyer in buyers if buyer.allows_overage_micro]
        if not may:
            return
        accounts: set[AccountRef] = set()
        for one in due:
            buyer, provider, scope = one.contract.buyer_id, one.contract.provider_id, one.scope
            accounts |= set(drawn_first.get(buyer, []))
            accounts |= {available(buyer), receivable(buyer), payable(provider), bond(provider, scope), escrow(scope)}
        balances = ledger.lock_accounts(accounts | {fee(due[0].scope), vat(due[0].scope), rounding(due[0].scope)})
        self.left = {
            buyer.pk: billing.spendable_micro(buyer.pk, credit_limit_micro=buyer.credit_limit_micro)
            + sum(balances[account].free_micro for account in drawn_first.get(buyer.pk, []))
            for buyer in may
        }

    def left_micro(self, buyer_id: int) -> int:
        """Return what a buyer can still pay."""
        return max(0, self.left.get(buyer_id, 0))

    def spend(self, buyer_id: int, amount_micro: int) -> None:
        """Note what a buyer pays (negative: gets back)."""
        self.left[buyer_id] = self.left.get(buyer_id, 0) - amount_micro
