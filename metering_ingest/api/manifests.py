"""Hourly manifests of what meters recorded, and the gaps that they show."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.errors import BadRequest
from core.transactions import durable
from identity.api.base import ApiView
from metering_ingest import queries
from metering_ingest.actions.attribution import meter_access
from metering_ingest.actions.manifests import Checked, ManifestInvalid, record_manifest
from metering_ingest.domain.manifests import MAX_BODY_BYTES
from metering_ingest.models import Meter, UsageGap, UsageManifest
from metering_ingest.signatures import SignatureMissing, check_signature, given_signature


class ManifestIn(serializers.Serializer[Any]):
    source = serializers.CharField(max_length=256, help_text="The log's name, as in its events.")  # type: ignore[assignment]
    log = serializers.CharField(max_length=64, help_text="Names the spool that was counted; several are added up.")
    hour = serializers.DateTimeField(help_text="Beginning of the hour, in UTC; it must be over.")
    revision = serializers.IntegerField(min_value=1, help_text="A higher one replaces what was sent before.")
    events = serializers.IntegerField(min_value=0)
    sums = serializers.DictField(
        child=serializers.IntegerField(min_value=0), help_text="Disjoint classes of the hour's events, and requests."
    )


class GapOut(serializers.Serializer[Any]):
    meter = serializers.IntegerField()
    source = serializers.CharField()  # type: ignore[assignment]
    hour = serializers.DateTimeField()
    token_class = serializers.CharField(help_text="A class, or “events” for their number.")
    expected = serializers.IntegerField(help_text="What the meter says it has recorded.")
    received = serializers.IntegerField()
    missing = serializers.IntegerField()
    set_aside = serializers.IntegerField(help_text="Events of the hour that were rejected and wait to be replayed.")
    opened_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)


class ManifestOut(serializers.Serializer[Any]):
    meter = serializers.IntegerField()
    source = serializers.CharField()  # type: ignore[assignment]
    log = serializers.CharField()
    hour = serializers.DateTimeField()
    revision = serializers.IntegerField()
    events = serializers.IntegerField()
    sums = serializers.DictField(child=serializers.IntegerField())
    state = serializers.CharField(help_text="complete, missing, or surplus: more arrived than was recorded.")
    signed = serializers.BooleanField()
    received_at = serializers.DateTimeField()
    checked_at = serializers.DateTimeField()


class CheckedOut(ManifestOut):
    gaps = GapOut(many=True)


class ManifestPage(serializers.Serializer[Any]):
    items = ManifestOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class GapPage(serializers.Serializer[Any]):
    items = GapOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def show_manifest(row: UsageManifest) -> dict[str, Any]:
    return {
        "meter": row.meter_id,
        "source": row.source,
        "log": row.log,
        "hour": row.hour,
        "revision": row.revision,
        "events": row.events,
        "sums": row.sums,
        "state": row.state,
        "signed": row.signature is not None,
        "received_at": row.received_at,
        "checked_at": row.checked_at,
    }


def show_gap(row: UsageGap) -> dict[str, Any]:
    return {
        "meter": row.meter_id,
        "source": row.source,
        "hour": row.hour,
        "token_class": row.token_class,
        "expected": row.expected,
        "received": row.received,
        "missing": row.expected - row.received if row.closed_at is None else 0,
        "set_aside": row.set_aside,
        "opened_at": row.opened_at,
        "closed_at": row.closed_at,
    }


METER = OpenApiParameter("meter", OpenApiTypes.INT, description="Of one meter only.")


class Manifests(ApiView):
    scopes = {"GET": "read", "POST": "meter"}

    @extend_schema(
        operation_id="manifests_list", responses=ManifestPage,
        parameters=[METER, OpenApiParameter("state", OpenApiTypes.STR, enum=UsageManifest.State.values)],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        rows = queries.manifests_readable(self.actor, meter_id=_whole(request, "meter"))
        state = request.query_params.get("state")
        if state is not None and state not in UsageManifest.State.values:
            raise BadRequest("state is complete, missing or surplus.", field="state")
        return Response(page(request, rows.filter(state=state) if state else rows, show_manifest))

    @extend_schema(operation_id="manifests_send", request=ManifestIn, responses={200: CheckedOut})
    def post(self, request: Request) -> Response:
        """
        Say what a log recorded for an hour; the answer names what of it has not arrived. The same again only compares.

        A meter with a public key signs: `Ciyuan-Signature: ed25519=<base64>` over the body's bytes.
        """
        body = request.body
        if len(body) > MAX_BODY_BYTES:
            raise ManifestInvalid("A manifest has up to 64 KiB.")
        access = meter_access(self.actor.meter_id or 0)
        given = request.headers.get("Ciyuan-Signature", "")
        check_signature(access, given, body)
        if access.public_key is not None and not given:
            raise SignatureMissing("This meter has a public key: sign its manifests with “Ciyuan-Signature”.")
        signature = given_signature(given) if given else None
        meter = Meter.objects.get(pk=access.facts.meter_id)
        # Not under `once`: meter, log, hour and revision are themselves the key of its repetition.
        checked: Checked = durable(lambda: record_manifest(meter=meter, body=body, signature=signature, now=self.now))
        return Response(show_manifest(checked.manifest) | {"gaps": [show_gap(gap) for gap in checked.gaps]})


class Gaps(ApiView):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="manifest_gaps_list", responses=GapPage,
        parameters=[METER, OpenApiParameter("closed", OpenApiTypes.BOOL, description="Those that were filled, too.")],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        rows = queries.gaps_readable(self.actor, meter_id=_whole(request, "meter"))
        if request.query_params.get("closed") != "true":
            rows = rows.filter(closed_at__isnull=True)
        return Response(page(request, rows, show_gap))


def _whole(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest(f"{name} is a whole number.", field=name)
    return int(text)
