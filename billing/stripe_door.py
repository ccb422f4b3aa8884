"""
The one file that speaks with Stripe: their words in and out, our facts between. No models, a timeout on every call.

Amounts are whole fen here, as Stripe counts CNY. Every call that changes something bears an idempotency key of ours, so
that repeating it after a time-out is harmless.
"""

import hmac
import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import stripe

API_VERSION = "2026-10-28.endive"  # pinned: an upgrade of the SDK does not change what Stripe answers
TIMEOUT_SECONDS = 20
TOLERANCE_SECONDS = 300
CURRENCY = "cny"
METHODS = ("card", "alipay", "wechat_pay")


class StripeUnavailable(Exception):
    """Stripe did not answer, or asked to come back later. What was asked may have happened: ask again, same key."""


class StripeRefused(Exception):
    """Stripe understood and refused: a declined card, a closed account, a refund beyond its payment."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SignatureWrong(ValueError):
    """A webhook that Stripe did not sign so, or not lately."""


class PaymentFacts(NamedTuple):
    """A payment intent: `status` as Stripe says it, what was received, and our reference."""

    id: str
    status: str
    amount_fen: int
    currency: str
    reference: str
    payment_method: str
    error: str


class CheckoutFacts(NamedTuple):
    """A checkout session: `status` open, complete or expired; `payment_status` paid or unpaid."""

    id: str
    url: str
    status: str
    payment_status: str
    amount_fen: int
    currency: str
    reference: str
    payment_intent: str


class MovedFacts(NamedTuple):
    """A refund or a transfer."""

    id: str
    status: str
    amount_fen: int
    reference: str
    error: str


class EventFacts(NamedTuple):
    """An event: its type, when it happened (Unix seconds), and the kind and id of the object it is about."""

    id: str
    type: str
    created: int
    object_kind: str
    object_id: str


class StripeDoor:
    """:param base_url: another server that speaks like Stripe, for tests."""

    def __init__(self, api_key: str, base_url: str = "") -> None:
        self._client = stripe.StripeClient(
            api_key,
            stripe_version=API_VERSION,
            max_network_retries=0,  # our sweeps retry, with the same key
            http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
            base_addresses={"api": base_url} if base_url else {},
        )

    def create_customer(self, *, name: str, reference: str, key: str) -> str:
        """Return the id of a new customer."""
        made = _call(self._client.v1.customers.create, {"name": name, "metadata": {"reference": reference}}, key)
        return str(made.id)

    def start_checkout(
        self, *, amount_fen: int, title: str, customer: str, reference: str, success_url: str, cancel_url: str, key: str
    ) -> CheckoutFacts:
        """Return a checkout session whose page takes the money; a card is kept for later where the payer agrees."""
        params = {
            "mode": "payment",
            "allowed_payment_method_types": [*METHODS],
            "payment_method_options": {"wechat_pay": {"client": "web"}},
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": CURRENCY,
                        "unit_amount": amount_fen,
                        "product_data": {"name": title},
                    },
                }
            ],
            "customer": customer,
            "client_reference_id": reference,
            "payment_intent_data": {"metadata": {"reference": reference}},
            "saved_payment_method_options": {"payment_method_save": "enabled"},
            "metadata": {"reference": reference},
            "success_url": success_url,
            "cancel_url": cancel_url,
        }
        return _checkout(_call(self._client.v1.checkout.sessions.create, params, key))

    def checkout(self, session_id: str) -> CheckoutFacts:
        return _checkout(_call(self._client.v1.checkout.sessions.retrieve, session_id))

    def charge_saved(
        self, *, amount_fen: int, customer: str, payment_method: str, reference: str, key: str
    ) -> PaymentFacts:
        """Charge a saved card without its owner there."""
        params = {
            "amount": amount_fen,
            "currency": CURRENCY,
            "customer": customer,
            "payment_method": payment_method,
            "confirm": True,
            "off_session": True,
            "metadata": {"reference": reference},
        }
        return _payment(_call(self._client.v1.payment_intents.create, params, key))

    def payment(self, intent_id: str) -> PaymentFacts:
        return _payment(_call(self._client.v1.payment_intents.retrieve, intent_id))

    def saved_cards(self, customer: str) -> list[tuple[str, str]]:
        """Return (id, "visa …4242") of a customer's saved cards."""
        rows = _call(self._client.v1.payment_methods.list, {"customer": customer, "type": "card"})
        return [(str(row.id), f"{row.card.brand} …{row.card.last4}") for row in rows.data]

    def refund(self, *, payment_intent: str, amount_fen: int, reference: str, key: str) -> MovedFacts:
        params = {"payment_intent": payment_intent, "amount": amount_fen, "metadata": {"reference": reference}}
        return _moved(_call(self._client.v1.refunds.create, params, key))

    def refunded(self, refund_id: str) -> MovedFacts:
        return _moved(_call(self._client.v1.refunds.retrieve, refund_id))

    def transfer(self, *, destination: str, amount_fen: int, reference: str, key: str) -> MovedFacts:
        """Move money to a provider's connected account."""
        params = {
            "amount": amount_fen,
            "currency": CURRENCY,
            "destination": destination,
            "metadata": {"reference": reference},
        }
        made = _call(self._client.v1.transfers.create, params, key)
        return MovedFacts(str(made.id), "succeeded", int(made.amount), _reference(made), "")

    def events(self, *, since: int) -> Iterator[EventFacts]:
        """Yield the events since then (Unix seconds), newest first."""
        yield from map(_event, _pages(self._client.v1.events.list, {"created": {"gte": since}}))

    def paid_intents(self, *, since: int) -> Iterator[str]:
        """Yield the payment intents that balance transactions since then (Unix seconds) say were paid."""
        params = {"created": {"gte": since}, "expand": ["data.source"]}
        for row in _pages(self._client.v1.balance_transactions.list, params):
            intent = getattr(row.source, "payment_intent", None)
            if row.reporting_category == "charge" and intent:
                yield str(intent)


def read_webhook(body: bytes, header: str, secrets: Sequence[str], *, now: float) -> EventFacts:
    """
    Return the event of a webhook that Stripe signed with one of `secrets`, at most five minutes before or after `now`
    (real Unix seconds). The SDK's own check lets times in the future pass.

    :raises SignatureWrong: anything else.
    """
    try:
        parts = [part.split("=", 1) for part in header.split(",")]
        stamp = int(next(value for name, value in parts if name.strip() == "t"))
        given = [value for name, value in parts if name.strip() == "v1"]
        text = body.decode()
    except (ValueError, StopIteration, UnicodeDecodeError):
        raise SignatureWrong("the header Stripe-Signature or the body is not well formed") from None
    signed = f"{stamp}.{text}".encode()
    expected = [hmac.new(secret.encode(), signed, sha256).hexdigest() for secret in secrets if secret]
    if not any(hmac.compare_digest(one.encode(), other.encode()) for one in expected for other in given):
        raise SignatureWrong("no signature is right")
    if abs(now - stamp) > TOLERANCE_SECONDS:
        raise SignatureWrong("the message is more than five minutes off")
    try:
        event = json.loads(text)
        thing = event["data"]["object"]
        return EventFacts(str(event["id"]), str(event["type"]), int(event["created"]), str(thing["object"]),
                          str(thing["id"]))  # fmt: skip
    except (ValueError, TypeError, KeyError):
        raise SignatureWrong("the body is no event") from None


def _call(method: Any, argument: Any = None, key: str = "") -> Any:
    try:
        if isinstance(argument, str):
            return method(argument)
        return method(argument, {"idempotency_key": key} if key else None)
    except (stripe.RateLimitError, stripe.APIConnectionError) as error:
        raise StripeUnavailable(str(error)) from error
    except stripe.StripeError as error:
        if error.http_status is None or error.http_status >= 500 or error.http_status in (409, 429):
            raise StripeUnavailable(str(error)) from error
        code = error.code or (error.error.decline_code if error.error is not None else "") or "refused"
        raise StripeRefused(str(code), error.user_message or str(error)) from error


def _pages(method: Any, params: dict[str, Any]) -> Iterator[Any]:
    after: str | None = None
    while True:
        page = _call(method, params | {"limit": 100} | ({"starting_after": after} if after else {}))
        yield from page.data
        if not page.has_more or not page.data:
            return
        after = page.data[-1].id


def _reference(row: Any) -> str:
    metadata = getattr(row, "metadata", None)
    return str(metadata["reference"]) if metadata and "reference" in metadata else ""


def _id(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value.id)


def _payment(row: Any) -> PaymentFacts:
    failure = row.last_payment_error
    amount = row.amount_received if row.status == "succeeded" else row.amount
    return PaymentFacts(
        row.id, row.status, int(amount), row.currency, _reference(row), _id(row.payment_method),
        str(failure.message) if failure is not None else "",
    )  # fmt: skip


def _checkout(row: Any) -> CheckoutFacts:
    return CheckoutFacts(
        row.id, row.url or "", row.status, row.payment_status, int(row.amount_total or 0), row.currency or "",
        row.client_reference_id or "", _id(row.payment_intent),
    )  # fmt: skip


def _moved(row: Any) -> MovedFacts:
    return MovedFacts(str(row.id), str(row.status), int(row.amount), _reference(row), str(row.failure_reason or ""))


def _event(row: Any) -> EventFacts:
    thing = row.data["object"]
    return EventFacts(str(row.id), str(row.type), int(row.created), str(thing["object"]), str(thing["id"]))
