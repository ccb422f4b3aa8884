"""
Access tokens of contracts: signed by the exchange, checked by providers offline with the published keys.

Private keys are stored encrypted with a key that SECRET_KEY gives. After a change of SECRET_KEY the old ones cannot be
read any more and a new one is made; their public halves stay published until the tokens that they signed are over.
"""

from datetime import datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection

from core.signing import as_jwk, new_key, readable
from core.transactions import assert_in_transaction
from exchange.models import ContractDeployment, DeliveryContract, SigningKey

ISSUER = "ciyuan"
KEY_LOCK = 0x63697975  # an advisory lock: one key is made, however many ask first
PUBLISHED_AFTER_RETIREMENT = timedelta(days=60)


def rotate_signing_key(*, now: datetime) -> SigningKey:
    """Make a new signing key; the ones before it sign nothing any more."""
    assert_in_transaction()
    SigningKey.objects.filter(retired_at__isnull=True).update(retired_at=now)
    return SigningKey.objects.create(created_at=now, **new_key()._asdict())


def access_token(*, contract: DeliveryContract, served: ContractDeployment, now: datetime) -> str:
    """
    Return a token for one contract at one deployment, good from its window's start to its end.

    Claims: `iss` ciyuan, `sub` the contract's id, `aud` the deployment's id, `model`, `buyer`, `st_per_minute`,
    `quantity`, and the window as `nbf` and `exp`. Whoever asks and whenever, it is the same text while the signing key
    is: what the exchange itself asks with is what the buyer asks with.
    """
    assert_in_transaction()
    assert contract.window_start is not None and contract.window_end is not None
    key, private = _signing_key(now)
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "sub": str(contract.pk),
        "aud": f"deployment:{served.deployment_id}",
        "model": contract.grade.model_card.slug,
        "buyer": contract.buyer_id,
        "quantity": served.quantity_tokens,
        "st_per_minute": contract.rate_tokens_per_minute,
        "nbf": int(contract.window_start.timestamp()),
        "exp": int(contract.window_end.timestamp()),
    }
    return jwt.encode(claims, private, algorithm="EdDSA", headers={"kid": key.kid})


def published_keys(now: datetime) -> list[dict[str, str]]:
    """Return the public keys that may have signed tokens still in use, as JWKs."""
    rows = SigningKey.objects.order_by("-pk")
    return [
        as_jwk(row.kid, bytes(row.public_key))
        for row in rows
        if row.retired_at is None or now < row.retired_at + PUBLISHED_AFTER_RETIREMENT
    ]


def _signing_key(now: datetime) -> tuple[SigningKey, Ed25519PrivateKey]:
    found = _readable_key()
    if found is None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [KEY_LOCK])
        found = _readable_key()
        if found is None:
            rotate_signing_key(now=now)
            found = _readable_key()
            assert found is not None
    return found


def _readable_key() -> tuple[SigningKey, Ed25519PrivateKey] | None:
    row = SigningKey.objects.filter(retired_at__isnull=True).order_by("-pk").first()
    if row is None:
        return None
    private = readable(bytes(row.private_key))
    return None if private is None else (row, private)
