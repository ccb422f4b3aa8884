"""How contracts are served: reports of guards and gateways, the exchange's probes, what was found, and disputes."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import StrictSerializer
from core.errors import NotFound
from core.transactions import durable
from exchange.api.parameters import whole_number
from identity.api.base import ApiView
from metering_ingest import service_queries as queries
from metering_ingest.actions import findings
from metering_ingest.actions.attribution import meter_access
from metering_ingest.actions.service import ReportInvalid, record_report
from metering_ingest.domain.service import MAX_BODY_BYTES
from metering_ingest.models import Meter, Probe, ServiceFinding, ServiceMinute
from metering_ingest.signatures import check_signature, given_signature

CONTRACT = OpenApiParameter("contract", OpenApiTypes.INT, description="Of one contract only.")
DEPLOYMENT = OpenApiParameter("deployment", OpenApiTypes.INT, description="Of one deployment only.")


class MinuteIn(serializers.Serializer[Any]):
    minute = serializers.DateTimeField(help_text="Its beginning.")
    deployment = serializers.IntegerField()
    contract = serializers.IntegerField(
        required=False, allow_null=True, help_text="Without one it says that the guard was running."
    )
    served = serializers.IntegerField(required=False)
    failed = serializers.IntegerField(required=False)
    limited = serializers.IntegerField(required=False, help_text="Refused for rate or quantity: nobody's failure.")
    first_measured = serializers.IntegerField(required=False)
    first_late = serializers.IntegerField(required=False)
    first_token_ms = serializers.IntegerField(required=False, allow_null=True)
    token_measured = serializers.IntegerField(required=False)
    token_late = serializers.IntegerField(required=False)
    token_ms = serializers.IntegerField(required=False, allow_null=True)


class ReportIn(serializers.Serializer[Any]):
    run = serializers.CharField(max_length=64, help_text="Names the process that counted.")
    minutes = MinuteIn(many=True)


class ProbedOut(serializers.Serializer[Any]):
    contract = serializers.IntegerField()
    work_micro_st = serializers.IntegerField(help_text="In all so far, in micro-standard-tokens.")


class ReportOut(serializers.Serializer[Any]):
    new = serializers.IntegerField(help_text="Minutes that were not known yet.")
    probed = ProbedOut(
        many=True, help_text="To a guard: what the exchange's own requests took, which is no part of the quantities."
    )


class MinuteOut(serializers.Serializer[Any]):
    minute = serializers.DateTimeField()
    side = serializers.CharField(help_text="gateway or guard.")
    contract = serializers.IntegerField()
    deployment = serializers.IntegerField()
    served = serializers.IntegerField()
    failed = serializers.IntegerField()
    limited = serializers.IntegerField()
    first_token_ms = serializers.IntegerField(allow_null=True, help_text="95th percentile of the minute.")
    token_ms = serializers.IntegerField(allow_null=True)
    late = serializers.IntegerField(help_text="Answers that missed a promised time.")
    signed = serializers.BooleanField()


class MinutePage(serializers.Serializer[Any]):
    items = MinuteOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ProbeOut(serializers.Serializer[Any]):
    deployment = serializers.IntegerField()
    at = serializers.DateTimeField()
    ok = serializers.BooleanField()
    reason = serializers.CharField()
    first_token_ms = serializers.IntegerField(allow_null=True)
    token_ms = serializers.IntegerField(allow_null=True)
    output_tokens = serializers.IntegerField()
    alike_thousandths = serializers.IntegerField(
        allow_null=True, help_text="How like the answer of most other deployments of the grade."
    )


class ProbePage(serializers.Serializer[Any]):
    items = ProbeOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ObjectionOut(serializers.Serializer[Any]):
    by = serializers.IntegerField()
    note = serializers.CharField()
    made_at = serializers.DateTimeField()


class ServiceFindingOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    contract = serializers.IntegerField()
    deployment = serializers.IntegerField()
    buyer = serializers.IntegerField()
    provider = serializers.IntegerField()
    state = serializers.CharField(help_text="open, disputed, upheld or rejected.")
    quantity = serializers.IntegerField(help_text="Standard tokens found undelivered.")
    minutes = serializers.JSONField(help_text="Each with what gateway, guard and probe showed: true is a failure.")
    late_hours = serializers.JSONField()
    claim = serializers.IntegerField(allow_null=True)
    found_at = serializers.DateTimeField()
    stands_from = serializers.DateTimeField(help_text="Unless a side objects before.")
    objections = ObjectionOut(many=True)
    ruling_note = serializers.CharField()
    ruled_at = serializers.DateTimeField(allow_null=True)


class ServiceFindingPage(serializers.Serializer[Any]):
    items = ServiceFindingOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ObjectionIn(StrictSerializer):
    note = serializers.CharField(max_length=500, help_text="What is wrong with it.")


class FindingRulingIn(StrictSerializer):
    verdict = serializers.ChoiceField(choices=["upheld", "rejected"])
    note = serializers.CharField(max_length=500)


def show_minute(row: ServiceMinute) -> dict[str, Any]:
    return {
        "minute": row.minute, "side": "gateway" if row.meter.role == Meter.Role.BUYER else "guard",
        "contract": row.contract_id, "deployment": row.deployment_id, "served": row.served, "failed": row.failed,
        "limited": row.limited, "first_token_ms": row.first_token_ms, "token_ms": row.token_ms,
        "late": row.first_late + row.token_late, "signed": row.report.signature is not None,
    }  # fmt: skip


def show_probe(row: Probe) -> dict[str, Any]:
    return {
        "deployment": row.deployment_id, "at": row.at, "ok": row.ok, "reason": row.reason,
        "first_token_ms": row.first_token_ms, "token_ms": row.token_ms, "output_tokens": row.output_tokens,
        "alike_thousandths": row.alike_thousandths,
    }  # fmt: skip


def show_finding(row: ServiceFinding) -> dict[str, Any]:
    ruling = getattr(row, "ruling", None)
    return {
        "id": row.pk, "contract": row.contract_id, "deployment": row.deployment_id, "buyer": row.contract.buyer_id,
        "provider": row.contract.provider_id, "state": queries.state_of(row), "quantity": row.quantity_tokens,
        "minutes": row.minutes, "late_hours": row.late_hours, "claim": row.claim_id, "found_at": row.found_at,
        "stands_from": row.decided_from,
        "objections": [{"by": one.by_id, "note": one.note, "made_at": one.made_at} for one in row.objections.all()],
        "ruling_note": ruling.note if ruling else "", "ruled_at": ruling.ruled_at if ruling else None,
    }  # fmt: skip


class Reports(ApiView):
    scopes = {"POST": "meter"}

    @extend_schema(operation_id="service_reports_send", request=ReportIn, responses={200: ReportOut})
    def post(self, request: Request) -> Response:
        """
        Say, with a meter's key, what became of requests minute by minute; the same again changes nothing.

        A guard reports every minute, its own deployment; a gateway the minutes in which it called, by contract. Signed
        like usage: `Ciyuan-Signature` over the body's bytes.
        """
        body = request.body
        if len(body) > MAX_BODY_BYTES:
            raise ReportInvalid("A report has up to 2 MiB.")
        access = meter_access(self.actor.meter_id or 0)
        given = request.headers.get("Ciyuan-Signature", "")
        check_signature(access, given, body)
        signature = given_signature(given) if given else None
        meter = Meter.objects.get(pk=access.facts.meter_id)
        new = durable(lambda: record_report(meter=meter, body=body, signature=signature, now=self.now))
        probed = queries.probed_micro_st(meter.deployment_id, self.now) if meter.role == Meter.Role.PROVIDER else {}  # type: ignore[arg-type]
        return Response({"new": new, "probed": [{"contract": c, "work_micro_st": n} for c, n in probed.items()]})


class Minutes(ApiView):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="service_minutes_list", responses=MinutePage, parameters=[CONTRACT])
    def get(self, request: Request) -> Response:
        """List what guards and gateways saw of one's contracts, the newest minute first; both sides see both."""
        rows = queries.minutes_readable(self.actor)
        if (contract_id := whole_number(request, "contract")) is not None:
            rows = rows.filter(contract_id=contract_id)
        return Response(page(request, rows, show_minute))


class Probes(ApiView):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="service_probes_list", responses=ProbePage, parameters=[DEPLOYMENT])
    def get(self, request: Request) -> Response:
        """List the exchange's own requests to deployments that serve one's contracts, or are one's own."""
        rows = queries.probes_readable(self.actor)
        if (deployment_id := whole_number(request, "deployment")) is not None:
            rows = rows.filter(deployment_id=deployment_id)
        return Response(page(request, rows, show_probe))


class Findings(ApiView):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="service_findings_list", responses=ServiceFindingPage, parameters=[CONTRACT])
    def get(self, request: Request) -> Response:
        """List what the evidence showed of one's contracts, the newest first."""
        rows = queries.findings_readable(self.actor)
        if (contract_id := whole_number(request, "contract")) is not None:
            rows = rows.filter(contract_id=contract_id)
        return Response(page(request, rows, show_finding))


class FindingView(ApiView):
    """What one finding's addresses share."""

    def shown(self, finding_id: int) -> dict[str, Any]:
        """Return a finding that the actor may see."""
        row = queries.findings_readable(self.actor).filter(pk=finding_id).first()
        if row is None:
            raise NotFound("There is no such finding.", field="finding")
        return show_finding(row)


class FindingDetail(FindingView):
    scopes = {"GET": "read"}

    @extend_schema(responses=ServiceFindingOut, operation_id="service_findings_retrieve")
    def get(self, request: Request, finding_id: int) -> Response:
        """Show a finding with its evidence and what was decided."""
        return Response(self.shown(finding_id))


class Objection(FindingView):
    scopes = {"POST": "trade"}

    @extend_schema(request=ObjectionIn, responses={201: ServiceFindingOut}, operation_id="service_findings_object")
    def post(self, request: Request, finding_id: int) -> Response:
        """Dispute a finding as its buyer or provider: the operator decides it then."""
        self.shown(finding_id)
        fields = self.parse(ObjectionIn)

        def dispute() -> dict[str, Any]:
            findings.object_to(
                finding_id=finding_id, by=self.actor.organization, note=fields["note"], now=self.now
            )  # fmt: skip
            return self.shown(finding_id)

        return self.once(dispute)


class Ruling(FindingView):
    scopes = {"POST": "read"}  # to a stranger it is not there; whoever sees it still needs `operate`

    @extend_schema(request=FindingRulingIn, responses={201: ServiceFindingOut}, operation_id="service_findings_rule")
    def post(self, request: Request, finding_id: int) -> Response:
        """Uphold or reject a finding (operator)."""
        self.shown(finding_id)
        self.actor.require("operate")
        fields = self.parse(FindingRulingIn)

        def rule() -> dict[str, Any]:
            findings.rule_on_finding(
                finding_id=finding_id, operator=self.actor.organization, upheld=fields["verdict"] == "upheld",
                note=fields["note"], now=self.now,
            )  # fmt: skip
            return self.shown(finding_id)

        return self.once(rule)
