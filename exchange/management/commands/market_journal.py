"""
`manage.py market_journal export MARKET [--csv] [--output FILE]` and `manage.py market_journal import FILE`.

Export writes a market's journal as 32-byte records (`exchange.domain.journal_records`) or as CSV. Import reads either
form, plays it into an empty book and prints one JSON line with the state hash. Where the market is in this database,
its own journal is compared entry by entry, and a difference ends the command with status 1.
"""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from exchange.actions.journals import export_journal, read_journal, rebuild
from exchange.domain.journal_records import BadJournal
from exchange.models import Market


class Command(BaseCommand):
    """Write a journal to a file, or read one."""

    help = "Export a market's journal as 32-byte records or CSV; read such a file and compare."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take one of the two directions."""
        parts = parser.add_subparsers(dest="direction", required=True)
        out = parts.add_parser("export", help="write a market's journal")
        out.add_argument("market", type=int)
        out.add_argument("--csv", action="store_true", help="as CSV instead of 32-byte records")
        out.add_argument("--output", default="-", metavar="FILE", help="- (the default) is standard output")
        into = parts.add_parser("import", help="read a journal, rebuild its book, compare with the market")
        into.add_argument("file", metavar="FILE")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do the one or the other."""
        if options["direction"] == "export":
            self._export(options["market"], csv=options["csv"], output=options["output"])
        else:
            self._import(Path(options["file"]))

    def _export(self, market_id: int, *, csv: bool, output: str) -> None:
        with transaction.atomic():
            market = Market.objects.filter(pk=market_id).first()
            if market is None:
                raise CommandError(f"There is no market {market_id}.")
            exported = export_journal(market)
        content = exported.csv().encode() if csv else exported.records()
        if output == "-":
            sys.stdout.buffer.write(content)
            return
        Path(output).write_bytes(content)
        line = {
            "market": market_id,
            "entries": exported.entries,
            "commands": len(exported.commands),
            "bytes": len(content),
            "state_hash": exported.state_hash,
        }
        self.stdout.write(json.dumps(line))

    def _import(self, path: Path) -> None:
        try:
            header, commands = read_journal(path.read_bytes())
            rebuilt = rebuild(header, commands)
        except OSError as error:
            raise CommandError(f"The file cannot be read: {error.strerror or error}.") from None
        except BadJournal as error:
            raise CommandError(str(error)) from None
        with transaction.atomic():
            market = Market.objects.filter(pk=int(header.market)).first() if header.market.isdigit() else None
            own = None if market is None else export_journal(market)
        same = None
        if own is not None:
            same = list(own.commands) == commands and own.header == header and own.state_hash == rebuilt.state_hash
        line = {
            "market": header.market,
            "commands": rebuilt.commands,
            "open_orders": rebuilt.open_orders,
            "state_hash": rebuilt.state_hash,
            "events_digest": rebuilt.events_digest,
            "same_as_market": same,
        }
        self.stdout.write(json.dumps(line))
        if same is False:
            raise CommandError(f"The file is not the journal of market {header.market} in this database.", returncode=1)
