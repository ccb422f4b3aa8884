"""
Asking before a call: reserve in every budget that the call falls under, then settle what it used, or expire.

A reservation is a hold on the rows of the budgets' running periods. These are locked in the order of their ids, in one
statement, by whoever changes them: authorizations are decided one after the other, and never is more reserved than is
left.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import F, Q

from core.errors import BadRequest, Conflict
from core.ids import new_id
from core.money import format_tokens, format_yuan, work_cost_micro
from core.transactions import assert_in_transaction
from exchange.models import ContractDeployment, DeliveryContract
from identity.models import Organization
from metering_ingest.actions.budgets import alert, windows_of
from metering_ingest.domain.budgets import left
from metering_ingest.models import Authorization, AuthorizationHold, Budget, BudgetWindow
from providers.queries import list_price_nano

EXPIRED_A_SWEEP = 500


class BudgetExceeded(Conflict):
    """A hard budget has not got what is asked for. Nothing was reserved."""

    code = "budget-exceeded"


class PriceNeeded(BadRequest):
    """A budget in yuan applies and nothing says what the call would cost."""

    code = "price-needed"


class AlreadyEnded(Conflict):
    """The authorization was settled with another quantity."""

    code = "authorization-settled"


def authorize(
    *, organization: Organization, quantity_micro_st: int, key: str, tags: Mapping[str, str],
    contract: DeliveryContract | None, max_price_nano: int | None, lifetime: timedelta, now: datetime,
) -> Authorization:  # fmt: skip
    """
    Reserve work in every budget of the organization, of the key and of the tags, or refuse.

    In budgets in yuan the contract's dearest lot or list price is reserved, or `max_price_nano` where no contract says.

    :raises BudgetExceeded: with what is left of the hard budget that has the least.
    :raises PriceNeeded: a budget in yuan, neither a contract nor a highest price.
    """
    assert_in_transaction()
    falls_under = Q(subject=Budget.Subject.ORGANIZATION) | Q(subject=Budget.Subject.KEY, value=key)
    for name, value in tags.items():
        falls_under |= Q(subject=Budget.Subject.TAG, tag=name, value=value)
    budgets = list(Budget.objects.filter(falls_under, organization=organization, closed_at=None))
    price = _price(contract, now) if contract is not None else max_price_nano
    if price is None and any(budget.unit == Budget.Unit.YUAN for budget in budgets):
        raise PriceNeeded("A budget in yuan applies: name the contract, or the highest price of the call.",
                          field="max_price")  # fmt: skip
    windows = windows_of(budgets, contract_id=contract.pk if contract else None, now=now)
    cost = work_cost_micro(work_micro_st=quantity_micro_st, price_nano=price or 0)
    amounts = {w.pk: quantity_micro_st if w.budget.unit == Budget.Unit.TOKENS else cost for w in windows}
    short = [
        (rest, w)
        for w in windows
        if w.budget.hard and (rest := left(limit=w.budget.limit, used=w.used, held=w.held)) < amounts[w.pk]
    ]
    if short:
        rest, window = min(short, key=lambda pair: pair[0])
        budget = window.budget
        show = format_tokens if budget.unit == Budget.Unit.TOKENS else format_yuan
        raise BudgetExceeded(
            f"The {budget.period}'s budget “{budget.value or organization}” has {show(rest)} "
            f"{'standard tokens' if budget.unit == Budget.Unit.TOKENS else 'yuan'} left; "
            f"{show(amounts[window.pk])} are asked for.",
            budget=budget.pk, left=show(rest),
        )  # fmt: skip
    row = Authorization.objects.create(
        id=new_id(), organization=organization, contract=contract, key=key, tags=dict(tags),
        quantity_micro_st=quantity_micro_st, price_nano=price, created_at=now, expires_at=now + lifetime,
    )  # fmt: skip
    AuthorizationHold.objects.bulk_create(
        [AuthorizationHold(authorization=row, window=w, amount=amounts[w.pk]) for w in windows]
    )
    for window in windows:
        window.held += amounts[window.pk]
        window.cap, window.hard = max(window.cap, window.budget.limit), window.budget.hard
        window.save(update_fields=["held", "cap", "hard"])
        alert(window, now=now)
    return row


def _price(contract: DeliveryContract, now: datetime) -> int | None:
    """The dearest lot of a contract; of a list contract the dearest list price of where it may be served."""
    lots = contract.lots.order_by("-buyer_price_nano").values_list("buyer_price_nano", flat=True)
    if (dearest := lots.first()) is not None:
        return dearest
    served = ContractDeployment.objects.filter(contract__provider=contract.provider_id).values_list(
        "deployment_id", flat=True
    )
    prices = [list_price_nano(deployment_id, now) for deployment_id in set(served)]
    return max((price for price in prices if price is not None), default=None)


def settle_authorization(*, authorization_id: UUID, used_micro_st: int, now: datetime) -> Authorization:
    """
    Put what a call used in the place of what was reserved for it. The same again changes nothing.

    More than was reserved, or after it had expired, is counted all the same: it was used. It is counted as overrun, and
    the next calls find that much less.

    :raises AlreadyEnded: settled before, with another quantity.
    """
    assert_in_transaction()
    row = Authorization.objects.select_for_update().get(pk=authorization_id)
    if row.state == Authorization.State.SETTLED:
        if row.used_micro_st != used_micro_st:
            raise AlreadyEnded(
                f"This authorization was settled with {format_tokens(row.used_micro_st or 0)} standard tokens.",
                field="standard_tokens",
            )
        return row
    was_open = row.state == Authorization.State.OPEN
    amounts = dict(row.holds.values_list("window_id", "amount"))
    cost = work_cost_micro(work_micro_st=used_micro_st, price_nano=row.price_nano or 0)
    for window in _lock(amounts):
        used = used_micro_st if window.budget.unit == Budget.Unit.TOKENS else cost
        reserved = amounts[window.pk] if was_open else 0
        window.held -= reserved
        window.settled += used
        window.overrun += max(0, used - reserved)
        window.save(update_fields=["held", "settled", "overrun"])
        alert(window, now=now)
    row.state, row.used_micro_st, row.closed_at = Authorization.State.SETTLED, used_micro_st, now
    row.save(update_fields=["state", "used_micro_st", "closed_at"])
    return row


def expire_due(*, now: datetime) -> int:
    """Give back what authorizations had reserved whose time is over; those that somebody settles just now are left."""
    assert_in_transaction()
    due = list(
        Authorization.objects.select_for_update(skip_locked=True)
        .filter(state=Authorization.State.OPEN, expires_at__lte=now)
        .order_by("expires_at", "pk")[:EXPIRED_A_SWEEP]
    )
    back: defaultdict[int, int] = defaultdict(int)
    for window_id, amount in AuthorizationHold.objects.filter(authorization__in=due).values_list("window_id", "amount"):
        back[window_id] += amount
    for window in _lock(back):
        BudgetWindow.objects.filter(pk=window.pk).update(held=F("held") - back[window.pk])
    Authorization.objects.filter(pk__in=[row.pk for row in due]).update(
        state=Authorization.State.EXPIRED, closed_at=now
    )
    return len(due)


def _lock(window_ids: Iterable[int]) -> list[BudgetWindow]:
    rows = BudgetWindow.objects.select_for_update(no_key=True, of=("self",)).select_related("budget__organization")
    return list(rows.filter(pk__in=list(window_ids)).order_by("pk"))
