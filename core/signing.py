"""
Ed25519 keys that the exchange signs with: private halves are stored encrypted with a key that SECRET_KEY gives.

After a change of SECRET_KEY the old private halves cannot be read any more; whoever signs then makes a new key.
"""

import base64
import hashlib
import secrets
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings


class NewKey(NamedTuple):
    """A key pair as it is stored."""

    kid: str
    public_key: bytes
    private_key: bytes  # encrypted


def new_key() -> NewKey:
    """Make a key pair."""
    private = Ed25519PrivateKey.generate()
    return NewKey(
        secrets.token_hex(8),
        private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
        _fernet().encrypt(private.private_bytes_raw()),
    )


def readable(encrypted: bytes) -> Ed25519PrivateKey | None:
    """Return a stored private half, or None when another SECRET_KEY encrypted it."""
    try:
        return Ed25519PrivateKey.from_private_bytes(_fernet().decrypt(encrypted))
    except InvalidToken:
        return None


def verifies(public_key: bytes, signature: bytes, content: bytes) -> bool:
    """Whether this key signed that content."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def as_jwk(kid: str, public_key: bytes) -> dict[str, str]:
    """Return a public key as a JSON Web Key (RFC 8037)."""
    x = base64.urlsafe_b64encode(public_key).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x}


def _fernet() -> Fernet:
    digest = hashlib.blake2b(settings.SECRET_KEY.encode(), digest_size=32, person=b"ciyuan-signing").digest()
    return Fernet(base64.urlsafe_b64encode(digest))
