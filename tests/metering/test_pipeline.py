"""The pure pipeline: whatever comes in, each event is stored or refused with a reason, its neighbours untouched."""

import struct
from typing import Any

import msgspec
import pytest
from ciyuan.standard_token import REFERENCE_7B, work
from hypothesis import given, settings
from hypothesis import strategies as st

from metering_ingest.dialects import clouds, litellm, otlp
from metering_ingest.domain.classes import CODES
from metering_ingest.domain.events import Decoded, MalformedBody, decode
from metering_ingest.domain.pipeline import Prepared, prepare
from metering_ingest.domain.rows import copy_rows, rollup
from tests.metering.conftest import FACTS, NOW, Book, event

NOW_MS = int(NOW.timestamp() * 1_000)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
members = st.sampled_from(
    ["id", "source", "subject", "time", "data", "type", "specversion", "event", "events", "properties", "resourceSpans"]
)
events = st.dictionaries(members, values, max_size=6) | st.builds(
    lambda id_, changes: event(id_) | changes, st.text(max_size=5), st.dictionaries(members, values, max_size=2)
)


def stored(decoded: Decoded) -> int:
    """Prepare what was decoded; each event is a row, a repeat or refused. Return the number of rows."""
    events_ = [e if e is None or e.time is not None else msgspec.structs.replace(e, time=NOW) for e in decoded.events]
    batch = prepare(events_, meter=FACTS, route_book=Book(), now_ms=NOW_MS)
    refused = {r.index for r in (*decoded.rejections, *batch.rejections)}
    voids = {i for i, e in enumerate(events_) if e is not None and e.type == "ciyuan.usage.void"}
    places = [*batch.index, *(place for place, _ in batch.repeats), *refused, *(voids - refused)]
    assert sorted(places) == list(range(len(events_)))
    b"".join(copy_rows(batch, received_us=0))
    assert sum(row[5] for row in rollup(batch) if row[4] == CODES["requests"]) == int(batch.requests.sum())
    return len(batch)


@settings(max_examples=60, deadline=None)
@given(st.lists(events, max_size=6))
@pytest.mark.parametrize("read", [decode, clouds.decode, litellm.decode, otlp.decode_json])
def test_any_json_is_stored_or_refused_with_a_reason(read: Any, sent: list[Any]) -> None:
    body = msgspec.json.encode([*sent, event("neighbour")])
    try:
        decoded = read(body)
    except MalformedBody:
        assert read is not decode
        return
    rows = stored(decoded)
    assert rows >= 1 or read is not decode or any(e.get("id") == "neighbour" for e in sent)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
@pytest.mark.parametrize("read", [decode, clouds.decode, litellm.decode, otlp.decode_json, otlp.decode_protobuf])
def test_any_bytes_are_read_or_named_malformed(read: Any, body: bytes) -> None:
    try:
        stored(read(body))
    except MalformedBody as error:
        assert error.code and error.detail


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 1_000), st.integers(0, 10**6)), min_size=1, max_size=20)
)
def test_work_is_the_published_formula(counts: list[tuple[int, int, int]]) -> None:
    sent = [
        event(f"e-{n}", input_tokens=i, cached_input_tokens=i * share // 1_000, output_tokens=o)
        for n, (i, share, o) in enumerate(counts)
    ]
    batch = prepare(decode(msgspec.json.encode(sent)).events, meter=FACTS, route_book=Book(), now_ms=NOW_MS)
    found = {batch.index[row]: tuple(int(column[row]) for column in batch.work) for row in range(len(batch))}
    expected = {n: tuple(work(REFERENCE_7B, i, i * share // 1_000, o)) for n, (i, share, o) in enumerate(counts)}
    assert found == expected


names = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=4)


def naive_rows(batch: Prepared, rows: list[int]) -> bytes:
    """What COPY wants of these rows, field by field."""
    keys, written = batch.key_bytes(), b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for row in rows:
        longs = [1, batch.contract_id[row], 7, -946_684_800_000_000, *(column[row] for column in batch.work)]
        counts = [column[row] for column in (batch.requests, batch.fresh, batch.cached, batch.visible, batch.reasoning)]
        details = batch.details[row]
        fields = [
            keys[row], *(struct.pack(">q", int(n)) for n in longs), *(struct.pack(">i", int(n)) for n in counts),
            struct.pack(">h", int(batch.band[row])), batch.source[row].encode(), batch.id[row],
            batch.subject[row].encode(), None if details is None else b"\x01" + details,
        ]  # fmt: skip
        written += struct.pack(">h", len(fields))
        for one in fields:
            written += b"\xff\xff\xff\xff" if one is None else struct.pack(">i", len(one)) + one
    return written + b"\xff\xff"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(names, names, st.integers(1, 12), st.sampled_from([None, "200"])), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_rows_are_written_alike_whatever_the_length_of_their_texts(sent: list[Any], dice: Any) -> None:
    """Columns of one length go as arrays, others row by row; the bytes are those of a plain writer."""
    made = [event(id_, source=source, subject=f"buyer-{n}", status=status) for id_, source, n, status in sent]
    batch = prepare(decode(msgspec.json.encode(made)).events, meter=FACTS, route_book=Book(), now_ms=NOW_MS)
    everything = list(range(len(batch)))
    assert b"".join(copy_rows(batch, received_us=0)) == naive_rows(batch, everything)
    some = [row for row in everything if dice.random() < 0.5]
    if some:
        assert b"".join(copy_rows(batch, received_us=0, only=some)) == naive_rows(batch, some)
