"""Certificates of deployments: measured by `ciyuan certify`, assessed by the exchange."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import StrictSerializer
from identity.api.base import ApiView
from providers import queries
from providers.actions.certificates import record_certificate
from providers.models import Certificate

FIGURES = (
    "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute", "ttft_p50_ms", "ttft_p95_ms",
    "token_p50_us", "token_p95_us", "accelerator_ns_per_st", "accelerator_ns_per_st_low", "accelerator_ns_per_st_high",
    "requests", "failed",
)  # fmt: skip
MEASURED = ("workload", "model", "engine", "precision", "accelerator", "accelerator_count", "measured_at")


class RunIn(StrictSerializer):
    part = serializers.CharField(max_length=20)
    duration_ms = serializers.IntegerField(min_value=1, max_value=86_400_000)
    failed = serializers.IntegerField(min_value=0, max_value=1_000_000)
    served = serializers.ListField(
        child=serializers.JSONField(), max_length=50_000,
        help_text="Per request: input tokens, cached ones, output tokens, first token ms, total ms.",
    )  # fmt: skip


class CertificateIn(StrictSerializer):
    deployment = serializers.IntegerField(min_value=1, max_value=2**62)
    workload = serializers.CharField(max_length=20)
    model = serializers.CharField(max_length=80)
    engine = serializers.CharField(max_length=60)
    precision = serializers.CharField(max_length=10)
    accelerator = serializers.CharField(max_length=80)
    accelerator_count = serializers.IntegerField(min_value=1, max_value=100_000)
    measured_at = serializers.DateTimeField(help_text="When the run ended.")
    runs = serializers.ListField(child=RunIn(), max_length=120)


class CertificateOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    deployment = serializers.IntegerField()
    measured_by = serializers.IntegerField()
    workload = serializers.CharField()
    model = serializers.CharField()
    engine = serializers.CharField()
    precision = serializers.CharField()
    accelerator = serializers.CharField()
    accelerator_count = serializers.IntegerField()
    measured_at = serializers.DateTimeField()
    valid_until = serializers.DateTimeField()
    limit_tokens_per_minute = serializers.IntegerField(help_text="90% of it: the most that capacity may promise.")
    tokens_per_minute = serializers.IntegerField(help_text="Standard tokens, of the slowest part.")
    input_tokens_per_minute = serializers.IntegerField()
    output_tokens_per_minute = serializers.IntegerField()
    ttft_p50_ms = serializers.IntegerField()
    ttft_p95_ms = serializers.IntegerField()
    token_p50_us = serializers.IntegerField(help_text="Mean time per further token of a request.")
    token_p95_us = serializers.IntegerField()
    accelerator_ns_per_st = serializers.IntegerField(help_text="Accelerator time per standard token, median run.")
    accelerator_ns_per_st_low = serializers.IntegerField()
    accelerator_ns_per_st_high = serializers.IntegerField()
    requests = serializers.IntegerField()
    failed = serializers.IntegerField()
    parts = serializers.JSONField()


class CertificatePage(serializers.Serializer[Any]):
    items = CertificateOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def show_certificate(row: Certificate) -> dict[str, Any]:
    return {name: getattr(row, name) for name in (*MEASURED, *FIGURES, "valid_until", "parts")} | {
        "id": row.pk,
        "deployment": row.deployment_id,
        "measured_by": row.measured_by_id,
        "limit_tokens_per_minute": queries.certified_limit(row.tokens_per_minute),
    }


class Certificates(ApiView):
    """Certificates of one's own deployments; of all for the operator."""

    scopes = {"GET": "read", "POST": "trade"}

    @extend_schema(
        responses=CertificatePage, parameters=[OpenApiParameter("deployment", int)], operation_id="certificates_list"
    )
    def get(self, request: Request) -> Response:
        """List certificates, the newest first."""
        rows = queries.certificates_readable(self.actor)
        wanted = request.query_params.get("deployment", "")
        if wanted:
            rows = rows.filter(deployment_id=int(wanted)) if wanted.isascii() and wanted.isdigit() else rows.none()
        return Response(page(request, rows, show_certificate))

    @extend_schema(request=CertificateIn, responses={201: CertificateOut})
    def post(self, request: Request) -> Response:
        """Certify a deployment by a run of the reference workload: 90% of its rate may be published for 30 days."""
        fields = self.parse(CertificateIn)
        deployment_id = fields.pop("deployment")
        own = None if self.actor.is_operator else self.actor.organization_id
        return self.once(
            lambda: show_certificate(
                record_certificate(
                    deployment_id=deployment_id, provider_id=own, measured_by_id=self.actor.organization_id,
                    now=self.now, actor=self.actor, **fields,
                )
            )
        )  # fmt: skip
