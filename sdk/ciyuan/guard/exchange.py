"""What a guard asks of the exchange: keys, the grade and its model card; and how its meter signs what it sends."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ciyuan.calls import Call
from ciyuan.client import Client
from ciyuan.errors import CiyuanError, ConfigurationError
from ciyuan.guard.manifests import sign
from ciyuan.standard_token import ModelCard, Work, work_function
from ciyuan.transport import AsyncTransport, Retry, Transport

KEYS_PATH = "/.well-known/ciyuan-keys.json"
SIGNATURE_HEADER = "Ciyuan-Signature"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the guard needs of its grade: the model's name on the exchange, and the work of a request."""

    model: str
    work: Callable[[int, int, int], Work]


def load_terms(grade: str, *, url: str | None, kept: Path) -> Terms:
    """
    The grade's terms from the exchange, or from the last start when it is away: they never change.

    :raises CiyuanError: when there are none.
    """
    try:
        with Client(url=url, timeout=10) as client:
            terms = client.grades.get(grade).raw
            card = next((m.raw for m in client.models.list() if m.slug == terms["model"]), None)
        if card is None:
            raise ConfigurationError("no-model", f"the exchange has no model {terms['model']}", field="grade")
        saved = {
            "grade": grade, "model": terms["model"], "cached_share_thousandths": terms["cached_share_thousandths"],
            "card": {name: card[name] for name in ("active_params", "active_weight_bytes", "attention")},
        }  # fmt: skip
        fresh = kept.with_suffix(".new")
        fresh.write_text(json.dumps(saved))
        fresh.replace(kept)
    except CiyuanError:
        last = _saved(kept)
        if last is None or last["grade"] != grade:
            raise
        saved = last
    card_of = ModelCard.from_dict(saved["card"], name=saved["model"])
    return Terms(saved["model"], work_function(card_of, saved["cached_share_thousandths"]))


def _saved(kept: Path) -> dict[str, Any] | None:
    try:
        saved: dict[str, Any] = json.loads(kept.read_text())
    except (OSError, ValueError):
        return None
    return saved


async def fetch_keys(transport: AsyncTransport) -> Any:
    """The published keys as they stand."""
    return await transport.send(Call("GET", KEYS_PATH, lambda body: body))


def keys_transport(url: str | None) -> AsyncTransport:
    return AsyncTransport(None, url, timeout=5.0, retry=Retry(attempts=1))


def read_signing_key(path: Path | None) -> Ed25519PrivateKey | None:
    """:raises ConfigurationError: when there is no key in the file."""
    if path is None:
        return None
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            "bad-signing-key", f"{path} holds no Ed25519 private key of 64 hexadecimal digits: {type(error).__name__}",
            field="signing_key",
        ) from None  # fmt: skip


class SignedBody(httpx.Auth):
    """Signs each request's body with the meter's key."""

    requires_request_body = True

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers[SIGNATURE_HEADER] = sign(self._key, request.content)
        yield request


def meter_http(url: str | None, meter_key: str | None, key: Ed25519PrivateKey | None) -> httpx.Client:
    """The meter's way to the exchange, signed where there is a key."""
    settings = Transport(meter_key, url).settings
    return httpx.Client(
        base_url=settings.url, timeout=30.0, headers=settings.headers(), auth=SignedBody(key) if key else None
    )
