"""
A meter's Ed25519 key: signs events and manifests as they go over the wire (extra `ciyuan[signing]`).

    ciyuan meter keygen meter.key        # writes the private half, prints the public one
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from ciyuan.errors import ConfigurationError

HEADER = "Ciyuan-Signature"


class Signer:
    """:param private_key: the 32 bytes, as they are or in hexadecimal digits."""

    def __init__(self, private_key: bytes | str) -> None:
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError:
            raise ConfigurationError(
                "signing-needs-extra", "signing needs the package cryptography: pip install 'ciyuan[signing]'"
            ) from None
        try:
            raw = bytes.fromhex(private_key.strip()) if isinstance(private_key, str) else private_key
            self._key = Ed25519PrivateKey.from_private_bytes(raw)
        except ValueError:
            raise ConfigurationError(
                "bad-signing-key", "an Ed25519 private key has 32 bytes: 64 hexadecimal digits", field="private_key"
            ) from None

    @classmethod
    def read(cls, path: str | Path) -> Signer:
        """
        The key in a file, in hexadecimal digits.

        :raises ConfigurationError: when it cannot be read or is none.
        """
        try:
            return cls(Path(path).read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError("bad-signing-key", f"the key file {path} cannot be read: {error}") from None

    @classmethod
    def new(cls) -> Signer:
        """A new key."""
        import secrets

        return cls(secrets.token_bytes(32))

    @property
    def private_hex(self) -> str:
        return self._key.private_bytes_raw().hex()

    @property
    def public_hex(self) -> str:
        """What the exchange is given when the meter is opened."""
        return self._key.public_key().public_bytes_raw().hex()

    def headers(self, body: bytes) -> dict[str, str]:
        """The header that signs a body."""
        return {HEADER: f"ed25519={b64encode(self._key.sign(body)).decode('ascii')}"}
