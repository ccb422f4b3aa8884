"""Access tokens, checked offline: the exchange's published keys are fetched now and then and kept on disk."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ciyuan.guard.refusals import DENIED, Refusal

ISSUER = "ciyuan"
MOST_KNOWN = 10_000
#: Seconds: keys are fetched anew so often, and at once for a key that is not known, but not more often than this.
REFRESH, SOONEST_REFRESH = 600.0, 10.0


@dataclass(frozen=True, slots=True)
class Claims:
    """
    What a token says.

    :param starts_at: of the window, Unix seconds; it ends before `ends_at`.
    :param quantity: standard tokens of the contract that this deployment serves.
    """

    contract: int
    buyer: int
    model: str
    quantity: int
    st_per_minute: int
    starts_at: int
    ends_at: int

    @property
    def subject(self) -> str:
        return f"contract:{self.contract}"


class UnknownKey(Exception):
    """The token names a key that is not known here."""


class PublishedKeys:
    """
    The exchange's public keys by name.

    :param fetch: gives the published document. :param path: where the last one is kept for a start without exchange.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Any]], path: Path) -> None:
        self._fetch, self._path = fetch, path
        self._asked_at = float("-inf")
        self.by_name: dict[str, Ed25519PublicKey] = {}
        self.version = 0
        try:
            self._take(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            self.by_name = {}

    async def refresh(self, now: float, *, every: float = REFRESH) -> None:
        """
        Fetch the keys if the last time is longer ago than `every` seconds of the monotonic clock.

        :raises CiyuanError: when the exchange does not give them; the known ones stay.
        """
        if now - self._asked_at < every:
            return
        self._asked_at = now
        document = await self._fetch()
        self._take(document)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(document))
        fresh.replace(self._path)

    def _take(self, document: Any) -> None:
        keys = {
            str(row["kid"]): Ed25519PublicKey.from_public_bytes(jwt.utils.base64url_decode(row["x"]))
            for row in document["keys"]
            if row.get("kty") == "OKP" and row.get("crv") == "Ed25519"
        }
        if {name: key.public_bytes_raw() for name, key in keys.items()} != {
            name: key.public_bytes_raw() for name, key in self.by_name.items()
        }:
            self.version += 1
        self.by_name = keys


class AccessCheck:
    """
    :param deployment: the id that a token must be for. :param tolerance: seconds that two clocks may be apart.
    """

    def __init__(self, keys: PublishedKeys, *, deployment: int, tolerance: int) -> None:
        self._keys, self._deployment, self._tolerance = keys, deployment, tolerance
        self._known: OrderedDict[str, Claims] = OrderedDict()
        self._version = keys.version

    def check(self, authorization: str, now: float) -> Claims:
        """
        The claims of a Bearer token that is good at `now` (Unix seconds).

        :raises Refusal: for a token that is not. :raises UnknownKey: fetch the keys and ask again.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _denied("missing_token", "Send the contract's access token: “Authorization: Bearer <token>”.")
        claims = self._verified(token.strip())
        if now < claims.starts_at - self._tolerance:
            wait = int(claims.starts_at - now)
            raise _denied("token_not_yet_valid", f"The contract's window begins in {wait:,} seconds.", wait)
        if now >= claims.ends_at + self._tolerance:
            raise _denied(
                "token_expired", f"The window of contract {claims.contract} is over; ask for one that is open."
            )
        return claims

    def _verified(self, token: str) -> Claims:
        if self._version != self._keys.version:
            self._known.clear()  # a key may have been taken back
            self._version = self._keys.version
        if (known := self._known.get(token)) is not None:
            self._known.move_to_end(token)
            return known
        claims = self._decode(token)
        self._known[token] = claims
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return claims

    def _decode(self, token: str) -> Claims:
        try:
            name = jwt.get_unverified_header(token).get("kid")
            if not isinstance(name, str) or name not in self._keys.by_name:
                raise UnknownKey(name)
            body = jwt.decode(
                token, self._keys.by_name[name], algorithms=["EdDSA"], issuer=ISSUER,
                audience=f"deployment:{self._deployment}",
                options={"require": ["sub", "aud", "nbf", "exp"], "verify_exp": False, "verify_nbf": False,
                         "verify_iat": False},
            )  # fmt: skip
            return Claims(
                contract=int(body["sub"]), buyer=int(body["buyer"]), model=str(body["model"]),
                quantity=int(body["quantity"]), st_per_minute=int(body["st_per_minute"]),
                starts_at=int(body["nbf"]), ends_at=int(body["exp"]),
            )  # fmt: skip
        except jwt.InvalidAudienceError:
            raise Refusal(
                403, "wrong_deployment", f"This token is for another deployment than {self._deployment}.", kind=DENIED
            ) from None
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            raise _denied("invalid_token", "This is no access token that the exchange has signed.") from None


def _denied(code: str, message: str, retry_after: int = 0) -> Refusal:
    return Refusal(401, code, message, kind=DENIED, retry_after=retry_after)
