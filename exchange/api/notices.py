"""What everybody is told, as a list."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from exchange import notice_queries
from identity.api.base import ApiView
from identity.models import AuditEntry


class ChangeOut(serializers.Serializer[Any]):
    field = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class NoticeOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    kind = serializers.ChoiceField(choices=notice_queries.VERBS)
    market = serializers.IntegerField(allow_null=True, help_text="Of halts, and of a member's stop in one market.")
    auction = serializers.IntegerField(allow_null=True, help_text="Of annulments.")
    grade_slug = serializers.CharField(allow_null=True, help_text="Of grades.")
    reason = serializers.CharField(
        help_text="As the operator gave it, without a stopped member's name; empty where none is asked for."
    )
    changes = ChangeOut(many=True)


class NoticePage(serializers.Serializer[Any]):
    items = NoticeOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class Notices(ApiView):
    """Halts, members' stops, annulments, and changes of grades and of the house's limits."""

    public = True

    @extend_schema(responses=NoticePage)
    def get(self, request: Request) -> Response:
        """Show what everybody was told, newest first."""
        return Response(page(request, notice_queries.published(), show_notice))


def show_notice(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry as the API shows it."""
    about, verb = notice_queries.subject_id(entry), entry.verb
    changes = notice_queries.changes_of(entry)
    return {
        "id": entry.pk,
        "at": entry.at,
        "kind": verb,
        "market": notice_queries.market_id_of(entry),
        "auction": int(about) if verb == notice_queries.ANNULMENT else None,
        "grade_slug": about if verb in notice_queries.GRADES else None,
        "reason": notice_queries.reason_told(entry),
        "changes": [{"field": name, "before": before, "after": after} for name, before, after in changes],
    }
