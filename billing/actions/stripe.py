"""
What happens here when something happened at Stripe. Nothing here calls Stripe: whoever does passes what it said.

The truth is always the object as Stripe shows it now, never what a message or a redirect claimed; so messages may come
twice, at once, late, or in any order.
"""

from datetime import UTC, datetime

from django.db import IntegrityError, transaction

from billing import queries
from billing.actions import payouts
from billing.actions.deposits import record_deposit
from billing.domain.postings import LARGEST_AMOUNT_MICRO
from billing.models import Payout, StripeCustomer, StripeEvent, StripePayment
from billing.stripe_door import CURRENCY, EventFacts, MovedFacts, PaymentFacts
from core.errors import BadRequest, NotFound
from core.money import MICRO_PER_FEN, format_yuan
from core.transactions import assert_in_transaction
from identity.actions.events import emit

State = StripePayment.State
LEAST_MICRO, MOST_MICRO = 10_000_000, 1_000_000_000_000  # ¥10 to ¥1,000,000: cards decline more, fees eat less


class BadPayment(BadRequest):
    """An amount that is not taken by card or wallet."""

    code = "bad-payment"


class PaymentNotFound(NotFound):
    """No such payment or document."""

    code = "payment-not-found"


def ask_payment(
    *, organization_id: int, amount_micro: int | None, invoice_id: int | None, now: datetime
) -> StripePayment:
    """
    Note a payment to be taken by Checkout: an amount, or what is owed on a document.

    :raises BadPayment: not whole fen, below ¥10, above ¥1,000,000, or neither or both of amount and document.
    :raises PaymentNotFound: no open document of that id.
    """
    assert_in_transaction()
    if (amount_micro is None) == (invoice_id is None):
        raise BadPayment("Give an amount, or an invoice to be paid.", field="amount")
    if invoice_id is not None:
        invoice = queries.open_invoices(organization_id).filter(pk=invoice_id).first()
        if invoice is None:
            raise PaymentNotFound("Nothing is owed on an invoice with that id.", field="invoice")
        amount_micro = invoice.due_micro - invoice.paid_micro - invoice.disputed_micro
    assert amount_micro is not None
    _check_amount(amount_micro, "amount")
    return StripePayment.objects.create(
        organization_id=organization_id, kind="checkout", amount_micro=amount_micro, created_at=now
    )


def set_top_up(
    *, organization_id: int, payment_method: str, below_micro: int | None, amount_micro: int | None
) -> StripeCustomer:
    """
    Have a saved card charged with `amount_micro` when less than `below_micro` is available; None for both ends it.

    :raises BadPayment: one without the other, or an amount that is not taken.
    """
    assert_in_transaction()
    if (below_micro is None) != (amount_micro is None):
        raise BadPayment("Give below and amount, or neither.", field="amount")
    if amount_micro is not None and below_micro is not None:
        _check_amount(amount_micro, "amount")
        if below_micro > LARGEST_AMOUNT_MICRO:
            raise BadPayment("below is beyond any account.", field="below")
    row, _ = StripeCustomer.objects.get_or_create(organization_id=organization_id)
    row.payment_method, row.paused_reason = payment_method, ""
    row.top_up_below_micro, row.top_up_micro = below_micro, amount_micro
    row.save()
    return row


def begin_top_up(*, organization_id: int, now: datetime) -> StripePayment | None:
    """
    Note an automatic top-up where one is due: less is available than the threshold, and none is under way.

    The unique constraint lets one of several workers through.
    """
    assert_in_transaction()
    row = StripeCustomer.objects.select_for_update(no_key=True).filter(organization_id=organization_id).first()
    if row is None or row.top_up_below_micro is None or not row.payment_method or row.paused_reason:
        return None
    if queries.available_micro(organization_id) >= row.top_up_below_micro:
        return None
    try:
        with transaction.atomic():
            return StripePayment.objects.create(
                organization_id=organization_id, kind="auto", amount_micro=row.top_up_micro or 0, created_at=now
            )
    except IntegrityError:
        return None


def store_event(*, facts: EventFacts, now: datetime, healed: bool = False) -> bool:
    """Store an event, once; says whether it is new. Handling follows in a transaction of its own."""
    assert_in_transaction()
    rows = StripeEvent.objects.bulk_create(
        [
            StripeEvent(
                event=facts.id[:100], type=facts.type[:100], object_kind=facts.object_kind[:60],
                object_id=facts.object_id[:100], happened_at=datetime.fromtimestamp(facts.created, UTC),
                received_at=now, healed=healed,
            )
        ],
        ignore_conflicts=True,
    )
    return bool(rows) and StripeEvent.objects.filter(event=facts.id, received_at=now, healed=healed).exists()


def note_handled(*, event_id: int, outcome: str, now: datetime) -> None:
    """Note what came of an event; handled already, it stays as it is."""
    assert_in_transaction()
    StripeEvent.objects.filter(pk=event_id, handled_at=None).update(handled_at=now, outcome=outcome[:200])


def apply_payment(*, payment_id: int, facts: PaymentFacts, now: datetime) -> str:
    """
    Take in what a payment intent is now; returns what that meant. The same again changes nothing.

    Received money becomes a deposit once, by the intent's id. Another currency or amount than we asked for credits
    nothing and stands as `mismatch` until a person has looked.
    """
    assert_in_transaction()
    payment = StripePayment.objects.select_for_update(no_key=True).filter(pk=payment_id).first()
    if payment is None:
        return "no payment of ours"
    payment.intent = payment.intent or facts.id
    if payment.intent != facts.id:
        return "another intent than the payment's"
    if payment.state in (State.SUCCEEDED, State.MISMATCH):
        return f"{payment.state} already"
    if facts.status == "succeeded":
        if (facts.currency, facts.amount_fen * MICRO_PER_FEN) != (CURRENCY, payment.amount_micro):
            found = f"{facts.currency} {facts.amount_fen} in place of cny {payment.amount_micro // MICRO_PER_FEN}"
            return _end(payment, State.MISMATCH, found, now)
        payment.deposit = record_deposit(
            organization_id=payment.organization_id, amount_micro=payment.amount_micro, reference=facts.id, now=now,
            method="stripe",
        )  # fmt: skip
        row, _ = StripeCustomer.objects.get_or_create(organization_id=payment.organization_id)
        if not row.payment_method and facts.payment_method:
            StripeCustomer.objects.filter(pk=row.pk).update(payment_method=facts.payment_method)
        return _end(payment, State.SUCCEEDED, "", now)
    if facts.status in ("canceled", "requires_payment_method") and (facts.error or facts.status == "canceled"):
        return fail_payment(payment_id=payment_id, reason=facts.error or facts.status, intent=facts.id, now=now)
    payment.save(update_fields=["intent"])
    return f"still {facts.status}"


def fail_payment(*, payment_id: int, reason: str, now: datetime, intent: str = "") -> str:
    """
    Note that a payment did not succeed. An automatic one stops those to come until the card is set again; one by
    Checkout may still succeed afterwards, while its page is open. Succeeded, it stays so.
    """
    assert_in_transaction()
    payment = StripePayment.objects.select_for_update(no_key=True).get(pk=payment_id)
    if payment.state != State.PENDING:
        return f"{payment.state} already"
    payment.intent = payment.intent or intent
    if payment.kind == "auto":
        StripeCustomer.objects.filter(organization_id=payment.organization_id).update(paused_reason=reason[:200])
    emit(
        organization_id=payment.organization_id, type="payment.failed", key=f"stripe:{payment.pk}", now=now,
        data={"id": payment.pk, "amount": format_yuan(payment.amount_micro), "reason": reason[:200]},
    )  # fmt: skip
    return _end(payment, State.FAILED, reason, now)


def note_session(*, payment_id: int, session: str, url: str) -> None:
    """Keep a payment's checkout session, the first one."""
    assert_in_transaction()
    StripePayment.objects.filter(pk=payment_id, session="").update(session=session, url=url)


def apply_moved(*, payout_id: int, facts: MovedFacts, now: datetime) -> str:
    """Take in what a refund or transfer is now; returns what that meant. The same again changes nothing."""
    assert_in_transaction()
    payout = payouts.lock(payout_id)
    if facts.amount_fen * MICRO_PER_FEN != payout.amount_micro:
        return f"{facts.amount_fen} fen are not the payout's amount"
    if facts.status == "succeeded":
        payouts.settle(payout_id=payout_id, paid=True, reason="", outside_reference=facts.id, now=now)
        return "paid"
    if facts.status in ("failed", "canceled"):
        arrived = payout.state == Payout.State.PAID
        payouts.settle(payout_id=payout_id, paid=False, reason=facts.error or facts.status,
                       outside_reference=facts.id, now=now, arrived_back=arrived)  # fmt: skip
        return "failed"
    Payout.objects.filter(pk=payout_id).update(outside_reference=facts.id)
    return f"still {facts.status}"


def set_connect_account(*, organization_id: int, account: str) -> StripeCustomer:
    """Note a provider's connected account, to which transfers go (operator)."""
    assert_in_transaction()
    row, _ = StripeCustomer.objects.get_or_create(organization_id=organization_id)
    StripeCustomer.objects.filter(pk=row.pk).update(connect_account=account)
    row.refresh_from_db()
    return row


def note_customer(*, organization_id: int, customer: str) -> str:
    """Keep an organization's customer id, the first one, and return it."""
    assert_in_transaction()
    row, _ = StripeCustomer.objects.get_or_create(organization_id=organization_id)
    StripeCustomer.objects.filter(pk=row.pk, customer="").update(customer=customer)
    row.refresh_from_db()
    return row.customer


def _check_amount(amount_micro: int, field: str) -> None:
    if amount_micro % MICRO_PER_FEN or not LEAST_MICRO <= amount_micro <= MOST_MICRO:
        raise BadPayment("By card or wallet ¥10 to ¥1,000,000 are taken, in whole fen.", field=field)


def _end(payment: StripePayment, state: StripePayment.State, reason: str, now: datetime) -> str:
    payment.state, payment.reason, payment.ended_at = state, reason[:200], now
    payment.save(update_fields=["state", "reason", "ended_at", "intent", "deposit"])
    return f"{state.value}: {reason}" if reason else state.value

