"""
Tell a market's worker that something is due. A hint only makes it sooner: the sweep finds the rows each second anyway.
"""

import logging
from collections.abc import Iterable

from celery import current_app
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)


def queue_of(market_id: int) -> str:
    """Return the queue whose one process works a market."""
    return f"matching.{market_id % settings.MATCHING_WORKERS}"


def hint(market_ids: Iterable[int]) -> None:
    """Have the markets advanced once this transaction has committed."""
    for market_id in sorted(set(market_ids)):
        transaction.on_commit(lambda market_id=market_id: send(market_id), robust=True)  # type: ignore[misc]


def send(market_id: int) -> None:
    """Send the hint now. Without a broker it is logged and forgotten."""
    try:
        current_app.send_task("exchange.tasks.advance_market", [market_id], queue=queue_of(market_id), expires=60)
    except (OperationalError, OSError) as error:
        log.warning("market %s was not hinted: %s", market_id, error)
