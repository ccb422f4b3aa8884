"""`manage.py load_catalogue`: the accelerators, model cards and default grades that come with the product."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core import clock
from core.errors import Problem
from core.transactions import durable
from providers.actions.load import load_catalogue


class Command(BaseCommand):
    help = "Load accelerators, model cards and default grades. Repeating it changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--accelerators", type=Path, help="another file in the form of accelerators.json")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            loaded = durable(lambda: load_catalogue(now=clock.now(), accelerators_file=options["accelerators"]))
        except Problem as problem:
            raise CommandError(problem.detail) from None
        self.stdout.write(
            f"catalogue: {loaded.accelerators} accelerators, {loaded.model_cards} model cards and "
            f"{loaded.grades} grades stored or changed"
        )
