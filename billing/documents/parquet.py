"""Tables as Parquet files, by DuckDB: text in, typed columns out; the same rows give the same bytes."""

import csv
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb


def write_parquet(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, types: Mapping[str, str]) -> bytes:
    """
    Return rows as a Parquet file, compressed with zstd.

    Cells are text, as in CSV; an empty one is null. `types` names DuckDB types of columns that are not text. Rows go
    through a file, so that memory does not grow with them.
    """
    with tempfile.TemporaryDirectory(prefix="ciyuan-parquet-") as folder:
        source, target = Path(folder, "rows.csv"), Path(folder, "rows.parquet")
        with source.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
        named = ", ".join(f"'{name}': '{types.get(name, 'VARCHAR')}'" for name in columns)
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.execute(
                f"COPY (FROM read_csv('{source}', header = true, columns = {{{named}}}, nullstr = '', quote = '\"',"
                f" escape = '\"', parallel = false)) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
            )
        return target.read_bytes()
