"""
Usage signed by its meter: `Ciyuan-Signature: ed25519=<base64>` over the body's bytes as they are sent.

A signature names who sent a batch, whatever proxies it passed and whoever has read the key. Sending the same batch
again counts nothing twice, so that nothing else needs to be in it.
"""

import base64
import binascii

from core.errors import Forbidden, Unauthenticated
from core.signing import verifies
from metering_ingest.actions.attribution import MeterAccess

HEADER = "Ciyuan-Signature"
PREFIX = "ed25519="


class SignatureMissing(Unauthenticated):
    """The grade wants signed usage and this is not."""

    code = "signature-missing"


class SignatureInvalid(Unauthenticated):
    """The signature is not that of the meter's key over this body."""

    code = "signature-invalid"


class NoPublicKey(Forbidden):
    """The grade wants signed usage, and the meter has no key to check it with."""

    code = "no-public-key"


def check_signature(access: MeterAccess, given: str, body: bytes) -> None:
    """
    Let a request pass whose signature is right, or that needs none.

    :param given: the header's value, empty where there is none.
    :raises SignatureMissing, SignatureInvalid, NoPublicKey: as their names say.
    """
    if not given:
        if not access.must_sign:
            return
        if access.public_key is None:
            raise NoPublicKey(
                "This grade takes signed usage only; open a meter with a public_key."
            )
        raise SignatureMissing(f"This grade takes signed usage only: send “{HEADER}: {PREFIX}<base64>” over the body.")
    if access.public_key is None:
        raise NoPublicKey("The request is signed, but this meter has no public key; open one with a public_key.")
    if not given.startswith(PREFIX) or not verifies(access.public_key, given_signature(given), body):
        raise SignatureInvalid(f"{HEADER} is not this meter's Ed25519 signature over the body's bytes as sent.")


def given_signature(given: str) -> bytes:
    """Return the signature's bytes in the header's value; nothing where it is no base64."""
    try:
        return base64.b64decode(given.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return b""
