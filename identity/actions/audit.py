"""The insert-only log of who changed what."""

from datetime import datetime
from typing import Any

import structlog

from identity.access import Actor
from identity.models import AuditEntry


def record(
    *,
    actor: Actor | None,
    verb: str,
    subject: str,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> AuditEntry:
    """Write down that `actor` (None: the system) did `verb` to `subject`, with the values before and after."""
    return AuditEntry.objects.create(
        at=now,
        organization_id=actor.organization_id if actor else None,
        user_id=actor.user_id if actor else None,
        api_key_id=actor.api_key_id if actor else None,
        verb=verb,
        subject=subject,
        before=before,
        after=after,
        request_id=str(structlog.contextvars.get_contextvars().get("request_id", ""))[:64],
    )
