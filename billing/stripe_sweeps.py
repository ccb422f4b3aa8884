"""
Talks with Stripe by turns: ask them while no transaction is open, then book what they said in one.

Each step takes up where the rows say it is, with the same idempotency key, so a kill or a time-out anywhere costs time
alone. Run by tasks in the queue `outside`.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db.models import F, Max, Q

from billing.actions import payouts
from billing.actions import stripe as actions
from billing.models import Account, Payout, StripeCustomer, StripeEvent, StripePayment
from billing.stripe_door import MovedFacts, StripeDoor, StripeRefused, StripeUnavailable
from core import clock
from core.money import MICRO_PER_FEN
from core.transactions import durable
from identity.models import Organization

log = logging.getLogger(__name__)
OVERLAP = timedelta(hours=1)
LOOKED_AFTER = timedelta(minutes=5)
State = StripePayment.State


def door() -> StripeDoor | None:
    """Return the way to Stripe; None where the operator has no account there."""
    return StripeDoor(settings.STRIPE_API_KEY, settings.STRIPE_BASE_URL) if settings.STRIPE_API_KEY else None


def customer_of(stripe: StripeDoor, organization: Organization) -> str:
    """Return an organization's customer at Stripe, made at first need."""
    row = StripeCustomer.objects.filter(organization=organization).first()
    if row is not None and row.customer:
        return row.customer
    made = stripe.create_customer(
        name=str(organization), reference=str(organization.pk), key=f"customer-{organization.pk}"
    )
    return durable(partial(actions.note_customer, organization_id=organization.pk, customer=made))


def open_checkout(stripe: StripeDoor, payment: StripePayment, *, base_url: str) -> str:
    """Return the address of a payment's checkout page; the same each time."""
    if payment.url:
        return payment.url
    facts = stripe.start_checkout(
        amount_fen=payment.amount_micro // MICRO_PER_FEN, title="Ciyuan 词元",
        customer=customer_of(stripe, payment.organization), reference=str(payment),
        success_url=f"{base_url}/account", cancel_url=f"{base_url}/account", key=str(payment),
    )  # fmt: skip
    durable(partial(actions.note_session, payment_id=payment.pk, session=facts.id, url=facts.url))
    return facts.url


def handle_events(stripe: StripeDoor, *, now: datetime) -> int:
    """Handle stored events, each by fetching the object that it is about; says how many."""
    done = 0
    for event in StripeEvent.objects.filter(handled_at=None).order_by("id")[:200]:
        try:
            outcome = _handle(stripe, event.type, event.object_id, now)
        except StripeUnavailable as error:
            log.warning("event %s waits: %s", event.event, error)
            break
        except StripeRefused as error:
            outcome = f"refused: {error}"
        durable(partial(actions.note_handled, event_id=event.pk, outcome=outcome, now=now))
        done += 1
    return done


def _handle(stripe: StripeDoor, type_: str, object_id: str, now: datetime) -> str:
    if type_.startswith("checkout.session."):
        return follow_session(stripe, object_id, now)
    if type_.startswith("payment_intent."):
        return follow_intent(stripe, object_id, now)
    if type_.startswith("refund."):
        facts = stripe.refunded(object_id)
        return _moved(facts, now)
    return "not ours to handle"


def follow_session(stripe: StripeDoor, session_id: str, now: datetime) -> str:
    """Look at a checkout session and take in what it is now."""
    facts = stripe.checkout(session_id)
    payment = StripePayment.objects.filter(session=facts.id).first() or _payment(facts.reference)
    if payment is None or (payment.session and payment.session != facts.id):
        return "no payment of ours"
    if facts.payment_intent:
        return _apply(stripe, payment.pk, facts.payment_intent, now)
    if facts.status == "expired":
        return durable(partial(actions.fail_payment, payment_id=payment.pk, reason="the page expired", now=now))
    return f"still {facts.status}"


def follow_intent(stripe: StripeDoor, intent_id: str, now: datetime) -> str:
    """Look at a payment intent and take in what it is now."""
    facts = stripe.payment(intent_id)
    payment = StripePayment.objects.filter(intent=facts.id).first() or _payment(facts.reference)
    if payment is None:
        return "no payment of ours"
    return durable(partial(actions.apply_payment, payment_id=payment.pk, facts=facts, now=now))


def top_up(stripe: StripeDoor, *, now: datetime) -> int:
    """Charge saved cards of those who have less than they set; says how many were tried."""
    low = Account.objects.filter(
        kind="available", scope="", organization__stripe__top_up_below_micro__isnull=False,
        organization__stripe__paused_reason="",
        posted_micro__lt=F("held_micro") + F("organization__stripe__top_up_below_micro"),
    ).values_list("organization_id", flat=True)  # fmt: skip
    for organization_id in low:
        durable(partial(actions.begin_top_up, organization_id=organization_id or 0, now=now))
    tried = 0
    for payment in StripePayment.objects.filter(kind="auto", state=State.PENDING, intent="").select_related(
        "organization__stripe"
    ):
        row = payment.organization.stripe
        try:
            facts = stripe.charge_saved(
                amount_fen=payment.amount_micro // MICRO_PER_FEN, customer=row.customer,
                payment_method=row.payment_method, reference=str(payment), key=str(payment),
            )  # fmt: skip
            durable(partial(actions.apply_payment, payment_id=payment.pk, facts=facts, now=now))
        except StripeRefused as error:
            durable(partial(actions.fail_payment, payment_id=payment.pk, reason=str(error), now=now))
        except StripeUnavailable as error:
            log.warning("top-up %s waits: %s", payment.pk, error)
        tried += 1
    return tried


def send_payouts(stripe: StripeDoor, *, now: datetime) -> int:
    """Send approved refunds and payouts by Stripe, and again those whose answer was lost; says how many ended."""
    for id_ in Payout.objects.filter(method="stripe", state=Payout.State.APPROVED).values_list("id", flat=True):
        durable(partial(payouts.mark_sent, payout_id=id_))
    ended = 0
    for payout in Payout.objects.filter(method="stripe", state=Payout.State.SENT, outside_reference="").order_by("id"):
        send: Callable[[], MovedFacts]
        fen, key = payout.amount_micro // MICRO_PER_FEN, f"payout-{payout.pk}"
        if payout.kind == Payout.Kind.REFUND:
            send = partial(stripe.refund, payment_intent=payout.payee_account, amount_fen=fen, reference=str(payout),
                           key=key)  # fmt: skip
        else:
            send = partial(stripe.transfer, destination=payout.payee_account, amount_fen=fen, reference=str(payout),
                           key=key)  # fmt: skip
        try:
            facts = send()
            durable(partial(actions.apply_moved, payout_id=payout.pk, facts=facts, now=now))
        except StripeRefused as error:
            refused = MovedFacts("", "failed", fen, "", str(error))
            durable(partial(actions.apply_moved, payout_id=payout.pk, facts=refused, now=now))
        except StripeUnavailable as error:
            log.warning("%s waits: %s", payout, error)
            continue
        ended += 1
    return ended


def reconcile(stripe: StripeDoor, *, now: datetime) -> int:
    """
    Heal what no webhook told: events that never came, payments that have waited long, and money that Stripe's balance
    transactions have and our deposits lack. Says how many things it mended.
    """
    last = StripeEvent.objects.aggregate(last=Max("happened_at"))["last"]
    since = int(((last or clock.real_now()) - OVERLAP - (timedelta(0) if last else timedelta(days=30))).timestamp())
    healed = sum(
        durable(partial(actions.store_event, facts=facts, now=now, healed=True))
        for facts in reversed(list(stripe.events(since=since)))
    )
    handle_events(stripe, now=now)
    waiting = StripePayment.objects.filter(state=State.PENDING).exclude(Q(session="") & Q(intent=""))
    for payment in waiting:
        before = payment.state
        if payment.intent:
            _apply(stripe, payment.pk, payment.intent, now)
        else:
            follow_session(stripe, payment.session, now)
        payment.refresh_from_db()
        healed += payment.state != before
    known = set(StripePayment.objects.filter(state=State.SUCCEEDED).values_list("intent", flat=True))
    for intent in stripe.paid_intents(since=since):
        if intent not in known:
            healed += follow_intent(stripe, intent, now) == State.SUCCEEDED
    for payout in Payout.objects.filter(method="stripe", state=Payout.State.SENT).exclude(outside_reference=""):
        healed += _moved(stripe.refunded(payout.outside_reference), now) in ("paid", "failed")
    return healed


def _apply(stripe: StripeDoor, payment_id: int, intent_id: str, now: datetime) -> str:
    facts = stripe.payment(intent_id)
    return durable(partial(actions.apply_payment, payment_id=payment_id, facts=facts, now=now))


def _moved(facts: MovedFacts, now: datetime) -> str:
    number = facts.reference.removeprefix("PO")
    payout = Payout.objects.filter(pk=int(number), method="stripe").first() if number.isdigit() else None
    if payout is None:
        return "no payout of ours"
    try:
        return durable(partial(actions.apply_moved, payout_id=payout.pk, facts=facts, now=now))
    except payouts.WrongState as error:
        return str(error)


def _payment(reference: str) -> StripePayment | None:
    number = reference.removeprefix("payment-")
    return StripePayment.objects.filter(pk=int(number)).first() if number.isdigit() and len(number) < 19 else None
