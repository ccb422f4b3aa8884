"""Periodic tasks of the exchange."""

BEAT = {
    "sweep": {"task": "exchange.tasks.sweep", "schedule": 1.0},
    "schedule-markets": {"task": "exchange.tasks.schedule_markets", "schedule": 20.0},
}
