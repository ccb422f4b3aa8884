"""`manage.py audit`: recompute every invariant of every app, and say what differs."""

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection, transaction

from core.audit import Check

MOST_SHOWN = 50


def all_checks() -> list[tuple[str, Check]]:
    """Return every check with the app it belongs to."""
    found = []
    for app in settings.INSTALLED_APPS:
        if app.partition(".")[0] in ("core", "identity", "providers", "billing", "exchange", "metering_ingest"):
            name = f"{app.partition('.')[0]}.audit"
            if name != "core.audit" and importlib.util.find_spec(name) is not None:
                found += [(app, check) for check in getattr(importlib.import_module(name), "CHECKS", [])]
    return found


@contextmanager
def one_moment() -> Iterator[None]:
    """Let all checks read the database as it was at one moment, while the exchange goes on."""
    nested = connection.in_atomic_block
    with transaction.atomic():
        if not nested:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


class Command(BaseCommand):
    """Exit status 1 when anything differs; `audit: clean` when nothing does."""

    help = "Recompute every invariant from the facts and print the differences."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--verbose", action="store_true", help="Name each check as it is made.")

    def handle(self, *args: Any, **options: Any) -> None:
        with one_moment():
            differences = self._differences(verbose=options["verbose"])
        if differences:
            self.stderr.write(f"audit: {differences} differences")
            raise SystemExit(1)
        self.stdout.write("audit: clean")

    def _differences(self, *, verbose: bool) -> int:
        differences = 0
        for app, (name, check) in all_checks():
            found = 0
            for finding in check():
                found += 1
                if found <= MOST_SHOWN:
                    self.stdout.write(str(finding))
            if found > MOST_SHOWN:
                self.stdout.write(f"… and {found - MOST_SHOWN} more")
            if verbose:
                self.stdout.write(f"{app}: {name}: {found or 'clean'}")
            differences += found
        return differences
