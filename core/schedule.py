"""Periodic tasks of core. (A schedule is plain data: it is read before Django's apps are loaded.)"""

BEAT = {"heartbeats": {"task": "core.tasks.send_heartbeats", "schedule": 5.0}}
