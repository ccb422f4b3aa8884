"""
How fast usage is stored, exactly once and rolled up, against a raw COPY of the same rows and against the usual ways.

    python -m benchmarks.ingest            # FULL=1: a table of 5 million rows, all peers; else a million
    python -m benchmarks.ingest --rows N

Raw COPY is binary, one connection, a plain logged table of the same columns without index, same batch and commit,
encoding included. The table that ours goes into already holds the rows. Durability is on everywhere but in chDB, which
has none to switch on.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.harness import Case, environment, interleave, report, table
from benchmarks.peers import CHDB, peers_python
from config.instance import ROOT, Instance, free_port

SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "wal_buffers": "64MB"}
DAY = datetime(2026, 11, 18, tzinfo=UTC)
random.seed(20261121)
numbers = itertools.count()


def fresh_events(count: int) -> list[dict[str, Any]]:
    """Events of one meter as its gateway would send them: ten buyers, times that go on, lengths as they come."""
    events = []
    for _ in range(count):
        n = next(numbers)
        inputs = int(random.paretovariate(1.1) * 400) % 30_000 + 10
        events.append(
            {
                "specversion": "1.0", "type": "ciyuan.usage", "id": f"chatcmpl-{random.getrandbits(96):024x}",
                "source": "gateway/1", "subject": f"buyer-{n % 10}",
                "time": (DAY + timedelta(milliseconds=(n * 3) % 86_000_000)).isoformat(),
                "data": {"input_tokens": inputs, "cached_input_tokens": inputs // 3,
                         "output_tokens": random.randint(1, 800)},
            }
        )  # fmt: skip
    return events


@contextlib.contextmanager
def services(var: Path) -> Iterator[Instance]:
    """A migrated instance with its servers and two web processes; gone afterwards."""
    instance = Instance(
        var=var, web_workers=2, matching_workers=0, workers=0, beat=False, postgres_settings=SETTINGS,
        settings={"CIYUAN_MATCHING_WORKERS": "1"},
    )  # fmt: skip
    with contextlib.suppress(Exception):
        instance.stop()
    instance.remove()
    os.environ.update(instance.environment())
    try:
        instance.start(wait=False)
        yield instance
    finally:
        instance.stop()
        instance.remove()


def fill(connection: Any, rows: int) -> None:
    """Put rows of earlier days into the table, in their order."""
    from metering_ingest.actions.partitions import ensure_days

    first = (DAY - datetime(1970, 1, 1, tzinfo=UTC)).days
    ensure_days(connection, range(first - 5, first + 2))
    per_day = rows // 5
    for day in range(first - 5, first):
        connection.execute(
            """
            INSERT INTO usage_event SELECT
                (lpad(to_hex(%(start)s + (n * 86400000::bigint) / %(count)s), 12, '0')
                    || substr(md5(n::text || %(start)s::text), 1, 20))::uuid,
                1, 1 + n %% 10, 1, now(), 150000000, 5000000, 60000000, 1, 800, 400, 250, 0, 0, 'gateway/1',
                'chatcmpl-' || substr(md5(n::text), 1, 24), 'buyer-' || n %% 10, NULL
            FROM generate_series(0, %(count)s - 1) AS n
            """,
            {"start": day * 86_400_000, "count": per_day},
        )
    connection.execute("CHECKPOINT")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    full = bool(os.environ.get("FULL"))
    parser.add_argument("--rows", type=int, default=5_000_000 if full else 1_000_000)
    parser.add_argument("--repeats", type=int, default=15 if full else 9)
    parser.add_argument("--no-http", action="store_true")
    parser.add_argument("--no-store", action="store_true", help="over HTTP alone")
    options = parser.parse_args()
    print(environment())
    with services(ROOT / "var" / "bench" / "ingest") as instance:
        import django

        django.setup()
        figures: dict[str, float | None] = {} if options.no_store else measure(options.rows, options.repeats)
        if not options.no_http:
            figures |= over_http(instance)
    report(figures)


def measure(rows: int, repeats: int) -> dict[str, float | None]:
    """The store itself, in this process."""
    from functools import partial

    from ciyuan.standard_token import REFERENCE_7B
    from ciyuan.standard_token_arrays import work_arrays

    from benchmarks.baselines.usage import RawCopy
    from core import clock
    from metering_ingest.actions.store import ingest
    from metering_ingest.domain.events import Decoded, decode, encode_json
    from metering_ingest.domain.pipeline import MeterFacts
    from metering_ingest.domain.routing import Route, Routes
    from metering_ingest.ingest_workers import own_connection

    class Book:
        """Ten buyers with a contract each."""

        def __call__(self, wanted: set[tuple[str, int]], /) -> dict[tuple[str, int], Routes]:
            return {p: Routes((Route(0, 2**50, int(p[0][6:]) + 1, 2**50),)) for p in wanted}

        def is_probe(self, attempt_id: str, /) -> bool:
            return False

        def standing(self, subject: str, /) -> int:
            return 0

    connection = own_connection()
    fill(connection, rows)
    facts = MeterFacts(1, 1, partial(work_arrays, REFERENCE_7B))
    book = Book()
    raw = RawCopy(connection)

    def ours(decoded: Decoded) -> None:
        results = ingest(connection, decoded, meter=facts, route_book=book, clock=clock.now)
        assert all(result.rejection is None for result in results), results[0]

    def body(count: int) -> bytes:
        return encode_json(fresh_events(count))

    def raw_rows(count: int) -> list[tuple[Any, ...]]:
        """The rows that ours would store, as Python values."""
        from uuid import UUID

        from metering_ingest.domain.pipeline import prepare

        batch = prepare(decode(body(count)).events, meter=facts, route_book=book, now_ms=2**47)
        now = datetime.now(UTC)
        columns = [c.tolist() for c in (batch.contract_id, *batch.work, batch.requests, batch.fresh, batch.cached,
                                        batch.visible, batch.reasoning, batch.band)]  # fmt: skip
        return [
            (UUID(bytes=key), 1, contract, 1, now, *rest, source, id_.decode(), subject, None)
            for key, contract, *rest, source, id_, subject in zip(
                batch.key_bytes(), *columns, batch.source, batch.id, batch.subject, strict=True
            )
        ]

    kept: dict[str, bytes] = {}

    def twice(count: int) -> Decoded:
        """A batch that is stored already, as a client that retries sends it."""
        kept["body"] = body(count)
        ours(decode(kept["body"]))
        return decode(kept["body"])

    cases: dict[str, Case | Callable[[], Any]] = {
        "raw 1k": Case(raw.store, lambda: raw_rows(1_000)),
        "events 1k": Case(ours, lambda: decode(body(1_000))),
        "duplicates 1k": Case(ours, lambda: twice(1_000)),
        "raw 10k": Case(raw.store, lambda: raw_rows(10_000)),
        "events 10k": Case(ours, lambda: decode(body(10_000))),
        "bytes 10k": Case(lambda b: ours(decode(b)), lambda: body(10_000)),
    }
    chdb = ChDB()
    if chdb.here:
        cases["chDB 1k"] = Case(chdb.insert, lambda: chdb.load(1_000))
    else:
        print("chDB cannot be installed here; its figure is left out")
    timings = interleave(cases, repeats=repeats)
    chdb.close()
    print(timings.table(f"storing usage beside {rows:,} rows"))
    for name, count in (("raw 1k", 1_000), ("events 1k", 1_000), ("raw 10k", 10_000), ("events 10k", 10_000),
                        ("bytes 10k", 10_000)):  # fmt: skip
        print(f"  {name:12} {timings.rate(name, count):>12,.0f} events/s")
    figures: dict[str, float | None] = {
        "rows": rows,
        "events_1k_vs_copy": timings.ratio("raw 1k", "events 1k"),
        "events_10k_vs_copy": timings.ratio("raw 10k", "events 10k"),
        "bytes_10k_vs_copy": timings.ratio("raw 10k", "bytes 10k"),
        "duplicates_vs_fresh": timings.ratio("events 1k", "duplicates 1k"),
        "vs_chdb": timings.ratio("chDB 1k", "events 1k") if chdb.here else None,
    }

    def value(sql: str, *values: Any) -> Any:
        row = connection.execute(sql, values).fetchone()
        return row[0] if row else None

    wal = {}
    for name in ("ours", "raw"):
        store: Callable[[Any], None] = ours if name == "ours" else raw.store
        prepared = [decode(body(1_000)) if name == "ours" else raw_rows(1_000) for _ in range(20)]
        connection.execute("CHECKPOINT")
        before = value("SELECT pg_current_wal_insert_lsn()")
        for one in prepared:
            store(one)
        wal[name] = int(value("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", before)) / 20_000
    print(f"\nWAL bytes a row after a checkpoint: ours {wal['ours']:.0f}, raw {wal['raw']:.0f}")
    figures["wal_vs_raw"] = wal["ours"] / wal["raw"]
    return figures


class ChDB:
    """The peer in a process of its own; `here` says whether it could be installed on this machine."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("baselines") / "chdb_events.py"
        self.process = subprocess.Popen(
            [peers_python(CHDB), script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.here = self._answer() == "ready"
        self.rows = 0

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def load(self, count: int) -> None:
        """Hand over fresh rows, without storing them."""
        lines = [
            json.dumps({
                "time": event["time"].partition("+")[0][:23].replace("T", " "), "meter": 1,
                "source": event["source"], "id": event["id"], "subject": event["subject"],
                "input": event["data"]["input_tokens"], "cached": event["data"]["cached_input_tokens"],
                "output": event["data"]["output_tokens"],
            })
            for event in fresh_events(count)
        ]  # fmt: skip
        self._say(f"load {count}\n" + "\n".join(lines) + "\n")
        assert self._answer() == "loaded"

    def insert(self, _: None = None) -> None:
        """Store what was handed over."""
        self._say("insert\n")
        assert self._answer() == "inserted"
        self.rows += 1_000

    def _say(self, words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(words)
        self.process.stdin.flush()

    def close(self) -> None:
        """End it; every row that it was given must be in its table."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        stored = self._answer()
        self.process.wait(20)
        if self.here:
            assert int(stored) == self.rows, f"chDB has {stored} rows of {self.rows}"


# --- over HTTP ------------------------------------------------------------------------------------------------------


def over_http(instance: Instance) -> dict[str, float]:
    """The same server and workers: batches against DRF, single events against a transaction each."""
    from benchmarks.baselines.naive_usage import CREATE_NAIVE
    from metering_ingest.ingest_workers import own_connection

    secret = meter_key()
    own_connection().execute(CREATE_NAIVE)
    port = free_port()
    naive = subprocess.Popen(
        [sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port),
         "--workers", "2", "--no-access-log", "--log-level", "warning", "benchmarks.baselines.naive_usage:application"],
        env={**instance.environment("web"), "CIYUAN_NAIVE_SERVER": "1"}, cwd=ROOT,
    )  # fmt: skip
    try:
        for wanted in (instance.port, port):
            wait_open(wanted)
        rates: dict[str, list[float]] = {"ours": [], "drf": [], "single": [], "naive": []}
        for part in range(-1, 3):  # the first, in which connections are opened and caches filled, is not counted
            found = {
                "ours": 1_000 * _rate(instance.port, "/v1/events", _bodies(40, 1_000), 8, secret),
                "drf": 1_000 * _rate(port, "/batch", _bodies(6, 1_000), 8, secret),
                "single": _rate(instance.port, "/v1/events", _bodies(4_000, 1), 256, secret),
                "naive": _rate(port, "/single", _bodies(800, 1), 256, secret),
            }
            for name, rate in found.items() if part >= 0 else ():
                rates[name].append(rate)
    finally:
        naive.terminate()
        naive.wait(20)
    middle = {name: statistics.median(found) for name, found in rates.items()}
    print(table("over HTTP, two workers", ("what", "events/s"), [(k, f"{v:,.0f}") for k, v in middle.items()]))
    return {"http_vs_drf": middle["ours"] / middle["drf"], "single_vs_naive": middle["single"] / middle["naive"]}


def _bodies(count: int, events: int) -> list[bytes]:
    """Request bodies; a single event goes as an object, several as an array."""
    from metering_ingest.domain.events import encode_json

    return [encode_json(fresh_events(events) if events > 1 else fresh_events(1)[0]) for _ in range(count)]


def meter_key() -> str:
    """A provider with a deployment, ten buyers known by their subjects, and a meter's key."""
    from django.db import transaction

    from metering_ingest.actions.meters import register_alias
    from tests.given import given_deployment, given_organization
    from tests.metering.given import given_meter, given_meter_key

    with transaction.atomic():
        meter = given_meter(given_deployment())
        for n in range(10):
            register_alias(provider=meter.organization, subject=f"buyer-{n}", buyer=given_organization(), now=DAY)
    return given_meter_key(meter)


def wait_open(port: int) -> None:
    """Return when something listens there."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise SystemExit(f"nothing answers on port {port}")


def _rate(port: int, path: str, bodies: list[bytes], connections: int, secret: str) -> float:
    """Requests a second over that many kept connections; every answer must be a 200."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    requests = iter([head + str(len(body)).encode() + b"\r\n\r\n" + body for body in bodies])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seconds = runner.run(_send_all(port, requests, min(connections, len(bodies))))
    return len(bodies) / seconds


async def _send_all(port: int, requests: Iterator[bytes], connections: int) -> float:
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    clients = [_Client(requests, loop.create_future()) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(client.done for client in clients))
    return time.perf_counter() - start


class _Client(asyncio.Protocol):
    """
    One kept connection that sends the next request when the answer to the last is whole. It reads no more of HTTP than
    it must: the two processors are the server's too, and a slow client would be what is measured.
    """

    def __init__(self, requests: Iterator[bytes], done: "asyncio.Future[None]") -> None:
        self.requests, self.done, self.received = requests, done, b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        request = next(self.requests, None)
        if request is None:
            self.transport.close()
            self.done.set_result(None)
        else:
            self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, ended, content = self.received.partition(b"\r\n\r\n")
        if not ended:
            return
        _, sized, rest = head.lower().partition(b"content-length: ")
        if not (len(content) >= int(rest.split(b"\r\n", 1)[0]) if sized else content.endswith(b"0\r\n\r\n")):
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            self.done.set_exception(SystemExit(f"{head.decode()} {content.decode()[:300]}"))
        self.received = b""
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(SystemExit(f"the server hung up: {error}"))


if __name__ == "__main__":
    main()
