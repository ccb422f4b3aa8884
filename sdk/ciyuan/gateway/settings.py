"""What a gateway is told at its start, and who may call it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from ciyuan.errors import ConfigurationError
from ciyuan.gateway.routes import RANKS

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """
    Who calls: `name` is the key of budgets and the tag of usage.

    :param service_class: the least that will do where the request names none.
    """

    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    service_class: str | None = None


class Callers:
    """The callers' keys, by their SHA-256 alone. Without any, whoever reaches the gateway may call."""

    def __init__(self, by_hash: Mapping[str, Caller]) -> None:
        self._by_hash = dict(by_hash)

    @classmethod
    def read(cls, path: Path | None) -> Callers:
        """
        Read `{"alice": {"sha256": "…", "tags": {"team": "search"}, "service_class": "realtime"}}`.

        :raises ConfigurationError: for a file that is none.
        """
        if path is None:
            return cls({})
        try:
            rows = json.loads(path.read_text())
            found = {}
            for name, row in rows.items():
                digest, wanted = str(row["sha256"]).lower(), row.get("service_class")
                if len(bytes.fromhex(digest)) != 32:
                    raise ValueError(f"{name}: sha256 has 64 hexadecimal digits")
                if wanted is not None and wanted not in RANKS:
                    raise ValueError(f"{name}: service_class is one of {', '.join(RANKS)}")
                tags = {str(tag): str(value) for tag, value in row.get("tags", {}).items()}
                found[digest] = Caller(str(name), tags, wanted)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError("bad-callers", f"{path} lists no callers: {error}", field="callers") from None
        return cls(found)

    def find(self, authorization: str) -> Caller | None:
        """The caller of an Authorization header; None for nobody."""
        if not self._by_hash:
            return Caller()
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest = hashlib.sha256(key.strip().encode()).hexdigest()
        return next((c for known, c in self._by_hash.items() if hmac.compare_digest(known, digest)), None)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """
    :param folder: where usage and what is known of the contracts wait, of this gateway alone.
    :param api_key: a key that may `trade` and `read`. :param meter_key: the key of a meter with role `buyer`.
    :param source: the meter's log. :param callers: a file of callers' keys; None lets everybody in.
    :param signing_key: a file with the meter's Ed25519 private key, which signs what is reported of providers' service.
    :param ask_caps: ask the exchange's budgets before each call. :param without_exchange: serve, or `refuse`, when they
        cannot be asked.
    :param overage_yuan: the most to spend at list prices while this process runs; None takes what is allowed.
    :param refresh_seconds: between two looks at the contracts. :param renew_seconds: at a contract's access.
    :param first_token_timeout: seconds that a stream's provider has before another one is asked.
    :param answer_timeout: the same for a whole answer. :param idle_timeout: between two chunks.
    :param most_wait: seconds that a request waits for rate before it is refused.
    :param most_attempts: providers that a request is tried at.
    :param promises: seconds to the first token and per token, by service class; what a request without one is held to
        stands under "".
    """

    folder: Path
    source: str
    api_key: str | None = None
    meter_key: str | None = None
    url: str | None = None
    host: str = "127.0.0.1"
    port: int = 8090
    callers: Path | None = None
    signing_key: Path | None = None
    ask_caps: bool = True
    without_exchange: str = "serve"
    overage_yuan: Decimal | None = None
    refresh_seconds: float = 2.0
    renew_seconds: float = 30.0
    first_token_timeout: float = 30.0
    answer_timeout: float = 600.0
    idle_timeout: float = 120.0
    most_wait: float = 10.0
    most_attempts: int = 4
    most_running: int = 2_048
    max_body_bytes: int = 64 * MIB
    max_spool_bytes: int = 1024 * MIB
    promises: Mapping[str, tuple[float, float]] = field(
        default_factory=lambda: {"": (5.0, 0.1), "realtime": (2.0, 0.1)}
    )
