"""
Asks Stripe itself, in its test mode: `STRIPE_TEST_KEY=sk_test_… .venv/bin/pytest tests/billing/test_stripe_live.py`.

Without the key nothing here runs. It makes a customer, a checkout page and a payment by a test card, and refunds it.
"""

import os
import uuid

import pytest

from billing.stripe_door import StripeDoor, StripeRefused

KEY = os.environ.get("STRIPE_TEST_KEY", "")
pytestmark = pytest.mark.skipif(not KEY.startswith("sk_test_"), reason="needs STRIPE_TEST_KEY")


def test_the_door_speaks_with_stripe_itself():
    door, tag = StripeDoor(KEY), uuid.uuid4().hex
    customer = door.create_customer(name="Ciyuan test", reference="1", key=f"{tag}-customer")
    session = door.start_checkout(
        amount_fen=10_000, title="Ciyuan 词元", customer=customer, reference=f"payment-{tag}",
        success_url="https://example.com/", cancel_url="https://example.com/", key=f"{tag}-session",
    )  # fmt: skip
    assert session.url and (session.amount_fen, session.currency) == (10_000, "cny")
    assert door.checkout(session.id).status == "open"
    paid = door.charge_saved(
        amount_fen=10_000, customer=customer, payment_method="pm_card_visa", reference=f"payment-{tag}",
        key=f"{tag}-charge",
    )  # fmt: skip
    assert (paid.status, paid.amount_fen, paid.currency) == ("succeeded", 10_000, "cny")
    assert door.payment(paid.id).reference == f"payment-{tag}"
    moved = door.refund(payment_intent=paid.id, amount_fen=3_000, reference="PO1", key=f"{tag}-refund")
    assert moved.amount_fen == 3_000 and door.refunded(moved.id).reference == "PO1"
    with pytest.raises(StripeRefused):
        door.refund(payment_intent=paid.id, amount_fen=7_001, reference="PO2", key=f"{tag}-more")
    with pytest.raises(StripeRefused):
        door.transfer(destination="acct_nowhere", amount_fen=100, reference="PO3", key=f"{tag}-transfer")
    assert any(event.object_id == paid.id for event in door.events(since=0))
