"""
`manage.py control ACTION ID --reason TEXT`: the operator's controls without a browser.

    control halt MARKET       orders are refused and nothing trades until it resumes
    control resume MARKET
    control kill MARKET       halt, and cancel every open order
    control stop ORGANIZATION [--market MARKET]     cancel its open orders and refuse new ones
    control allow ORGANIZATION [--market MARKET]
"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core import clock
from core.errors import Problem
from core.transactions import durable
from exchange.actions import controls

OF_MARKETS = {"halt": controls.halt_market, "resume": controls.resume_market, "kill": controls.kill_market}


class Command(BaseCommand):
    """Call one action and say what it did."""

    help = "Halt, resume or kill a market; stop or allow an organization's trading."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the action, whom it is about, and why."""
        parser.add_argument("action", choices=[*OF_MARKETS, "stop", "allow"])
        parser.add_argument("id", type=int, help="a market's id; of an organization for stop and allow")
        parser.add_argument("--market", type=int, help="stop or allow in this market alone")
        parser.add_argument("--reason", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it in one transaction."""
        action, subject, reason = options["action"], options["id"], options["reason"]
        if action in OF_MARKETS and options["market"] is not None:
            raise CommandError(f"{action} takes a market's id alone, without --market.")
        try:
            self.stdout.write(durable(lambda: self._act(action, subject, options["market"], reason)))
        except Problem as problem:
            raise CommandError(problem.detail) from None

    def _act(self, action: str, subject: int, market_id: int | None, reason: str) -> str:
        now = clock.now()
        if action in OF_MARKETS:
            market = OF_MARKETS[action](market_id=subject, reason=reason, now=now)
            return f"market {subject}: {'halted' if market.halted else 'trading'}"
        act = controls.stop_trading if action == "stop" else controls.allow_trading
        act(organization_id=subject, market_id=market_id, reason=reason, now=now)
        where = "all markets" if market_id is None else f"market {market_id}"
        return f"organization {subject}: {'stopped' if action == 'stop' else 'allowed'} in {where}"
