"""
Copies an organization's documents into a folder, again and again: what is there is left alone, what is new is added.

    FOLDER/invoices/INV2026-000029-zh.pdf  .csv  .json  …     each document once, by its number
    FOLDER/statements/…                                       settlement statements of a provider
    FOLDER/months/2026-10-focus.csv                           cost and usage by FOCUS 1.2, once the month is over
    FOLDER/months/2026-10-reconciliation-zh.pdf  .csv

A file is whole or not there: it is written beside its place and then moved to it. Documents never change once they are
issued; of the last two months that are over, the months' files are read again, as money may be booked late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ciyuan.client import Client

DocumentFormat = Literal["pdf", "csv", "json", "xlsx", "parquet", "xml"]
FORMATS: tuple[DocumentFormat, ...] = ("pdf", "csv", "json", "xlsx", "parquet", "xml")
SHANGHAI = timezone(timedelta(hours=8))
MONTHS_READ_AGAIN = 2


@dataclass(frozen=True)
class Export:
    """
    :param folder: made where it is missing. :param formats: of each document; `xml` (UBL) is of invoices alone.
    :param since: the first month (any day of it); documents issued before it are left out.
    """

    client: Client
    folder: Path
    formats: Sequence[DocumentFormat] = ("pdf", "csv")
    language: Literal["zh", "en"] = "zh"
    since: date = date(2020, 1, 1)

    def run(self, now: datetime) -> Iterator[Path]:
        """
        Write what is missing, and yield each file that was written.

        :raises CiyuanError: the exchange is away or refuses; what was written stays. :raises OSError: the disk does.
        """
        first = datetime(self.since.year, self.since.month, 1, tzinfo=SHANGHAI)
        documents = 0
        for kind in ("invoices", "statements"):
            resource = getattr(self.client, kind)
            for document in resource.list():
                if document.issued_at < first:
                    break  # the newest come first
                documents += 1
                for format in self.formats:
                    if format != "xml" or kind == "invoices":
                        yield from self._document(resource, kind, document, format)
        if documents:
            for number, month in enumerate(_months_over(now, self.since)):
                yield from self._month(month, again=number < MONTHS_READ_AGAIN)

    def _document(self, resource: Any, kind: str, document: Any, format: DocumentFormat) -> Iterator[Path]:
        name = f"{document.number}-{self.language}" if format == "pdf" else document.number
        path = self.folder / kind / f"{name}.{format}"
        if path.exists():
            return
        if format == "pdf":
            content = resource.pdf(document.id, language=self.language)
        elif format == "csv":
            content = resource.csv(document.id)
        else:
            content = resource.file(document.id, format=format)
        yield _write(path, content)

    def _month(self, month: date, *, again: bool) -> Iterator[Path]:
        name = f"{month:%Y-%m}"
        after = (month + timedelta(days=31)).replace(day=1)
        of_month: tuple[tuple[str, Callable[[], bytes]], ...] = (
            ("focus.csv", lambda: self.client.exports.focus(first=month, last=after - timedelta(days=1))),
            ("reconciliation.csv", lambda: self.client.finance.statement_csv(month=name)),
            (f"reconciliation-{self.language}.pdf",
             lambda: self.client.finance.statement_pdf(month=name, language=self.language)),
        )  # fmt: skip
        for what, fetch in of_month:
            path = self.folder / "months" / f"{name}-{what}"
            there = path.read_bytes() if path.exists() else None
            if there is None or again:
                content = fetch()
                if content != there:
                    yield _write(path, content)


def _months_over(now: datetime, since: date) -> Iterator[date]:
    """The months (Shanghai) that are over, the latest first, back to that of `since` or three years."""
    month = now.astimezone(SHANGHAI).date().replace(day=1)
    for _ in range(36):
        month = (month - timedelta(days=1)).replace(day=1)
        if month < since.replace(day=1):
            return
        yield month


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(content)
    beside.replace(path)
    return path
