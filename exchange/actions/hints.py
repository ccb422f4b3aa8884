"""
Tell a market's worker that something is due. A hint only makes it sooner: the sweep finds the rows each second anyway.

A market has one hint on its way at a time. Who takes it begins its work afterwards, so it finds what was committed
while the hint waited; and a market with a thousand orders a second does not push the others of its queue aside.
"""

import logging
from collections.abc import Iterable

from celery import current_app
from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

ON_ITS_WAY_SECONDS = 3  # a hint that a killed worker had taken but not begun is sent again after this


def queue_of(market_id: int) -> str:
    """Return the queue whose one process works a market."""
    return f"matching.{market_id % settings.MATCHING_WORKERS}"


def hint(market_ids: Iterable[int]) -> None:
    """Have the markets advanced once this transaction has committed."""
    for market_id in sorted(set(market_ids)):
        transaction.on_commit(lambda market_id=market_id: send(market_id), robust=True)  # type: ignore[misc]


def send(market_id: int) -> None:
    """Send the hint now, unless one is on its way. Without a broker it is logged and forgotten."""
    try:
        if not cache.add(_name(market_id), 1, ON_ITS_WAY_SECONDS):
            return
        current_app.send_task("exchange.tasks.advance_market", [market_id], queue=queue_of(market_id), expires=60)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("market %s was not hinted: %s", market_id, error)


def taken(market_id: int) -> None:
    """Note that a worker has the market's hint. It looks at the rows after this, or misses what comes meanwhile."""
    try:
        cache.delete(_name(market_id))
    except (RedisError, OSError) as error:
        log.warning("market %s may be hinted late: %s", market_id, error)


def _name(market_id: int) -> str:
    return f"hint:{market_id}"
