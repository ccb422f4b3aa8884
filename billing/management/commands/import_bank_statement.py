"""`manage.py import_bank_statement FILE`: store a bank statement's lines and book them."""

from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import payout_queries
from billing.actions.banking import book_line, import_statement
from core import clock
from core.errors import Problem
from core.transactions import durable


class Command(BaseCommand):
    """The same file again changes nothing."""

    help = "Import a bank statement (CSV) and book its lines."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            content = path.read_bytes()
            row = durable(partial(import_statement, content=content, name=path.name[:120], now=clock.now()))
        except (Problem, OSError) as error:
            raise CommandError(str(error)) from None
        booked = [durable(partial(book_line, line_id=id_, now=clock.now())) for id_ in payout_queries.lines_to_book()]
        for entry in row.rejected:
            self.stderr.write(f"line {entry['number']}: {entry['detail']}")
        waiting = sum(one.state in ("suspense", "unexplained") for one in booked)
        self.stdout.write(
            f"{path.name}: {row.lines_added} lines added, {row.lines_repeated} repeated, {len(row.rejected)} rejected;"
            f" {len(booked)} booked, {waiting} of them on the work list"
        )
