"""
Usage at 80% of what the door takes at most, for a while: nothing lost, nothing counted twice, memory and latency flat,
while days are made ahead and an old one is archived under the traffic.

    python -m benchmarks.soak              # FULL=1: ten minutes on a table of 20 million rows; else 20 seconds
    python -m benchmarks.soak --seconds N --rows N

One batch in twenty is sent a second time, also after its day was archived. Afterwards events, sums and rollups are
those of the batches that were sent, and the audit recomputes the rollups from the events.
"""

import argparse
import asyncio
import itertools
import os
import random
import statistics
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import psutil
import uvloop

from benchmarks.harness import environment, report, table
from benchmarks.ingest import fill, fresh_events, meter_key, services, wait_open
from config.instance import ROOT, Instance

EVENTS, CONNECTIONS, SHARE = 1_000, 8, 0.8
AGAIN = 20
SOURCE = "soak/1"
OLD = timedelta(days=12)


class Batches:
    """Bodies of a thousand events: one made once, in which the number of the batch and the day are put."""

    def __init__(self, now: datetime) -> None:
        from metering_ingest.domain.events import encode_json

        events = fresh_events(EVENTS)
        for n, event in enumerate(events):
            event |= {"id": f"soak-@@@@@@@@-{n:04}", "source": SOURCE, "time": f"####-##-##T03:00:{n % 60:02}Z"}
        self.template = encode_json(events)
        self.tokens = sum(event["data"]["input_tokens"] for event in events)
        self.today, self.old = f"{now - timedelta(days=1):%Y-%m-%d}".encode(), f"{now - OLD:%Y-%m-%d}".encode()
        self.numbers = itertools.count()

    def body(self, number: int, *, old: bool) -> bytes:
        """Return a batch; the same number and day are the same events."""
        day = self.old if old else self.today
        return self.template.replace(b"@@@@@@@@", b"%08d" % number).replace(b"####-##-##", day)


class Traffic:
    """What was sent, and what became of it."""

    def __init__(self, port: int, secret: str, batches: Batches) -> None:
        self.port, self.batches = port, batches
        self.head = (
            f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self.answered: Counter[str] = Counter()
        self.sent: list[tuple[int, bool]] = []
        self.latencies: list[tuple[float, float]] = []
        self.old_until = 0.0
        self.began = 0.0

    def run(self, seconds: float, *, rate: float | None) -> float:
        """Send for that long, `rate` batches a second or as fast as it goes; return batches a second."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._run(seconds, rate))

    async def _run(self, seconds: float, rate: float | None) -> float:
        self.began = time.perf_counter()
        self.old_until = self.began + seconds / 4
        slots = itertools.count()
        before = sum(self.answered.values())
        await asyncio.gather(*(self._client(slots, seconds, rate) for _ in range(CONNECTIONS)))
        return (sum(self.answered.values()) - before) / EVENTS / (time.perf_counter() - self.began)

    async def _client(self, slots: "itertools.count[int]", seconds: float, rate: float | None) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while True:
            slot = next(slots)
            due = self.began + (slot / rate if rate else 0)
            if max(due, time.perf_counter()) > self.began + seconds:
                writer.close()
                return
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            await self._post(reader, writer, due if rate else time.perf_counter())

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, due: float) -> None:
        again = bool(self.sent) and random.randrange(AGAIN) == 0
        if again:
            number, old = random.choice(self.sent)
        else:
            number, old = next(self.batches.numbers), time.perf_counter() < self.old_until and random.random() < 0.1
        body = self.batches.body(number, old=old)
        writer.write(self.head + str(len(body)).encode() + b"\r\n\r\n" + body)
        status = await reader.readline()
        length = 0
        while (line := await reader.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        answer = await reader.readexactly(length)
        if b" 200 " not in status:
            raise SystemExit(f"{status!r} {answer[:300]!r}")
        expected = b'"duplicate":1000' if again else b'"accepted":1000'
        assert expected in answer, answer[-200:]
        self.answered["duplicate" if again else "accepted"] += EVENTS
        self.latencies.append((time.perf_counter() - self.began, time.perf_counter() - due))
        if not again:
            self.sent.append((number, old))


class Watch(threading.Thread):
    """The memory of the web processes, in megabytes, each second; and what the beat would do, in the middle of it."""

    def __init__(self, instance: Instance, seconds: float, old: datetime) -> None:
        super().__init__(daemon=True)
        self.instance, self.seconds, self.old = instance, seconds, old
        self.memory: list[float] = []
        self.archived = 0
        self.error: BaseException | None = None
        self.over = threading.Event()

    def run(self) -> None:
        web = psutil.Process(self.instance.pid("web"))
        began, archived = time.monotonic(), False
        try:
            while not self.over.wait(1):
                self.memory.append(sum(p.memory_info().rss for p in [web, *web.children(recursive=True)]) / 2**20)
                if not archived and time.monotonic() - began > self.seconds / 2:
                    self.archived, archived = self._sweep(), True
        except BaseException as error:
            self.error = error

    def _sweep(self) -> int:
        from core import clock
        from metering_ingest import tasks
        from metering_ingest.actions.archiving import archive_day

        tasks.make_partitions()
        part = archive_day(day=self.old.date(), now=clock.now())
        return part.events if part else 0


def main() -> None:
    full = bool(os.environ.get("FULL"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600 if full else 20)
    parser.add_argument("--rows", type=int, default=20_000_000 if full else 0, help="at least so many rows at the end")
    options = parser.parse_args()
    print(environment())
    os.environ["CIYUAN_REQUESTS_PER_MINUTE"] = "100000000"
    with services(ROOT / "var" / "bench" / "soak") as instance:
        import django

        django.setup()
        report(soak(instance, options.seconds, options.rows))


def soak(instance: Instance, seconds: float, rows: int) -> dict[str, float | int | str | None]:
    """Run it, and return the figures."""
    from metering_ingest.audit import rollups_are_events
    from metering_ingest.ingest_workers import own_connection

    wait_open(instance.port)
    now, secret = datetime.now(UTC), meter_key()
    batches = Batches(now)
    traffic = Traffic(instance.port, secret, batches)
    traffic.run(1, rate=None)  # connections are opened, caches filled
    top = traffic.run(min(5, seconds / 4), rate=None)
    if (missing := rows - int(top * SHARE * seconds * EVENTS)) > 0:
        fill(own_connection(), missing)
    traffic.latencies.clear()
    watch = Watch(instance, seconds, now - OLD)
    watch.start()
    kept = traffic.run(seconds, rate=top * SHARE)
    watch.over.set()
    watch.join()
    if watch.error is not None:
        raise watch.error
    expected = len(traffic.sent) * EVENTS
    stored, tokens, rolled_up = _stored(watch.archived)
    assert tokens == len(traffic.sent) * batches.tokens, (tokens, len(traffic.sent) * batches.tokens)
    found = [] if rows else list(rollups_are_events())
    assert not found, found[0]
    thirds = [[late for at, late in traffic.latencies if n <= 3 * at / seconds < n + 1] for n in range(3)]
    middles = [1e3 * statistics.median(third) for third in thirds]
    memory = watch.memory
    print(table(
        f"{seconds:.0f} s at {kept * EVENTS:,.0f} events/s, {SHARE:.0%} of the {top * EVENTS:,.0f} at most",
        ("what", "first third", "middle", "last third"),
        [("latency of a batch, ms (median)", *(f"{m:,.1f}" for m in middles)),
         ("web processes, MiB", *(f"{memory[int(len(memory) * at)]:,.0f}" for at in (0.2, 0.5, 0.99)))],
    ))  # fmt: skip
    print(f"{expected:,} events sent, {dict(traffic.answered)}; {watch.archived:,} archived meanwhile")
    return {
        "seconds": seconds, "events_per_second": kept * EVENTS, "rows": stored,
        "lost": max(0, expected - stored) + max(0, expected - rolled_up),
        "doubled": max(0, stored - expected) + max(0, rolled_up - expected),
        "archived_meanwhile": watch.archived,
        "latency_last_vs_first": middles[2] / middles[0],
        "memory_last_vs_first": memory[-1] / memory[int(len(memory) * 0.2)],
    }  # fmt: skip


def _stored(archived: int) -> tuple[int, int, int]:
    """Return the events of the soak in table and archive, all their input tokens, and the requests in the rollup."""
    from django.db import connection

    from metering_ingest.models import ArchivedPart

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), coalesce(sum(input_tokens + cached_tokens), 0)::bigint FROM usage_event"
            " WHERE source = %s",
            [SOURCE],
        )
        events, tokens = cursor.fetchone()
        cursor.execute("SELECT coalesce(sum(quantity), 0)::bigint FROM usage_rollup WHERE token_class = 1")
        rolled_up = cursor.fetchone()[0]
    parts = list(ArchivedPart.objects.all())
    assert sum(part.events for part in parts) == archived
    tokens += sum(part.sums["input_tokens"] + part.sums["cached_tokens"] for part in parts)
    return events + archived, tokens, rolled_up


if __name__ == "__main__":
    main()
