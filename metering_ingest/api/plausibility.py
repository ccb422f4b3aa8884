"""What no chip could have produced, and who promises more than hardware can do."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from identity.api.base import ApiView
from metering_ingest.models import ImplausibleHour
from providers.domain.roofline import DoesNotFit, NoArithmetic
from providers.queries import deployments_readable

MOST = 500


class ImplausibleHourOut(serializers.Serializer[Any]):
    deployment = serializers.IntegerField()
    provider = serializers.IntegerField()
    hour = serializers.DateTimeField()
    floor_seconds = serializers.IntegerField(help_text="What the reported tokens take at least; an hour has 3,600.")
    bound = serializers.CharField(help_text="compute or memory: which of them takes that long.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()


class OverPromiseOut(serializers.Serializer[Any]):
    deployment = serializers.IntegerField()
    provider = serializers.IntegerField()
    accelerator = serializers.CharField()
    accelerator_count = serializers.IntegerField()
    promised_tokens_per_minute = serializers.IntegerField()
    roofline_tokens_per_minute = serializers.IntegerField(help_text="Uncertified, no more than this can be published.")


class PlausibilityOut(serializers.Serializer[Any]):
    hours = ImplausibleHourOut(many=True)
    promises = OverPromiseOut(many=True)


class Plausibility(ApiView):
    """Reports and promises beyond the roofline."""

    scopes = {"GET": "read"}

    @extend_schema(operation_id="plausibility_read", responses=PlausibilityOut)
    def get(self, request: Request) -> Response:
        """Show a provider's own; all to the operator."""
        mine = deployments_readable(self.actor)
        rows = ImplausibleHour.objects.filter(deployment__in=mine).select_related("deployment").order_by("-hour")[:MOST]
        promises = []
        for row in mine.filter(status="active").order_by("pk"):
            try:
                bound = row.roofline().tokens_per_minute
            except (NoArithmetic, DoesNotFit):
                bound = 0
            promised = max(row.rated_tokens_per_minute, row.certified_tokens_per_minute or 0)
            if promised > bound:
                promises.append(
                    {
                        "deployment": row.pk, "provider": row.provider_id, "accelerator": row.accelerator.slug,
                        "accelerator_count": row.accelerator_count, "promised_tokens_per_minute": promised,
                        "roofline_tokens_per_minute": bound,
                    }
                )  # fmt: skip
        return Response(
            {
                "hours": [
                    {
                        "deployment": row.deployment_id, "provider": row.deployment.provider_id, "hour": row.hour,
                        "floor_seconds": row.floor_seconds, "bound": row.bound, "input_tokens": row.input_tokens,
                        "output_tokens": row.output_tokens,
                    }
                    for row in rows
                ],
                "promises": promises[:MOST],
            }
        )  # fmt: skip
