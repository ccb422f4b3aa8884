"""Builders for money and charges."""

from datetime import timedelta

from django.db import transaction

from billing.actions.charges import push_charges
from billing.actions.deposits import record_deposit
from billing.actions.ledger import post_all
from billing.actions.sweep import sweep_market
from billing.domain import principal
from billing.domain.accounts import available, bank, escrow
from billing.domain.charges import ChargeInput, ChargeKind
from billing.domain.postings import Posting, Stage
from core.money import work_cost_micro
from core.periods import Period
from tests.given import NOW

WINDOW = Period(NOW - timedelta(hours=8), NOW)


def given_deposit(organization, amount_micro=100_000_000, reference=None, now=NOW):
    with transaction.atomic():
        return record_deposit(organization_id=organization.pk, amount_micro=amount_micro,
                              reference=reference or f"ref-{organization.pk}-{amount_micro}", now=now)


def post(*postings, now=NOW):
    with transaction.atomic():
        return post_all(postings, now=now)


def charge_input(buyer, provider, **fields):
    """A delivered line of a market: 1 million standard tokens at ¥0.003, the seller's price the same."""
    given = {
        "source_key": "contract:1:lot:1:deployment:1", "revision": 0, "kind": ChargeKind.USED, "scope": "market:1",
        "labels": {"market": 1, "contract": 1, "lot": 1, "deployment": 1, "model": "Qwen3-32B", "grade": "qwen3-32b",
                   "window_start": WINDOW.start.isoformat(), "window_end": WINDOW.end.isoformat(), "auction": 1},
        "quantity_micro_st": 1_000_000 * 10**6, "buyer_price_nano": 3_000_000, "seller_price_nano": 3_000_000,
        "tokens": {"input": 2_000_000, "cached_input": 500_000, "output": 700_000}, "occurred": WINDOW} | fields
    cost = {side: work_cost_micro(work_micro_st=given["quantity_micro_st"], price_nano=given[f"{side}_price_nano"])
            for side in ("buyer", "seller")}
    given.setdefault("buyer_amount_micro", cost["buyer"])
    given.setdefault("seller_amount_micro", cost["seller"])
    given.setdefault("fee_micro", principal.split_fee(
        given["seller_amount_micro"], fee_thousandths=20, vat_thousandths=60).fee_micro)
    return ChargeInput(buyer_id=buyer.pk, provider_id=provider.pk, **given)


def pay(charge, *, source=None):
    """The postings by which a market's escrow (or `source`) pays the seller's side of a charge."""
    source = source or escrow(charge.scope)
    key = f"{charge.source_key}:{charge.revision}"
    amount, fee = abs(charge.seller_amount_micro), abs(charge.fee_micro)
    split = principal.split_given_fee(amount, fee, vat_thousandths=60)
    if charge.seller_amount_micro < 0:
        return principal.take_back_from_provider(
            key=key, target=source, provider_id=charge.provider_id, scope=charge.scope, split=split)
    return principal.pay_provider(
        key=key, source=source, provider_id=charge.provider_id, scope=charge.scope, split=split)


def given_charges(*charges, settled=True, now=NOW, postings=None):
    """Charges of bought and paid lots: the buyers' money is in escrow before, as after a gate closure."""
    with transaction.atomic():
        if postings is None:
            for index, charge in enumerate(charges):
                key = f"fund:{charge.source_key}:{charge.revision}:{index}"
                if charge.seller_amount_micro > 0:
                    post_all([
                        Posting(key, "test", Stage.POSTED, bank(), escrow(charge.scope), charge.seller_amount_micro),
                    ], now=now)
            postings = [posting for charge in charges for posting in pay(
                charge, source=None if charge.seller_amount_micro >= 0 else available(charge.buyer_id))]
        ids = push_charges(charges, postings, now=now)
    if settled:
        for scope in {charge.scope for charge in charges}:
            with transaction.atomic():
                sweep_market(scope=scope, now=now)
    return ids
