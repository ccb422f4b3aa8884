"""
The tables of pages: sorted by a column, narrowed by filters, exported as CSV, all by the address of the page.

A page names its columns once (`Table`); `Listing` reads `?sort=-total&state=open&since=2026-11-01&format=csv`. Only
named columns sort and only named values filter; anything else is not found. Rows that are equal keep the order of their
key, so that a page after a page repeats and leaves out nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from core.csv_files import csv_response
from core.periods import SHANGHAI, day_of

Text = str | Promise
PER_PAGE = 50
MOST_EXPORTED = 50_000


@dataclass(frozen=True, slots=True)
class Column:
    """
    A column: its heading, what it exports of a shown row, and by which field the database sorts it ("": it does not).

    Without a heading it stands in the exported file alone.
    """

    label: Text
    cell: Callable[[Any], Any]
    sort: str = ""
    left: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """
    A choice above the table: the values that the address may name, each with its name and condition.

    One with a `default` always has a value: it says what is shown rather than what is left out.
    """

    label: Text
    choices: Sequence[tuple[str, Text]]
    condition: Callable[[str], Q]
    default: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: columns and filters by name; `time` is the field by which a span of days narrows it ("": none)."""

    name: str
    columns: dict[str, Column]
    filters: dict[str, Filter] = field(default_factory=dict)
    time: str = ""
    default: tuple[Any, ...] = ("-pk",)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading as it is drawn; `href` sorts by it, `order` is how it is sorted now."""

    label: Text
    left: bool
    href: str
    order: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A filter as it is drawn."""

    name: str
    label: Text
    value: str
    choices: Sequence[tuple[str, Text]]
    optional: bool


class Listing:
    """One reading of a table: what the address of the page asks for."""

    def __init__(self, request: HttpRequest, table: Table) -> None:
        """:raises Http404: a column, filter value or day that the table does not know."""
        self.request, self.table = request, table
        asked = request.GET
        self.number = asked.get("page")
        self.wants_csv = asked.get("format") == "csv"
        self.sort = asked.get("sort", "")
        column = table.columns.get(self.sort.removeprefix("-"))
        if self.sort and (column is None or not column.sort):
            raise Http404
        given = {name: asked.get(name) or one.default for name, one in table.filters.items()}
        self.chosen = {name: value for name, value in given.items() if value}
        for name, value in self.chosen.items():
            if value not in dict(table.filters[name].choices):
                raise Http404
        self.since, self.until = (_day(asked.get(name, "")) if table.time else None for name in ("since", "until"))

    # what the template draws ----------------------------------------------------------------------------------------

    @property
    def headings(self) -> list[Heading]:
        """The heads of the columns, with the address that sorts by each: upwards, then downwards."""
        return [self._heading(name, column) for name, column in self.table.columns.items() if column.label]

    def _heading(self, name: str, column: Column) -> Heading:
        order = "ascending" if self.sort == name else "descending" if self.sort == f"-{name}" else ""
        target = name if order == "descending" else f"-{name}"
        return Heading(column.label, column.left, f"?{self._query(sort=target)}" if column.sort else "", order)

    @property
    def choices(self) -> list[Choice]:
        """The filters with what is chosen of each."""
        found = self.table.filters.items()
        return [Choice(name, one.label, self.chosen.get(name, ""), one.choices, not one.default) for name, one in found]

    @property
    def narrowed(self) -> bool:
        """Whether any filter is set: then an empty table says so."""
        chosen = [name for name in self.chosen if not self.table.filters[name].default]
        return bool(chosen or self.since or self.until)

    @property
    def query(self) -> str:
        """The address's query without the page, for the links to other pages."""
        return self._query()

    @property
    def export_href(self) -> str:
        """The address of the same rows as CSV."""
        return f"?{self._query(format='csv')}"

    def _query(self, **more: str) -> str:
        days = {"since": self.since, "until": self.until}
        asked = {"sort": self.sort, **self.chosen, **days, **more}
        return urlencode({name: str(value) for name, value in asked.items() if value})

    # what the view reads ---------------------------------------------------------------------------------------------

    def rows(self, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        """Return the rows as asked for: narrowed and in order."""
        for name, value in self.chosen.items():
            rows = rows.filter(self.table.filters[name].condition(value))
        if self.since:
            rows = rows.filter(**{f"{self.table.time}__gte": _midnight(self.since)})
        if self.until:
            rows = rows.filter(**{f"{self.table.time}__lt": _midnight(self.until + timedelta(days=1))})
        if not self.sort:
            return rows.order_by(*self.table.default)
        down = "-" if self.sort.startswith("-") else ""
        return rows.order_by(f"{down}{self.table.columns[self.sort.removeprefix('-')].sort}", f"{down}pk")

    def ordered(self, rows: list[Any]) -> list[Any]:
        """Return computed rows in the order asked for: a column's `sort` is then the path of an attribute."""
        if not self.sort:
            return rows
        path = self.table.columns[self.sort.removeprefix("-")].sort

        def value(row: Any) -> tuple[bool, Any]:
            name, _dot, place = path.partition(".")
            found = getattr(row, name)
            found = found[int(place)] if place else found
            return found is not None, found if found is not None else 0

        return sorted(rows, key=value, reverse=self.sort.startswith("-"))

    def page(self, rows: "QuerySet[Any]") -> "Page[Any]":
        """Return the page of the rows that is asked for."""
        return Paginator(self.rows(rows), PER_PAGE).get_page(self.number)

    def csv(self, rows: "QuerySet[Any]", shown: Callable[[Sequence[Any]], Iterable[Any]] = iter) -> HttpResponse:
        """
        Return the rows as asked for as a CSV file; of more than 50,000 nothing, but the way back to the page, which
        says so.

        :param shown: rows of the database → rows that the columns' cells know.
        """
        found = list(self.rows(rows)[: MOST_EXPORTED + 1])
        if len(found) > MOST_EXPORTED:
            messages.error(self.request, _("More than 50,000 rows: choose a shorter span of days, or use the API."))
            return HttpResponseRedirect(f"{self.request.path}?{self.query}")
        return self.csv_of(shown(found))

    def csv_of(self, shown: Iterable[Any]) -> HttpResponse:
        """Return shown rows as a CSV file."""
        cells = ({name: column.cell(row) for name, column in self.table.columns.items()} for row in shown)
        return csv_response(list(self.table.columns), cells, name=self.table.name)


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return day_of(text)
    except ValueError:
        raise Http404 from None


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=SHANGHAI)
