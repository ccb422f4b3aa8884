"""
The least that acting on a message can cost here: an empty Celery task and back, then one row committed.

    python -m celery -A benchmarks.baselines.empty_task worker -P solo -Q empty
"""

import time

import psycopg
from celery import Celery

from config.settings import REDIS_URL, broker_url

app = Celery("empty", broker=broker_url(REDIS_URL, 9), backend=broker_url(REDIS_URL, 9))
app.conf.update(task_default_queue="empty", worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)


@app.task(name="empty")
def empty() -> None:
    """Do nothing."""


def round_trips(database_url: str, count: int) -> list[float]:
    """Return the seconds that each of so many round trips with their commits took, one after the other."""
    taken = []
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE one_row (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz)")
        connection.commit()
        for _ in range(count):
            started = time.perf_counter()
            empty.delay().get(timeout=30, interval=0.0005)
            connection.execute("INSERT INTO one_row (at) VALUES (now())")
            connection.commit()
            taken.append(time.perf_counter() - started)
    return taken
