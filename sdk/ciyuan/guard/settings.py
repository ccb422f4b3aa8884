"""What a guard is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """
    :param engine: the engine's address, with or without `/v1`. :param engine_key: what it wants as a Bearer token.
    :param engine_model: the name that the engine has for the model; the contract's by default.
    :param deployment: the deployment's id on the exchange. :param grade: the grade that it serves.
    :param url: the exchange. :param meter_key: the key of the deployment's meter. :param source: the meter's log.
    :param signing_key: a file with the meter's Ed25519 private key, 64 hexadecimal digits; None signs nothing.
    :param folder: where usage waits, of this guard alone, on a disk that survives restarts.
    :param tolerance_seconds: how far this clock and the exchange's may be apart.
    :param overrun_seconds: how long an answer may go on after its window before it is ended.
    :param beyond_quantity: serve on when the contract's quantity is used up; the exchange charges it as overage.
    :param tokenizer: a pinned vocabulary that counts where the engine reports nothing (`ciyuan.canonical`).
    :param continuous: ask the engine for its count with each chunk.
    :param llama_cpp: the engine is llama.cpp's server, which tells that count in `timings` and asks to be asked for it.
    :param first_token_timeout: seconds until the engine must have answered. :param idle_timeout: between two chunks.
    :param stalled_seconds: a client that takes nothing for so long is let go.
    """

    engine: str
    deployment: int
    grade: str
    folder: Path
    source: str
    url: str | None = None
    meter_key: str | None = None
    engine_key: str | None = None
    engine_model: str | None = None
    signing_key: Path | None = None
    host: str = "0.0.0.0"
    port: int = 8080
    status_host: str = "127.0.0.1"
    status_port: int = 9464
    tolerance_seconds: int = 60
    overrun_seconds: int = 60
    beyond_quantity: bool = False
    tokenizer: str | None = None
    continuous: bool = True
    llama_cpp: bool = False
    first_token_timeout: float = 300.0
    idle_timeout: float = 120.0
    stalled_seconds: float = 120.0
    most_streams: int = 4096
    max_body_bytes: int = 64 * MIB
    max_spool_bytes: int = 1024 * MIB

    @property
    def engine_root(self) -> str:
        """The engine's address without its version."""
        return self.engine.rstrip("/").removesuffix("/v1")
