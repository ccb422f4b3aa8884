"""Periodic tasks of the exchange."""

BEAT = {
    "sweep": {"task": "exchange.tasks.sweep", "schedule": 1.0},
    "look-through-markets": {"task": "exchange.tasks.look_through_markets", "schedule": 30.0},
    "schedule-markets": {"task": "exchange.tasks.schedule_markets", "schedule": 20.0},
}
