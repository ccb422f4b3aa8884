"""
Which events of a batch stand already, in the table or in the archive, and whether they stand there with the same
content. Asked only when a batch holds something that was sent before.
"""

from typing import Any

import msgspec
import psycopg

from metering_ingest.actions.copying import NAMES, copying
from metering_ingest.archived import CONTENT
from metering_ingest.domain.pipeline import Prepared
from metering_ingest.domain.rows import copy_rows

Connection = psycopg.Connection[Any]

# Looked up by key whatever the planner believes of a partition that was made a moment ago.
_BY_KEY = "SET LOCAL enable_seqscan = off"
_STORED = """
    SELECT uuid_send(event_key), subject, requests, input_tokens, cached_tokens, output_tokens, reasoning_tokens,
        details::text
    FROM {table} WHERE meter_id = %s AND event_key = ANY(%s::uuid[])
"""
_MAKE_STAGE = f"""
    CREATE TEMP TABLE IF NOT EXISTS usage_stage ON COMMIT DELETE ROWS AS SELECT {NAMES} FROM usage_event WITH NO DATA;
    DELETE FROM usage_stage
"""


def same_as_stored(connection: Connection, table: str, batch: Prepared, rows: list[int]) -> dict[int, bool]:
    """Return which of these rows of the batch stand in the table, and whether with the same content."""
    keys = batch.key_bytes()
    connection.execute(_BY_KEY, prepare=False)
    # As text: adapting thousands of UUIDs one by one costs more than the look-up.
    wanted = f"{{{','.join([keys[row].hex() for row in rows])}}}"
    found = psycopg.Cursor(connection).execute(
        _STORED.format(table=table).encode(), [batch.meter.meter_id, wanted], binary=True
    )
    stored = {row[0]: row[1:] for row in found.fetchall()}
    if not stored:
        return {}
    counts = (batch.requests, batch.fresh, batch.cached, batch.visible, batch.reasoning)
    sent = list(zip(batch.subject, *(column.tolist() for column in counts), batch.details, strict=True))
    return {
        row: there == sent[row] or (there[:-1] == sent[row][:-1] and _same_details(there[-1], sent[row][-1]))
        for row in rows
        if (there := stored.get(keys[row])) is not None
    }


def _same_details(stored: str | None, sent: bytes | None) -> bool:
    if stored is None or sent is None:
        return stored is None and sent is None
    return bool(msgspec.json.decode(stored) == msgspec.json.decode(sent))


def same_as_archived(connection: Connection, batch: Prepared, archived: dict[bytes, bytes]) -> dict[int, bool]:
    """
    Return which rows of the batch are archived, and whether with the same content.

    :param archived: their content digests, by key. The database digests what was sent, as it did what it archived.
    """
    rows = [row for row, key in enumerate(batch.key_bytes()) if key in archived]
    connection.execute(_MAKE_STAGE, prepare=False)
    with copying(connection, "usage_stage") as write:
        for chunk in copy_rows(batch, received_us=0, only=rows):
            write(chunk)
    sent = connection.execute(f"SELECT event_key, {CONTENT} FROM usage_stage ORDER BY event_key").fetchall()
    return {row: archived[key.bytes] == bytes(content) for row, (key, content) in zip(rows, sent, strict=True)}
