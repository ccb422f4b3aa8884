"""Usage rows as a Parquet file."""

import csv
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

TYPES = {
    "hour": "TIMESTAMPTZ", "day": "TIMESTAMPTZ", "month": "TIMESTAMPTZ", "contract": "BIGINT", "deployment": "BIGINT",
    "meter": "BIGINT", "organization": "BIGINT", "buyer": "BIGINT", "provider": "BIGINT", "grade": "BIGINT",
    "length_band": "SMALLINT", "quantity": "BIGINT", "standard_tokens": "DECIMAL(38,6)", "events": "BIGINT",
    "cost": "DECIMAL(38,6)", "price": "DECIMAL(38,9)", "price_per_million": "DECIMAL(38,3)", "estimate": "BOOLEAN",
    "accelerator_hours": "BIGINT", "standard_tokens_per_accelerator_hour": "BIGINT",
}  # fmt: skip
SUMS = [
    "quantity", "standard_tokens", "events", "cost", "price", "price_per_million", "estimate", "accelerator_hours",
    "standard_tokens_per_accelerator_hour",
]  # fmt: skip


def usage_parquet(group_by: Sequence[str], items: Sequence[dict[str, Any]]) -> bytes:
    """Return the rows as one Parquet file: dimensions in their order, then the sums; times in UTC."""
    names = [*group_by, *SUMS]
    columns = {name: TYPES.get(name, "VARCHAR") for name in names}
    with tempfile.TemporaryDirectory() as folder:
        rows, file = Path(folder, "rows.csv"), Path(folder, "usage.parquet")
        with rows.open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out, quoting=csv.QUOTE_NOTNULL if hasattr(csv, "QUOTE_NOTNULL") else csv.QUOTE_MINIMAL)
            for item in items:
                writer.writerow([_text(item.get(name)) for name in names])
        with duckdb.connect() as database:
            database.execute("SET TimeZone = 'UTC'")
            relation = database.read_csv(
                str(rows),
                header=False,
                columns=columns,
                delimiter=",",
                quotechar='"',
                na_values=[""],
            )
            relation.write_parquet(str(file), compression="zstd")
        return file.read_bytes()


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
