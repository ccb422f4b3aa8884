"""
Usage events into chDB, an embedded ClickHouse: a MergeTree in a folder of its own, rows in its own JSON format. It
neither waits for the disk nor finds duplicates. Run in the peers' environment; told by lines on its standard input.

    load N       the next N lines are rows; answered "loaded"
    insert       put them into the table, as one INSERT; answered "inserted"
"""

import sys
import tempfile

from chdb import session  # type: ignore[import-not-found, unused-ignore]

CREATE = """
    CREATE TABLE usage.event (time DateTime64(3), meter UInt64, source LowCardinality(String), id String,
        subject String, input UInt32, cached UInt32, output UInt32) ENGINE = MergeTree ORDER BY (time, id)
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ciyuan-chdb-") as folder:
        database = session.Session(folder)
        database.query("CREATE DATABASE usage")
        database.query(CREATE)
        print("ready", flush=True)
        rows = ""
        for line in sys.stdin:
            word, _, count = line.strip().partition(" ")
            if word == "load":
                rows = "".join(sys.stdin.readline() for _ in range(int(count)))
                print("loaded", flush=True)
            else:
                database.query(f"INSERT INTO usage.event FORMAT JSONEachRow {rows}")
                print("inserted", flush=True)
        found = str(database.query("SELECT count() FROM usage.event")).strip()
        print(found, flush=True)


if __name__ == "__main__":
    main()
