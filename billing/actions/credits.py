"""
Bundles are bought, gifts are given, and what is left of either when it expires is taken back.

Paying for a bundle turns money that may be refunded into a contract liability that only usage redeems; it is no
supply yet and bears no VAT, the usage it pays for does. What a gift pays is the operator's promotion. A bundle that
expires unused is breakage: revenue.
"""

from datetime import datetime, timedelta

from billing.actions import ledger
from billing.actions.funding import check_withdrawal
from billing.domain.accounts import available, promotion, revenue
from billing.domain.postings import LARGEST_AMOUNT_MICRO, Posting, Stage
from billing.models import BundleOffer, Credit
from core.errors import BadRequest, Conflict, NotFound
from core.transactions import assert_in_transaction
from identity.models import Organization

MOST_DAYS = 3 * 366


class BadBundle(BadRequest):
    """A bundle or gift that cannot be."""

    code = "bad-bundle"


class BundleWithdrawn(Conflict):
    """It is sold no more."""

    code = "bundle-withdrawn"


def offer_bundle(
    *, name: str, price_micro: int, worth_micro: int, valid_days: int, now: datetime, priority: int = 100
) -> BundleOffer:
    """
    Offer a bundle at a fixed price.

    :raises BadBundle: a price that is not above zero, a bundle worth less than it costs, or no time to use it.
    """
    assert_in_transaction()
    if not 0 < price_micro <= LARGEST_AMOUNT_MICRO:
        raise BadBundle("A bundle costs more than ¥0.", field="price")
    if not price_micro <= worth_micro <= LARGEST_AMOUNT_MICRO:
        raise BadBundle("A bundle pays for at least as much usage as it costs.", field="worth")
    if not 0 < valid_days <= MOST_DAYS:
        raise BadBundle(f"A bundle is good for 1 to {MOST_DAYS} days.", field="valid_days")
    return BundleOffer.objects.create(
        name=name, price_micro=price_micro, worth_micro=worth_micro, valid_days=valid_days, priority=priority,
        offered_at=now,
    )  # fmt: skip


def withdraw_bundle(*, offer_id: int, now: datetime) -> BundleOffer:
    """
    Sell a bundle no more; what was sold stays good. Withdrawn already, it stays so.

    :raises NotFound: there is no such bundle.
    """
    assert_in_transaction()
    BundleOffer.objects.filter(pk=offer_id, withdrawn_at=None).update(withdrawn_at=now)
    return _offer(offer_id)


def buy_bundle(*, organization: Organization, offer_id: int, now: datetime) -> Credit:
    """
    Buy a bundle from free money, at once and whole. The door makes a repetition harmless.

    :raises NotFound: there is no such bundle.
    :raises BundleWithdrawn: it is sold no more.
    :raises InsufficientFunds: from the ledger.
    """
    assert_in_transaction()
    offer = _offer(offer_id)
    if offer.withdrawn_at is not None:
        raise BundleWithdrawn("This bundle is sold no more. GET /v1/bundle-offers lists those that are.", field="offer")
    credit = Credit.objects.create(
        organization=organization, kind=Credit.Kind.BUNDLE, offer=offer, name=offer.name, paid_micro=offer.price_micro,
        worth_micro=offer.worth_micro, priority=offer.priority, granted_at=now,
        expires_at=now + timedelta(days=offer.valid_days),
    )  # fmt: skip
    key = f"credit:{credit.pk}"
    check_withdrawal(
        ledger.lock_accounts([available(organization.pk), promotion(), credit.account]), organization.pk,
        credit.paid_micro,
    )  # fmt: skip
    parts = ((key, "bundle_purchase", available(organization.pk), credit.paid_micro),
             (f"{key}:bonus", "bundle_bonus", promotion(), credit.worth_micro - credit.paid_micro))  # fmt: skip
    ledger.post_all(
        [
            Posting(part, kind, Stage.POSTED, source, credit.account, amount, label=credit.name)
            for part, kind, source, amount in parts
            if amount
        ],
        now=now,
    )
    return credit


def give(
    *, organization_id: int, amount_micro: int, name: str, expires_at: datetime, now: datetime, priority: int = 100
) -> Credit:
    """
    Give an organization credit that its usage draws down before anything that it paid for.

    :raises NotFound: there is no such organization.
    :raises BadBundle: no amount, or a time that is over.
    """
    assert_in_transaction()
    if not Organization.objects.filter(pk=organization_id).exists():
        raise NotFound(f"There is no organization {organization_id}.", field="organization")
    if not 0 < amount_micro <= LARGEST_AMOUNT_MICRO:
        raise BadBundle("A gift is more than ¥0.", field="amount")
    if not now < expires_at <= now + timedelta(days=MOST_DAYS):
        raise BadBundle(f"A gift expires after now, within {MOST_DAYS} days.", field="expires_at")
    credit = Credit.objects.create(
        organization_id=organization_id, kind=Credit.Kind.GIFT, name=name, worth_micro=amount_micro, priority=priority,
        granted_at=now, expires_at=expires_at,
    )  # fmt: skip
    ledger.post_all(
        [Posting(f"credit:{credit.pk}", "gift", Stage.POSTED, promotion(), credit.account, amount_micro, label=name)],
        now=now,
    )
    return credit


def expire(*, credit_id: int, now: datetime) -> int:
    """
    Take back what is left of an expired bundle (breakage: revenue) or gift; return it in micro-yuan.

    A second call finds nothing left. What a later revision gives back to it is taken by the next call.
    """
    assert_in_transaction()
    credit = Credit.objects.get(pk=credit_id)
    if now < credit.expires_at:
        return 0
    is_gift = credit.kind == Credit.Kind.GIFT
    target = promotion() if is_gift else revenue()
    left = ledger.lock_accounts([credit.account, target])[credit.account].posted_micro
    if left > 0:
        ledger.post_all(
            [Posting(f"credit:{credit.pk}:expired:{now.timestamp():.6f}", "gift_expiry" if is_gift else "breakage",
                     Stage.POSTED, credit.account, target, left, label=credit.name)],
            now=now,
        )  # fmt: skip
    return left


def _offer(offer_id: int) -> BundleOffer:
    found = BundleOffer.objects.filter(pk=offer_id).first()
    if found is None:
        raise NotFound("There is no such bundle.", field="offer")
    return found
