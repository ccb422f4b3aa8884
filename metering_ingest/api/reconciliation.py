"""Engine readings in; comparisons and discrepancies out, with what both sides and the operator say about them."""

import base64
import binascii
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.parsers import BaseParser, JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import StrictSerializer
from core.errors import BadRequest, Forbidden, NotFound
from core.money import format_tokens
from core.transactions import durable
from exchange.contract_queries import contracts_readable
from identity.api.base import ApiView
from metering_ingest import reconciliation_queries as queries
from metering_ingest.actions import discrepancies
from metering_ingest.actions.discrepancies import Attachment
from metering_ingest.actions.readings import store_readings
from metering_ingest.api.usage import moment
from metering_ingest.models import Discrepancy, DiscrepancyEntry, Meter, MeterComparison


class ReadingsIn(StrictSerializer):
    at = serializers.DateTimeField(required=False, help_text="When it was scraped; now, where it is left out.")
    exposition = serializers.CharField(trim_whitespace=False, help_text="What the engine's /metrics answered.")


class ReadingsOut(serializers.Serializer[Any]):
    counters = serializers.IntegerField(help_text="Known counters in the scrape.")
    stored = serializers.IntegerField(help_text="Of them, new at that time.")


class ComparisonOut(serializers.Serializer[Any]):
    contract = serializers.IntegerField()
    hour = serializers.DateTimeField()
    token_class = serializers.CharField(help_text="input (not cached), cached_input or output.")
    provider = serializers.IntegerField()
    buyer = serializers.IntegerField(allow_null=True, help_text="null: the gateway reported nothing on the contract.")
    engine = serializers.IntegerField(allow_null=True, help_text="Its share of the deployments' engines; null: silent.")
    tolerance_thousandths = serializers.IntegerField()
    agrees = serializers.BooleanField()
    meters = serializers.ListField(child=serializers.IntegerField())
    compared_at = serializers.DateTimeField()


class ComparisonsOut(serializers.Serializer[Any]):
    items = ComparisonOut(many=True)


class DiscrepancyOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    contract = serializers.IntegerField()
    buyer = serializers.IntegerField()
    provider = serializers.IntegerField()
    hour = serializers.DateTimeField()
    token_class = serializers.CharField()
    state = serializers.CharField(help_text="open, decided or agreed (the meters came to agree by themselves).")
    provider_quantity = serializers.IntegerField()
    buyer_quantity = serializers.IntegerField(allow_null=True)
    engine_quantity = serializers.IntegerField(allow_null=True)
    tolerance_thousandths = serializers.IntegerField()
    held_quantity = serializers.IntegerField(help_text="Tokens of the class that were or are held back.")
    held_standard_tokens = serializers.CharField(help_text="What of the contract is held back now.")
    accepted_quantity = serializers.IntegerField(allow_null=True)
    denied_standard_tokens = serializers.CharField()
    opened_at = serializers.DateTimeField()
    changed_at = serializers.DateTimeField()


class EntryOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField(help_text="opened, changed, agreed, comment or decided.")
    at = serializers.DateTimeField()
    side = serializers.CharField(allow_null=True, help_text="buyer, provider or operator; null: the exchange itself.")
    text = serializers.CharField()
    evidence = serializers.JSONField(allow_null=True)
    attachment = serializers.DictField(allow_null=True)


class DiscrepancyDetailOut(DiscrepancyOut):
    entries = EntryOut(many=True)


class DiscrepancyPage(serializers.Serializer[Any]):
    items = DiscrepancyOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class AttachmentIn(StrictSerializer):
    name = serializers.RegexField(r"^[^/\\\x00-\x1f]+$", max_length=200)
    media_type = serializers.RegexField(r"^[a-z0-9.+-]+/[a-z0-9.+-]+$", max_length=100)
    content_base64 = serializers.CharField(max_length=2_000_000)


class EntryIn(StrictSerializer):
    text = serializers.CharField(max_length=4_000, required=False, allow_blank=True, default="")
    attachment = AttachmentIn(required=False, allow_null=True, default=None)


class DecisionIn(StrictSerializer):
    accepted_quantity = serializers.IntegerField(min_value=0, help_text="Tokens of the class that are billed.")
    reason = serializers.CharField(max_length=4_000)


class PlainText(BaseParser):
    """A scrape as it is: `curl engine:8000/metrics | curl --data-binary @- …`."""

    media_type = "text/plain"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return {"exposition": stream.read().decode("utf-8", "replace")}


class Readings(ApiView):
    """Counter readings of an engine."""

    scopes = {"POST": "meter"}
    parser_classes = (JSONParser, PlainText)

    @extend_schema(operation_id="readings_store", request=ReadingsIn, responses={201: ReadingsOut})
    def post(self, request: Request) -> Response:
        """Store one scrape of an engine's counters. The same scrape of the same time again changes nothing."""
        wanted = self.parse(ReadingsIn)
        meter = Meter.objects.filter(pk=self.actor.meter_id or 0, closed_at__isnull=True).first()
        if meter is None:
            raise Forbidden("This key's meter is closed.")
        # Not under `once`: a reading is itself the key of its repetition.
        found, stored = durable(
            lambda: store_readings(
                meter=meter, exposition=wanted["exposition"], at=wanted.get("at", self.now), now=self.now
            )
        )
        return Response({"counters": found, "stored": stored}, status=201)


def show_comparison(row: MeterComparison) -> dict[str, Any]:
    return {
        "contract": row.contract_id, "hour": row.hour, "token_class": row.token_class,
        "provider": row.provider_quantity, "buyer": row.buyer_quantity, "engine": row.engine_quantity,
        "tolerance_thousandths": row.tolerance_thousandths, "agrees": row.agrees, "meters": row.meters,
        "compared_at": row.compared_at,
    }  # fmt: skip


def show_discrepancy(row: Discrepancy) -> dict[str, Any]:
    return {
        "id": row.pk, "contract": row.contract_id, "buyer": row.contract.buyer_id,
        "provider": row.contract.provider_id, "hour": row.hour, "token_class": row.token_class, "state": row.state,
        "provider_quantity": row.provider_quantity, "buyer_quantity": row.buyer_quantity,
        "engine_quantity": row.engine_quantity, "tolerance_thousandths": row.tolerance_thousandths,
        "held_quantity": row.held_quantity, "held_standard_tokens": format_tokens(row.held_work_micro_st),
        "accepted_quantity": row.accepted_quantity,
        "denied_standard_tokens": format_tokens(row.denied_work_micro_st),
        "opened_at": row.opened_at, "changed_at": row.changed_at,
    }  # fmt: skip


def show_entry(entry: DiscrepancyEntry, row: Discrepancy) -> dict[str, Any]:
    sides = {row.contract.buyer_id: "buyer", row.contract.provider_id: "provider", None: None}
    attachment = {
        "name": entry.attachment_name, "media_type": entry.attachment_type, "sha256": entry.attachment_sha256
    }  # fmt: skip
    return {
        "id": entry.pk, "kind": entry.kind, "at": entry.at, "side": sides.get(entry.organization_id, "operator"),
        "text": entry.text, "evidence": entry.evidence, "attachment": attachment if entry.attachment_name else None,
    }  # fmt: skip


class Reconciliation(ApiView):
    """What the meters of a contract counted."""

    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="reconciliation_read", responses=ComparisonsOut,
        parameters=[
            OpenApiParameter("contract", OpenApiTypes.INT, required=True),
            OpenApiParameter("from", OpenApiTypes.DATETIME),
            OpenApiParameter("to", OpenApiTypes.DATETIME),
        ],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """Compare a contract's meters by hour and class; hours that only the provider reported are not in it."""
        text = request.query_params.get("contract", "")
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise BadRequest("contract is a contract's id.", field="contract")
        contract = contracts_readable(self.actor).filter(pk=int(text)).first()
        if contract is None:
            raise NotFound("There is no such contract.", field="contract")
        start = moment(request, "from", contract.window_start or contract.created_at)
        end = moment(request, "to", contract.window_end or self.now)
        rows = queries.comparisons([contract.pk], start.replace(minute=0, second=0, microsecond=0), end)[:10_000]
        return Response({"items": [show_comparison(row) for row in rows]})


class Discrepancies(ApiView):
    """Where meters are too far apart."""

    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="discrepancies_list", responses=DiscrepancyPage,
        parameters=[
            OpenApiParameter("state", OpenApiTypes.STR, enum=Discrepancy.State.values),
            OpenApiParameter("contract", OpenApiTypes.INT),
        ],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List the discrepancies of contracts that one bought or sold, the newest first."""
        rows = queries.discrepancies_readable(self.actor)
        if state := request.query_params.get("state"):
            if state not in Discrepancy.State.values:
                raise BadRequest(f"state is one of {', '.join(Discrepancy.State.values)}.", field="state")
            rows = rows.filter(state=state)
        if text := request.query_params.get("contract"):
            if not (text.isascii() and text.isdigit() and len(text) < 19):
                raise BadRequest("contract is a contract's id.", field="contract")
            rows = rows.filter(contract=int(text))
        return Response(page(request, rows, show_discrepancy))


class _One(ApiView):
    def find(self, discrepancy_id: int) -> Discrepancy:
        """Return the discrepancy. :raises NotFound: of others' contracts."""
        row = queries.discrepancies_readable(self.actor).filter(pk=discrepancy_id).first()
        if row is None:
            raise NotFound("There is no such discrepancy.")
        return row


class DiscrepancyDetail(_One):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="discrepancies_read", responses=DiscrepancyDetailOut)
    def get(self, request: Request, discrepancy_id: int) -> Response:
        """Show a discrepancy with everything that happened about it."""
        row = self.find(discrepancy_id)
        entries = row.entries.defer("attachment").order_by("pk")
        return Response(show_discrepancy(row) | {"entries": [show_entry(entry, row) for entry in entries]})


class Entries(_One):
    scopes = {"POST": "trade"}

    @extend_schema(operation_id="discrepancies_comment", request=EntryIn, responses={201: EntryOut})
    def post(self, request: Request, discrepancy_id: int) -> Response:
        """Comment, or attach a file of up to 1 MiB."""
        row = self.find(discrepancy_id)
        wanted = self.parse(EntryIn)
        attachment = None
        if (sent := wanted["attachment"]) is not None:
            try:
                content = base64.b64decode(sent["content_base64"], validate=True)
            except binascii.Error:
                raise BadRequest("content_base64 is not base64.", field="attachment.content_base64") from None
            attachment = Attachment(sent["name"], sent["media_type"], content)
        return self.once(
            lambda: show_entry(
                discrepancies.comment(
                    discrepancy=row, text=wanted["text"], attachment=attachment, actor=self.actor, now=self.now
                ),
                row,
            )
        )


class EntryAttachment(_One):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="discrepancies_attachment", responses={(200, "application/octet-stream"): bytes})
    def get(self, request: Request, discrepancy_id: int, entry_id: int) -> HttpResponse:
        """Download what was attached."""
        entry = self.find(discrepancy_id).entries.filter(pk=entry_id, attachment__isnull=False).first()
        if entry is None:
            raise NotFound("There is no such attachment.")
        # Never shown in place: whatever it claims to be, a browser saves it.
        answer = HttpResponse(bytes(entry.attachment or b""), content_type="application/octet-stream")
        answer.headers["Content-Disposition"] = f"attachment; filename=discrepancy-{discrepancy_id}-{entry_id}"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer


class Decision(_One):
    scopes = {"POST": "read"}  # to a stranger it is not there; whoever sees it still needs `operate`

    @extend_schema(operation_id="discrepancies_decide", request=DecisionIn, responses={201: DiscrepancyOut})
    def post(self, request: Request, discrepancy_id: int) -> Response:
        """Decide how many tokens are billed. What was settled already is corrected by the difference."""
        self.find(discrepancy_id)
        self.actor.require("operate")
        wanted = self.parse(DecisionIn)
        return self.once(
            lambda: show_discrepancy(
                discrepancies.decide(discrepancy_id=discrepancy_id, actor=self.actor, now=self.now, **wanted)
            )
        )
