"""
What webhooks are made of: event types, the signature, when to try again.

The signature follows Standard Webhooks (standardwebhooks.com): HMAC-SHA-256 over `id.timestamp.body` with the secret's
bytes, in base64, as `webhook-signature: v1,…`; during a rotation two, separated by a space.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import timedelta


def gettext_noop(text: str) -> str:
    """Mark a text for the catalogue; whoever shows it translates it."""
    return text


#: Every event type, with what it says. A new one is a line here and an `emit` where it happens.
EVENT_TYPES: dict[str, str] = {
    "auction.cleared": gettext_noop("An auction in which the organization had orders has cleared."),
    "budget.threshold": gettext_noop("Spending or balance has passed a threshold that the organization set."),
    "contract.assigned": gettext_noop(
        "A delivery contract came into being at gate closure, for its buyer and its provider."
    ),
    "delivery.failed": gettext_noop("A provider did not deliver what a contract promised."),
    "discrepancy.opened": gettext_noop("Two meters, or a bill and its evidence, disagree beyond tolerance."),
    "discrepancy.resolved": gettext_noop("A discrepancy was settled or withdrawn."),
    "dispute.decided": gettext_noop("A dispute about a line of an invoice was decided."),
    "dispute.opened": gettext_noop("A line of an invoice is disputed; that slice is not due."),
    "export.finished": gettext_noop("A scheduled export lies in its folder."),
    "invoice.due": gettext_noop("What is owed on an invoice falls due soon, or today."),
    "invoice.issued": gettext_noop("An invoice, settlement statement or note was issued."),
    "invoice.overdue": gettext_noop("What is owed on an invoice is overdue."),
    "invoice.paid": gettext_noop("Nothing is owed on a document any more."),
    "invoice.uncollectible": gettext_noop("What was owed on an invoice was given up."),
    "invoice.withdrawn": gettext_noop("An invoice was withdrawn; what it charged goes on another one."),
    "organization.payment_hold": gettext_noop("Overdue for too long: new orders are refused."),
    "organization.payment_hold_ended": gettext_noop("What was overdue is paid: orders are taken again."),
    "payment.failed": gettext_noop("A payment from outside did not succeed."),
    "payment.received": gettext_noop("Money arrived on the organization's account."),
    "payment.refunded": gettext_noop("Money went back to where it came from."),
    "payout.failed": gettext_noop("A payout came back; the money is payable again."),
    "payout.paid": gettext_noop("A payout was executed by the bank or payment service."),
    "service.decided": gettext_noop("A finding about how a contract was served was upheld or rejected."),
    "service.disputed": gettext_noop("A side of the contract objects to a finding: the operator decides."),
    "service.found": gettext_noop(
        "The evidence shows minutes of a contract that were not delivered, or hours that were late."
    ),
    "service.warning": gettext_noop(
        "Little of a contract is used though half its window is over; a guard is silent; a certificate ends soon."
    ),
    "tax_invoice.issued": gettext_noop("A tax invoice (数电发票) that was asked for has its number."),
    "tax_invoice.red": gettext_noop("A red invoice took back a tax invoice, or a part of it."),
    "usage.missing": gettext_noop(
        "A meter recorded usage that has not arrived; the hour, the classes and how much of each."
    ),
    "webhook.test": gettext_noop("Sent by the test button."),
}

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32
#: After each failed attempt, how long until the next; about three days in all, then the delivery has failed.
RETRY_AFTER: tuple[timedelta, ...] = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(minutes=30),
    timedelta(hours=1),
    timedelta(hours=3),
    timedelta(hours=6),
    timedelta(hours=12),
    timedelta(hours=24),
    timedelta(hours=24),
)
#: An endpoint to which nothing came through for so long is switched off.
GIVE_UP_AFTER = timedelta(days=5)


def new_secret(random_bytes: bytes) -> str:
    """Return a secret as both sides keep it."""
    return SECRET_PREFIX + base64.b64encode(random_bytes).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return `v1,…` of one secret. `timestamp` is in Unix seconds."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def headers(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a message, signed with each of `secrets`."""
    return {
        "content-type": "application/json",
        "user-agent": "Ciyuan-Webhooks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(secret, message_id, timestamp, body) for secret in secrets),
    }


def retry_after(tries: int, *, jitter: float) -> timedelta | None:
    """Return how long to wait after the `tries`-th failed attempt; None when that was the last. `jitter`: 0 to 1."""
    if tries > len(RETRY_AFTER):
        return None
    return RETRY_AFTER[tries - 1] * (1 + 0.2 * jitter)
