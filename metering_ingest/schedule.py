"""What beat sends: sweeps over what is due."""

from datetime import timedelta

BEAT = {
    "settle_due_markets": {"task": "metering_ingest.tasks.settle_due_markets", "schedule": timedelta(seconds=1)},
    "finalize_due_markets": {
        "task": "metering_ingest.tasks.finalize_due_markets",
        "schedule": timedelta(seconds=10),
    },
    "settle_late_usage": {"task": "metering_ingest.tasks.settle_late_usage", "schedule": timedelta(seconds=2)},
    "settle_list_usage": {"task": "metering_ingest.tasks.settle_list_usage", "schedule": timedelta(seconds=30)},
    "replay_pending": {"task": "metering_ingest.tasks.replay_pending", "schedule": timedelta(seconds=2)},
    "compare_meters": {"task": "metering_ingest.tasks.compare_meters", "schedule": timedelta(seconds=5)},
    "meter_budgets": {"task": "metering_ingest.tasks.meter_budgets", "schedule": timedelta(seconds=2)},
    "expire_authorizations": {"task": "metering_ingest.tasks.expire_authorizations", "schedule": timedelta(seconds=1)},
    "flag_implausible": {"task": "metering_ingest.tasks.flag_implausible", "schedule": timedelta(minutes=5)},
    "review_service": {"task": "metering_ingest.tasks.review_service", "schedule": timedelta(seconds=2)},
    "warn_early": {"task": "metering_ingest.tasks.warn_early", "schedule": timedelta(seconds=30)},
    "probe_deployments": {"task": "metering_ingest.tasks.probe_deployments", "schedule": timedelta(seconds=30)},
    "check_gaps": {"task": "metering_ingest.tasks.check_gaps", "schedule": timedelta(minutes=1)},
    "miss_manifests": {"task": "metering_ingest.tasks.miss_manifests", "schedule": timedelta(minutes=5)},
    "archive_usage": {"task": "metering_ingest.tasks.archive_usage", "schedule": timedelta(hours=1)},
    "score_meters": {"task": "metering_ingest.tasks.score_meters", "schedule": timedelta(minutes=10)},
    "make_partitions": {"task": "metering_ingest.tasks.make_partitions", "schedule": timedelta(minutes=10)},
}
