"""
A meter: takes usage events, keeps them on disk, and sends them until the exchange has acknowledged each.

    with Meter(source="gateway-1", spool="/var/lib/my-gateway/usage") as meter:      # CIYUAN_URL, CIYUAN_API_KEY
        meter.record(subject="contract-42", input_tokens=812, cached_input_tokens=512, output_tokens=96)

`record` returns when the event is on the disk; a background thread sends batches in order. An event has its id from the
beginning and is sent with the same one however often, and the exchange counts each (source, id) once, so nothing is
lost or doubled by an outage, a kill -9 or a retry. What the exchange refuses is kept in `rejected.ndjson` beside the
spool, with the reason, and never holds up its neighbours.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import uuid4

import httpx

from ciyuan.calls import Call
from ciyuan.errors import CiyuanError
from ciyuan.manifests import Ledger, hour_of, kept_events, manifest_call
from ciyuan.records import EventAnswer, EventResult, ManifestRecord
from ciyuan.signing import Signer
from ciyuan.spool import KEEP_BYTES, Position, Spool, SpoolFull
from ciyuan.standard_token import check_counts
from ciyuan.transport import Retry, Transport

T = TypeVar("T")
MAX_BATCH = 1_000
MAX_BATCH_BYTES = 8 * 1024 * 1024
EVENT_TYPE = "ciyuan.usage"
MANIFEST_SECONDS = 30.0
_ACKNOWLEDGED = frozenset({"accepted", "duplicate"})
#: Statuses that blame what was sent, not the moment or the key.
_REFUSED_WHOLE = frozenset({400, 413, 422})
#: Statuses that waiting does not mend.
_NEEDS_A_PERSON = frozenset({401, 403, 404})


class MeterBehind(Exception):
    """`flush` did not finish in time: events still wait, safe on the disk."""


class _Refused(NamedTuple):
    line: bytes
    code: str
    detail: str
    field: str | None


@dataclass(frozen=True)
class MeterState:
    """
    :param waiting_events: recorded and not yet acknowledged.
    :param rejected_events: refused since this meter was opened; they are in `rejected.ndjson`.
    :param failures: attempts that failed in a row; 0 while all is well.
    :param problem: why the last attempt failed.
    :param manifest_problem: why the last manifest could not be sent.
    """

    waiting_events: int
    waiting_bytes: int
    sent_events: int
    rejected_events: int
    failures: int
    problem: str | None
    manifest_problem: str | None = None


class Meter:
    """
    :param source: names this meter's log; with an event's id it is the event's identity for ever.
    :param spool: a folder of its own on a disk that survives restarts.
    :param max_spool_bytes: the most that may wait; beyond it `record` raises `SpoolFull` and takes nothing.
    :param keep_bytes: the most that is kept of what was sent, to be counted and sent again when some of it got lost.
    :param signer: signs what is sent, for a meter that was opened with a public key.
    :param manifests: say after each hour what was recorded in it, and send again what the exchange misses.
    :param linger: seconds that a lone event waits for company before it is sent.
    :param retry: how attempts are spaced; they never end.
    :param background: send by a thread; without it, `flush` and `step` do.
    :param now: the time an event gets when none is given. :param pause: how `flush` waits when there is no thread.
    """

    def __init__(
        self,
        *,
        source: str,
        spool: str | Path,
        api_key: str | None = None,
        url: str | None = None,
        max_spool_bytes: int = 1024**3,
        keep_bytes: int = KEEP_BYTES,
        signer: Signer | None = None,
        manifests: bool = True,
        batch: int = MAX_BATCH,
        linger: float = 0.05,
        timeout: float = 30.0,
        retry: Retry = Retry(first=0.5, most=60.0),  # noqa: B008  immutable
        background: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], None] = time.sleep,
        http: httpx.Client | None = None,
    ) -> None:
        if not 1 <= batch <= MAX_BATCH:
            raise ValueError(f"batch is 1 to {MAX_BATCH} events, not {batch}")
        if not source:
            raise ValueError("a meter needs a source: the name of its log")
        self.source = source
        self.spool = Spool(Path(spool), max_bytes=max_spool_bytes, keep_bytes=keep_bytes)
        self._ledger = Ledger(self.spool.folder) if manifests else None
        self._signer = signer
        self.rejected_path = self.spool.folder / "rejected.ndjson"
        self._transport = Transport(api_key, url, timeout=timeout, retry=Retry(attempts=1), http=http)
        self._retry, self._linger = retry, linger
        self._batch = self._room = batch
        self._now, self._pause = now, pause
        self._sent = self._rejected = self._failures = 0
        self._problem: CiyuanError | None = None
        self._manifest_problem: str | None = None
        self._stop, self._more = threading.Event(), threading.Event()
        self._progress = threading.Condition()
        self._sending, self._manifesting = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None
        if background:
            self._thread = threading.Thread(target=self._run, name=f"ciyuan-meter-{source}", daemon=True)
            self._thread.start()

    # -- recording ----------------------------------------------------------------------------------------------------

    def record(
        self,
        *,
        subject: str,
        input_tokens: int = 0,
        cached_input_tokens: int = 0,
        output_tokens: int = 0,
        id: str | None = None,
        time: datetime | None = None,
        **data: Any,
    ) -> str:
        """
        Keep one request's usage and return the event's id.

        :param subject: the contract's id, or the alias registered for the buyer.
        :param input_tokens: all of them, the cached ones included. :param output_tokens: reasoning included.
        :param time: when the request ended; now by default.
        :param data: what else the exchange knows: `reasoning_tokens`, `model`, `duration_ms`, `ttft_ms`, `tags`, …
        :raises StandardTokenError: for counts that no request has.
        :raises SpoolFull: when too much waits already.
        """
        check_counts(input_tokens, cached_input_tokens, output_tokens)
        counts = {
            "input_tokens": input_tokens,
            "cached_input_tokens": cached_input_tokens,
            "output_tokens": output_tokens,
        }
        return self.add(self.event(subject=subject, data={**counts, **data}, id=id, time=time))

    def record_usage(
        self,
        format: str,
        usage: Mapping[str, Any],
        *,
        subject: str,
        id: str | None = None,
        time: datetime | None = None,
        **data: Any,
    ) -> str:
        """
        Keep a vendor's usage object as it came; see `ciyuan.usage.FORMATS`.

        :raises UsageError: for a report that does not add up.
        """
        from ciyuan.usage import parse_usage

        parse_usage(format, usage)
        return self.add(
            self.event(subject=subject, data={"format": format, "usage": dict(usage), **data}, id=id, time=time)
        )

    def event(
        self, *, subject: str, data: Mapping[str, Any], id: str | None = None, time: datetime | None = None
    ) -> dict[str, Any]:
        """A CloudEvent of this meter."""
        return {
            "specversion": "1.0",
            "type": EVENT_TYPE,
            "id": id or uuid4().hex,
            "source": self.source,
            "subject": subject,
            "time": (time or self._now()).isoformat(),
            "data": dict(data),
        }

    def add(self, event: Mapping[str, Any]) -> str:
        """
        Keep a CloudEvent; one without id, source or time gets them here, once.

        With a time of None it is sent without: the exchange gives it one, the same whenever the event is sent again.
        """
        return self.add_many([event])[0]

    def add_many(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Keep events with one fsync: all of them or, raising, none."""
        whole = [self._whole(event) for event in events]
        if not whole:
            return []
        lines = [
            json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() for event in whole
        ]
        try:
            position = self.spool.append(lines)
        except SpoolFull as error:
            if self._problem is None:
                raise
            raise SpoolFull(f"{error}; sending fails since {self._failures} attempts: {self._problem}") from error
        self.spool.sync(position)
        self._more.set()
        return [event["id"] for event in whole]

    def _whole(self, event: Mapping[str, Any]) -> dict[str, Any]:
        whole = {"specversion": "1.0", "type": EVENT_TYPE, **event}
        whole["id"] = str(whole.get("id") or uuid4().hex)
        whole["source"] = str(whole.get("source") or self.source)
        if "time" not in whole:
            whole["time"] = self._now()
        if whole["time"] is None:
            del whole["time"]
        elif isinstance(whole["time"], datetime):
            whole["time"] = whole["time"].isoformat()
        return whole

    # -- sending ------------------------------------------------------------------------------------------------------

    def step(self) -> float | None:
        """
        Send one batch, if there is one. Returns the seconds to wait before the next step: 0 after a success, more after
        a failure, None when nothing waits.
        """
        with self._sending:
            lines, after = self.spool.peek(self._room, MAX_BATCH_BYTES)
            if not lines:
                return None
            events, refused = _parse(lines)
            results: list[EventResult] = []
            if events:
                try:
                    results = self._post([event for _, event in events])
                except CiyuanError as error:
                    if error.status in _REFUSED_WHOLE:
                        self._narrow(lines, error)
                        return 0.0
                    self._failures += 1
                    self._problem = error
                    self._announce()
                    return self._retry.wait(self._failures, error.retry_after)
            for (line, _), result in zip(events, results, strict=True):
                if result.status not in _ACKNOWLEDGED:
                    refused.append(_Refused(line, result.code or result.status, result.detail or "", result.field))
            self._settle(len(lines), after, refused)
            return 0.0

    def _post(self, events: list[Any]) -> list[EventResult]:
        answer = self._transport.send(_events_call(events, self._signer))
        if len(answer.results) != len(events):
            raise CiyuanError(
                "unreadable-answer", f"{len(events)} events were sent and {len(answer.results)} answered", status=200
            )
        return answer.results

    def _narrow(self, lines: list[bytes], error: CiyuanError) -> None:
        """A whole batch was refused: halve it until the event that is to blame stands alone, and put that aside."""
        if len(lines) > 1:
            self._room = len(lines) // 2
        else:
            _, after = self.spool.peek(1, MAX_BATCH_BYTES)
            self._settle(1, after, [_Refused(lines[0], error.code, error.detail, error.field)])

    def _settle(self, events: int, after: Position, refused: list[_Refused]) -> None:
        if refused:
            self._put_aside(refused)
        self.spool.finish(after, events)
        self._sent += events - len(refused)
        self._rejected += len(refused)
        self._failures, self._problem = 0, None
        self._room = min(self._batch, self._room * 2)
        self._announce()

    def _put_aside(self, refused: list[_Refused]) -> None:
        """On disk before the spool lets go of them."""
        when = self._now().isoformat()
        with self.rejected_path.open("ab") as file:
            for line, code, detail, field in refused:
                row = {"rejected_at": when, "code": code, "detail": detail, "field": field}
                try:
                    row["event"] = json.loads(line)
                except ValueError:
                    row["line"] = line.decode("utf-8", "backslashreplace")
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _announce(self) -> None:
        with self._progress:
            self._progress.notify_all()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._more.clear()
            try:
                wait = self.step()
            except Exception as error:  # a full disk, say: the thread goes on trying, and `state` tells of it
                self._failures += 1
                self._problem = CiyuanError("meter-failed", f"{type(error).__name__}: {error}")
                wait = self._retry.wait(self._failures)
            if wait is None:
                self._send_manifests_quietly()
                self._more.wait(None if self._ledger is None else MANIFEST_SECONDS)
                self._stop.wait(self._linger)
            elif wait:
                self._stop.wait(wait)

    # -- manifests -----------------------------------------------------------------------------------------------------

    def send_manifests(self) -> list[ManifestRecord]:
        """
        Say what was recorded in each hour that is over, where that has not been said; what the exchange misses of it is
        sent again from the spool, once. Returns what the exchange answered in the end.

        :raises CiyuanError: when it cannot be reached or refuses; nothing is forgotten, the next call goes on.
        """
        if self._ledger is None:
            return []
        answers: list[ManifestRecord] = []
        with self._manifesting:
            self._ledger.scan(self.spool.done)
            for hour in self._ledger.due(self._now()):
                calls = [manifest_call(manifest, self._signer) for manifest in self._ledger.manifests(hour)]
                found = [self._transport.send(call) for call in calls]
                if any(answer.state == "missing" for answer in found):
                    self.resend(hour)
                    found = [self._transport.send(call) for call in calls]
                self._ledger.finished(hour)
                answers += found
        return answers

    def resend(self, hour: datetime) -> dict[str, int]:
        """
        Send all that the spool keeps of an hour again. What has arrived already is a duplicate and counts nothing.

        :returns: how many of each result.
        """
        return resend_hour(self._transport, self.spool.folder, hour, self._signer)

    def _send_manifests_quietly(self) -> None:
        """An exchange that is away, or knows no manifests, stops no events: the next time is soon enough."""
        try:
            self.send_manifests()
        except (CiyuanError, OSError) as error:
            self._manifest_problem = str(error)
        else:
            self._manifest_problem = None

    # -- looking and ending -------------------------------------------------------------------------------------------

    @property
    def state(self) -> MeterState:
        return MeterState(
            waiting_events=self.spool.waiting_events,
            waiting_bytes=self.spool.waiting_bytes,
            sent_events=self._sent,
            rejected_events=self._rejected,
            failures=self._failures,
            problem=None if self._problem is None else str(self._problem),
            manifest_problem=self._manifest_problem,
        )

    def flush(self, timeout: float | None = None) -> None:
        """
        Return when everything recorded so far is acknowledged or put aside.

        :raises MeterBehind: when that takes longer than `timeout` seconds, or the key is refused.
        """
        goal = self.spool.end
        waited = 0.0
        started = time.monotonic()
        while self.spool.done < goal:
            if self._thread is None:
                wait = self.step() or 0.0
                if self._stuck() or (timeout is not None and waited + wait > timeout):
                    raise self._behind()
                waited += wait
                if wait:
                    self._pause(wait)
                continue
            with self._progress:
                if self.spool.done >= goal:
                    return
                waited = time.monotonic() - started
                if self._stuck() or (timeout is not None and waited >= timeout):
                    raise self._behind()
                self._progress.wait(1.0 if timeout is None else min(timeout - waited, 1.0))

    def _stuck(self) -> bool:
        return self._problem is not None and self._problem.status in _NEEDS_A_PERSON

    def _behind(self) -> MeterBehind:
        why = f": {self._problem}" if self._problem else ""
        return MeterBehind(f"{self.spool.waiting_events:,} events still wait, safe in {self.spool.folder}{why}")

    def close(self, timeout: float = 5.0) -> None:
        """Stop sending. What waits stays on the disk and is sent by the next meter with this spool."""
        self._stop.set()
        self._more.set()
        if self._thread is not None:
            self._thread.join(timeout)
        self.spool.close()
        self._transport.close()

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Sender(Protocol):
    """What sends a call, such as a client's transport."""

    def send(self, call: Call[T], /) -> T: ...


def resend_hour(sender: Sender, folder: Path, hour: datetime, signer: Signer | None = None) -> dict[str, int]:
    """
    Send all that a spool's folder keeps of an hour again, oldest first; another process may have the spool.

    :returns: how many of each result.
    """
    counts: dict[str, int] = {}
    for batch in _batches(event for _, event in kept_events(folder) if hour_of(event) == hour):
        for result in sender.send(_events_call(batch, signer)).results:
            counts[result.status] = counts.get(result.status, 0) + 1
    return counts


def _batches(events: Iterable[Any]) -> Iterable[list[Any]]:
    rest = iter(events)
    while batch := list(islice(rest, MAX_BATCH)):
        yield batch


def _events_call(events: list[Any], signer: Signer | None) -> Call[EventAnswer]:
    body = json.dumps(events, ensure_ascii=False, separators=(",", ":")).encode()
    headers = signer.headers(body) if signer is not None else {}
    return Call("POST", "/v1/events", EventAnswer, content=body, headers=headers, repeatable=True)


def _parse(lines: list[bytes]) -> tuple[list[tuple[bytes, Any]], list[_Refused]]:
    """The events of spooled lines, and the lines that the disk has damaged."""
    events: list[tuple[bytes, Any]] = []
    damaged: list[_Refused] = []
    for line in lines:
        try:
            events.append((line, json.loads(line)))
        except ValueError as error:
            damaged.append(_Refused(line, "damaged", f"the line in the spool is no longer JSON: {error}", None))
    return events, damaged
