"""Named reads of bundles and gifts."""

from collections.abc import Collection, Iterable
from datetime import datetime

from django.db.models import QuerySet, Sum

from billing.domain.accounts import AccountKind, AccountRef
from billing.models import Account, Credit, Transfer
from core import prepared

KINDS = (AccountKind.GIFT.value, AccountKind.BUNDLE.value)


_USABLE = """
SELECT organization_id, kind, id FROM billing_credit WHERE organization_id = ANY(%s::bigint[]) AND expires_at > %s
ORDER BY kind <> 'gift', priority, expires_at, id
"""


def usable_credits(organization_ids: Collection[int], *, at: datetime) -> dict[int, list[AccountRef]]:
    """
    Return, by organization, the accounts that usage draws down before money, in order: gifts before bundles, of these
    the lower priority number, then what expires first. What has expired is left out.
    """
    found: dict[int, list[AccountRef]] = {}
    for organization_id, kind, pk in prepared.execute(_USABLE, [list(organization_ids), at]).fetchall():
        account = Credit(pk=pk, kind=kind, organization_id=organization_id).account
        found.setdefault(organization_id, []).append(account)
    return found


def credits_of(organization_id: int) -> "QuerySet[Credit]":
    """Return an organization's bundles and gifts."""
    return Credit.objects.filter(organization_id=organization_id)


def left_micro(credits: Iterable[Credit]) -> dict[int, int]:
    """Return what is left of each, by its id."""
    by_scope = {row.account.scope: row.pk for row in credits}
    rows = Account.objects.filter(kind__in=KINDS, scope__in=by_scope).values_list("scope", "posted_micro")
    return dict.fromkeys(by_scope.values(), 0) | {by_scope[scope]: posted for scope, posted in rows}


def credits_with_left(organization_id: int, most: int = 50) -> list[tuple[Credit, int]]:
    """Return an organization's bundles and gifts with what is left of each, those that end last first."""
    rows = list(credits_of(organization_id).order_by("-expires_at", "-pk")[:most])
    left = left_micro(rows)
    return [(row, left[row.pk]) for row in rows]


def drawn_micro(organization_id: int, key: str) -> list[tuple[AccountRef, int]]:
    """Return what transfers with keys that begin with `key` drew from bundles and gifts, the last first."""
    rows = Account.objects.filter(organization_id=organization_id, kind__in=KINDS)
    accounts = {row.pk: row.ref for row in rows}
    if not accounts:
        return []
    mine = Transfer.objects.filter(key__startswith=key)
    taken = dict(mine.filter(debit__in=accounts).values_list("debit").annotate(Sum("amount_micro")).order_by())
    back = dict(mine.filter(credit__in=accounts).values_list("credit").annotate(Sum("amount_micro")).order_by())
    left = {pk: taken.get(pk, 0) - back.get(pk, 0) for pk in sorted(accounts, reverse=True)}
    return [(accounts[pk], amount) for pk, amount in left.items() if amount > 0]


def expired_credits(at: datetime) -> list[Credit]:
    """Return what has expired and is not used up."""
    rows = list(Credit.objects.filter(expires_at__lte=at).order_by("pk"))
    left = left_micro(rows)
    return [row for row in rows if left[row.pk]]
