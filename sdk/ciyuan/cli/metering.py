"""`ciyuan meter send | tail | status`: usage from log files to the exchange, by way of a spool on disk."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click
import httpx

from ciyuan.cli.base import Group, cli, fail, json_option, open_client, print_json
from ciyuan.lines import BadLine, event_of_line
from ciyuan.meter import Meter, resend_hour
from ciyuan.signing import Signer
from ciyuan.tail import BATCH_LINES, Tail


@cli.group("meter", cls=Group)
def meter() -> None:
    """
    Send usage events; CIYUAN_API_KEY holds the meter's key.

    Lines are NDJSON: CloudEvents, LiteLLM's log records, or plain objects such as
    {"id": "r-1", "subject": "42", "time": "2026-11-20T18:00:00+08:00", "input_tokens": 800, "output_tokens": 90}.
    """


_source_option = click.option("--source", required=True, metavar="NAME", help="The name of this meter's log.")
_spool_option = click.option(
    "--spool",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where events wait; by default under ~/.local/state.",
)
_key_option = click.option(
    "--signing-key",
    type=click.Path(path_type=Path),
    envvar="CIYUAN_SIGNING_KEY",
    metavar="FILE",
    help="Sign with this Ed25519 key (see keygen).",
)
_subject_option = click.option("--subject", metavar="TEXT", help="Contract or alias, for lines that name none.")


def _spool(folder: Path | None, source: str) -> Path:
    if folder is not None:
        return folder
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "ciyuan" / re.sub(r"[^A-Za-z0-9._-]", "_", source)


def _open_meter(source: str, spool: Path | None, signing_key: Path | None = None, **options: Any) -> Meter:
    shared = click.get_current_context().obj
    return Meter(
        source=source, spool=_spool(spool, source), url=shared["url"], timeout=shared["timeout"],
        signer=_signer(signing_key), **options,
    )  # fmt: skip


def _signer(path: Path | None) -> Signer | None:
    return None if path is None else Signer.read(path)


@meter.command("send")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE|-")
@_source_option
@_spool_option
@_subject_option
@_key_option
@click.option("--wait", type=click.FloatRange(0), default=300.0, show_default=True, help="Seconds to wait at the end.")
@json_option
def send(
    file: Path, source: str, spool: Path | None, subject: str | None, signing_key: Path | None, wait: float,
    as_json: bool,
) -> None:  # fmt: skip
    """
    Send the events of a file. Sending it again counts nothing twice.

    A line that is no event is named and does not stop the rest; then, and when the exchange refused some, the exit code
    is 1.
    """
    bad = 0
    with _lines_of(file) as lines, _open_meter(source, spool, signing_key) as sender:
        batch: list[dict[str, Any]] = []
        seen: dict[bytes, int] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            # Equal lines are told apart by their count, so that the same file always makes the same ids.
            repeat = seen[line] = seen.get(line, 0) + 1
            try:
                batch.append(event_of_line(line, place=str(repeat), subject=subject))
            except BadLine as error:
                bad += 1
                click.echo(f"line {number}: {error}", err=True)
            if len(batch) >= BATCH_LINES:
                sender.add_many(batch)
                batch.clear()
        sender.add_many(batch)
        sender.flush(timeout=wait)
        state = sender.state
    result = {"sent": state.sent_events, "rejected": state.rejected_events, "bad_lines": bad}
    if as_json:
        print_json(result)
    else:
        click.echo(f"{state.sent_events:,} events acknowledged")
    if state.rejected_events:
        fail(f"{state.rejected_events:,} events were refused; they are kept with the reasons in {sender.rejected_path}")
    if bad:
        fail(f"{bad:,} {'line is no event' if bad == 1 else 'lines are no events'}")


class _lines_of:
    """The lines of a file, or of stdin for `-`, as a context."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Iterator[bytes]:
        self._file: BinaryIO
        if str(self._path) == "-":
            self._file = sys.stdin.buffer
            return iter(self._file)
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            fail(f"{self._path}: {(error.strerror or str(error)).lower()}")
        return iter(self._file)

    def __exit__(self, *_: object) -> None:
        if str(self._path) != "-":
            self._file.close()


@meter.command("tail")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@_source_option
@_spool_option
@_subject_option
@_key_option
@click.option("--every", type=click.FloatRange(0.05), default=1.0, show_default=True, help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Stop at the end of the file, when everything is acknowledged.")
def tail(
    file: Path, source: str, spool: Path | None, subject: str | None, signing_key: Path | None, every: float,
    once: bool,
) -> None:  # fmt: skip
    """
    Follow a growing log file into the exchange, across rotations and restarts, until it is stopped.

    It goes on where it was, also after a kill -9, and counts no line twice.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def complain(place: str, reason: str) -> None:
        click.echo(f"{place}: {reason}", err=True)

    with _open_meter(source, spool, signing_key) as sender:
        follower = Tail(file, sender, subject=subject, complain=complain)
        reported = time.monotonic()
        try:
            while not stop.is_set():
                follower.read_available()
                if once:
                    sender.flush()
                    break
                if time.monotonic() - reported > 60:
                    reported = time.monotonic()
                    _report(sender)
                stop.wait(every)
        finally:
            follower.close()
        click.echo(_summary(sender))


def _report(sender: Meter) -> None:
    if sender.state.problem:
        click.echo(f"{_summary(sender)}: {sender.state.problem}", err=True)


def _summary(sender: Meter) -> str:
    state = sender.state
    sent, refused, waiting = state.sent_events, state.rejected_events, state.waiting_events
    return f"{sent:,} events acknowledged, {refused:,} refused, {waiting:,} waiting"


@meter.command("scrape")
@click.argument("address", metavar="URL|-")
@click.option("--every", type=click.FloatRange(1), metavar="SECONDS", help="Go on until stopped.")
@json_option
def scrape(address: str, every: float | None, as_json: bool) -> None:
    """
    Post the token counters of an engine's /metrics (vLLM, SGLang), with the key of the engine's meter.

    One scrape from URL or stdin; a minute apart is close enough, a restart of the engine is understood.
    """
    client = open_client()
    while True:
        try:
            text = sys.stdin.read() if address == "-" else httpx.get(address, timeout=10).raise_for_status().text
            answer = client.meters.read_counters(text)
        except httpx.HTTPError as error:
            if every is None:
                fail(f"{address}: {error}")
            click.echo(f"{address}: {error}", err=True)
        else:
            print_json(answer.raw) if as_json else click.echo(f"{answer['counters']} counters")
        if every is None or address == "-":
            return
        time.sleep(every)


@meter.command("keygen")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
def keygen(file: Path) -> None:
    """Make a signing key: the private half goes into FILE, the public half is printed for `public_key` of the meter."""
    signer = Signer.new()
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        fail(f"{file}: {(error.strerror or str(error)).lower()}")
    with os.fdopen(handle, "w", encoding="ascii") as written:
        written.write(signer.private_hex + "\n")
    click.echo(signer.public_hex)


@meter.command("gaps")
@click.option("--meter", "meter_id", type=int, metavar="ID", help="Of one meter only.")
@click.option("--closed", is_flag=True, help="Those that were filled, too.")
@json_option
def gaps(meter_id: int | None, closed: bool, as_json: bool) -> None:
    """Show what meters recorded and the exchange has not: hour, class and how much (with a member's key)."""
    rows = list(open_client().manifests.gaps(meter=meter_id, closed=closed))
    if as_json:
        print_json([row.raw for row in rows])
        return
    for row in rows:
        state = f"{row.missing:,} of {row.expected:,} missing" if row.closed_at is None else "all there"
        aside = f" ({row.set_aside:,} events of the hour were rejected and wait)" if row.set_aside else ""
        click.echo(f"meter {row.meter}  {row.source}  {row.hour:%Y-%m-%dT%H}Z  {row.token_class}: {state}{aside}")
    click.echo(f"{len(rows):,} gaps", err=True)


@meter.command("resend")
@_source_option
@_spool_option
@_key_option
@click.option(
    "--hour", required=True, type=click.DateTime(["%Y-%m-%dT%H", "%Y-%m-%dT%H:00:00Z"]), metavar="YYYY-MM-DDTHH",
    help="In UTC; once or more often.", multiple=True,
)  # fmt: skip
@json_option
def resend(
    source: str, spool: Path | None, signing_key: Path | None, hour: tuple[datetime, ...], as_json: bool
) -> None:
    """
    Send all that a spool keeps of an hour again. What has arrived already counts nothing.

    The meter that owns the spool may go on meanwhile.
    """
    folder, signer, transport = _spool(spool, source), _signer(signing_key), open_client().transport
    if not folder.is_dir():
        fail(f"{folder}: there is no spool")
    counts: dict[str, int] = {}
    for each in hour:
        for status, count in resend_hour(transport, folder, each.replace(tzinfo=UTC), signer).items():
            counts[status] = counts.get(status, 0) + count
    if as_json:
        print_json(counts)
    else:
        told = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
        click.echo(told or "the spool keeps nothing of that hour")


@meter.command("rejected")
@_source_option
@_spool_option
@json_option
def rejected(source: str, spool: Path | None, as_json: bool) -> None:
    """Show the events that the exchange refused, with the reasons."""
    path = _spool(spool, source) / "rejected.ndjson"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        rows = []
    if as_json:
        print_json(rows)
        return
    for row in rows:
        named = (row.get("event") or {}).get("id", "?")
        click.echo(f"{row['rejected_at']}  {named}  {row['code']}: {row['detail']}")
    click.echo(f"{len(rows):,} events refused", err=True)
