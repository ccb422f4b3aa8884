"""What a guard asks of the exchange: keys, the grade and its model card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ciyuan.calls import Call
from ciyuan.client import Client
from ciyuan.errors import CiyuanError, ConfigurationError
from ciyuan.service_minutes import NO_PROMISE, Promise
from ciyuan.standard_token import ModelCard, Work, work_function
from ciyuan.transport import AsyncTransport, Retry

KEYS_PATH = "/.well-known/ciyuan-keys.json"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the guard needs of its grade: the model's name on the exchange, the work of a request, promised times."""

    model: str
    work: Callable[[int, int, int], Work]
    promise: Promise = NO_PROMISE


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
            **{name: terms.get(name) for name in ("first_token_p95_ms", "per_token_p95_ms")},
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
    return Terms(saved["model"], work_function(card_of, saved["cached_share_thousandths"]), Promise.of(saved))


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
