"""What identity does by itself, and how often."""

from datetime import timedelta
from typing import Any

BEAT: dict[str, dict[str, Any]] = {
    "deliver-webhooks": {"task": "identity.tasks.deliver_webhooks", "schedule": timedelta(seconds=1)},
    "forget-old-webhooks": {"task": "identity.tasks.forget_old_webhooks", "schedule": timedelta(hours=6)},
}
