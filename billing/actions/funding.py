"""
Bundles and gifts pay for purchases before free money does.

When an order's hold is taken they put what they have into the buyer's free money, up to the hold, and the market is
noted on it. What the buyer has in that market (held or spent, less what came back) is theirs first: when an order ends
unfilled, a price is better than its limit, a position is resold or a settlement refunds, what is more than that goes
back to them, and until then cannot be withdrawn. So a bundle never becomes money.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db.models import F

from billing import funding_queries
from billing.actions import ledger
from billing.domain.accounts import AccountRef, available
from billing.domain.postings import Posting, Stage
from billing.models import MarketFunding
from core.transactions import assert_in_transaction


def draws(
    *, key: str, organization_id: int, scope: str, amount_micro: int, left_micro: dict[AccountRef, int],
    drawn_first: Sequence[AccountRef],
) -> list[Posting]:
    """
    Return the postings by which bundles and gifts put an amount into free money, in their order; `left_micro`, what
    each of them has, is reduced. The amount is at most what they have together.
    """
    postings: list[Posting] = []
    for account in drawn_first:
        if part := min(left_micro[account], amount_micro):
            postings.append(Posting(
                f"{key}:{account.scope}", "credit_draw", Stage.POSTED, account, available(organization_id), part,
                label=scope))
            left_micro[account] -= part
            amount_micro -= part
    return postings


def note_draws(postings: Sequence[Posting]) -> None:
    """Note what `draws` took, by market. The caller has the buyer's free money locked, and posts them."""
    assert_in_transaction()
    for posting in postings:
        credit_id = int(posting.debit.scope.removeprefix("credit:"))
        mine = MarketFunding.objects.filter(credit_id=credit_id, scope=posting.label)
        if not mine.update(drawn_micro=F("drawn_micro") + posting.amount_micro):
            MarketFunding.objects.create(credit_id=credit_id, scope=posting.label, drawn_micro=posting.amount_micro)


def return_unused(*, organization_id: int, scope: str, now: datetime) -> int:
    """
    Give back to bundles and gifts what a market no longer has of theirs, the last drawn first; return it in
    micro-yuan. A second call finds nothing more. What has been spent elsewhere meanwhile comes back later.
    """
    assert_in_transaction()
    fundings = funding_queries.fundings_of(organization_id, scope)
    if not fundings:
        return 0
    money = available(organization_id)
    balances = ledger.lock_accounts([money, *(row.credit.account for row in fundings)])
    fundings = funding_queries.fundings_of(organization_id, scope)  # as they are now that nobody changes them
    outstanding = sum(row.outstanding_micro for row in fundings)
    unused = outstanding - max(0, funding_queries.in_market_micro(organization_id, scope))
    left = returned = max(0, min(unused, balances[money].free_micro))
    postings: list[Posting] = []
    for row in reversed(fundings):
        if part := min(row.outstanding_micro, left):
            postings.append(Posting(
                f"return:{row.pk}:{row.returned_micro}", "credit_return", Stage.POSTED, money, row.credit.account, part,
                label=scope))
            MarketFunding.objects.filter(pk=row.pk).update(returned_micro=F("returned_micro") + part)
            left -= part
    ledger.post_all(postings, now=now)
    return returned


def check_withdrawal(balances: Mapping[AccountRef, ledger.Balance], organization_id: int, amount_micro: int) -> None:
    """
    Refuse to let go of more than an organization's own free money. The caller has locked it.

    :raises InsufficientFunds: what is left belongs to bundles or gifts, or is not there.
    """
    money = available(organization_id)
    free = balances[money].free_micro - funding_queries.unused_micro(organization_id)
    if amount_micro > free:
        raise ledger.InsufficientFunds(money, needed_micro=amount_micro, available_micro=max(0, free))

