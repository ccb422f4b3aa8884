"""Show or move the product's clock (of a sandbox or a replayed day)."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from core import clock


class Command(BaseCommand):
    """Show the product's time; move it forwards, or change its speed."""

    help = "Show the product's time; with --to or --speed, move it forwards or change how fast it runs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--to", type=datetime.fromisoformat, help="a later time, such as 2026-11-21T00:00:00+08:00")
        parser.add_argument("--speed", type=float, help="product seconds per real second")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["to"] is not None or options["speed"] is not None:
            if settings.CLOCK_FILE is None:
                raise CommandError("This instance runs on real time: CIYUAN_CLOCK_FILE is not set.")
            if options["to"] is not None and options["to"].tzinfo is None:
                raise CommandError("Give --to with its offset from UTC, as in 2026-11-21T00:00:00+08:00.")
            try:
                clock.set_clock(settings.CLOCK_FILE, product=options["to"], speed=options["speed"])
            except clock.ClockMovedBack as error:
                raise CommandError(str(error)) from None
        self.stdout.write(clock.now().isoformat())
