"""Meters, and the subjects that their events name."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import StrictSerializer
from core.errors import NotFound
from identity.actions.keys import create_key
from identity.api.base import ApiView
from identity.models import Organization
from metering_ingest import queries
from metering_ingest.actions import meters
from metering_ingest.actions.meters import MeterUnfit
from metering_ingest.models import Meter, SubjectAlias
from providers.models import Deployment


class MeterIn(StrictSerializer):
    name = serializers.CharField(max_length=80)
    role = serializers.ChoiceField(choices=Meter.Role.choices)
    deployment = serializers.IntegerField(required=False, allow_null=True, min_value=1)
    public_key = serializers.RegexField(r"^[0-9a-fA-F]{64}$", required=False, allow_null=True)


class MeterOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    organization = serializers.IntegerField()
    name = serializers.CharField()
    role = serializers.CharField()
    deployment = serializers.IntegerField(allow_null=True)
    public_key = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    score_thousandths = serializers.IntegerField(
        allow_null=True, help_text="How often it was right in the last 30 days; null before the first comparison."
    )


class NewMeterOut(MeterOut):
    secret = serializers.CharField(allow_null=True, help_text="The first key of this meter, shown once.")


class MeterPage(serializers.Serializer[Any]):
    items = MeterOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class AliasIn(StrictSerializer):
    subject = serializers.CharField(max_length=256)
    buyer = serializers.IntegerField(min_value=1)


class AliasOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    provider = serializers.IntegerField()
    subject = serializers.CharField()
    buyer = serializers.IntegerField()
    buyer_name = serializers.CharField()
    created_at = serializers.DateTimeField()


class AliasPage(serializers.Serializer[Any]):
    items = AliasOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def show_meter(meter: Meter) -> dict[str, Any]:
    return {
        "id": meter.pk,
        "organization": meter.organization_id,
        "name": meter.name,
        "role": meter.role,
        "deployment": meter.deployment_id,
        "public_key": bytes(meter.public_key).hex() if meter.public_key else None,
        "created_at": meter.created_at,
        "closed_at": meter.closed_at,
        "score_thousandths": meter.score.thousandths if hasattr(meter, "score") else None,
    }


def show_alias(alias: SubjectAlias) -> dict[str, Any]:
    return {
        "id": alias.pk,
        "provider": alias.provider_id,
        "subject": alias.subject,
        "buyer": alias.buyer_id,
        "buyer_name": alias.buyer.name,
        "created_at": alias.created_at,
    }


class Meters(ApiView):
    scopes = {"GET": "read", "POST": "trade"}

    @extend_schema(operation_id="meters_list", responses=MeterPage)
    def get(self, request: Request) -> Response:
        return Response(page(request, queries.meters_readable(self.actor), show_meter))

    @extend_schema(operation_id="meters_open", request=MeterIn, responses={201: NewMeterOut})
    def post(self, request: Request) -> Response:
        wanted = self.parse(MeterIn)
        deployment = None
        if wanted.get("deployment") is not None:
            deployment = Deployment.objects.filter(pk=wanted["deployment"]).first()
            if deployment is None:
                raise MeterUnfit("There is no such deployment of yours.", field="deployment")
        public_key = bytes.fromhex(wanted["public_key"]) if wanted.get("public_key") else None

        def perform() -> dict[str, Any]:
            meter = meters.open_meter(
                organization=self.actor.organization, name=wanted["name"], role=wanted["role"], deployment=deployment,
                public_key=public_key, now=self.now,
            )  # fmt: skip
            key = create_key(
                organization=self.actor.organization, name=meter.name, scopes=["meter"], meter_id=meter.pk,
                now=self.now, actor=self.actor,
            )  # fmt: skip
            return show_meter(meter) | {"secret": key.secret}

        return self.once(perform, secret_fields={"secret"})


class MeterDetail(ApiView):
    scopes = {"GET": "read", "DELETE": "trade"}

    @extend_schema(operation_id="meters_read", responses=MeterOut)
    def get(self, request: Request, meter_id: int) -> Response:
        return Response(show_meter(self._meter(meter_id)))

    @extend_schema(operation_id="meters_close", request=None, responses=MeterOut)
    def delete(self, request: Request, meter_id: int) -> Response:
        meter = self._meter(meter_id)
        if meter.organization_id != self.actor.organization_id:
            raise NotFound("There is no such meter of yours.")
        return self.once(lambda: show_meter(meters.close_meter(meter=meter, now=self.now)), status=200)

    def _meter(self, meter_id: int) -> Meter:
        meter = queries.meters_readable(self.actor).filter(pk=meter_id).first()
        if meter is None:
            raise NotFound("There is no such meter of yours.")
        return meter


class Aliases(ApiView):
    scopes = {"GET": "read", "POST": "trade"}

    @extend_schema(operation_id="aliases_list", responses=AliasPage)
    def get(self, request: Request) -> Response:
        return Response(page(request, queries.aliases_readable(self.actor), show_alias))

    @extend_schema(operation_id="aliases_register", request=AliasIn, responses={201: AliasOut})
    def post(self, request: Request) -> Response:
        wanted = self.parse(AliasIn)
        return self.once(
            lambda: show_alias(
                meters.register_alias(
                    provider=self.actor.organization, subject=wanted["subject"],
                    buyer=Organization.objects.filter(pk=wanted["buyer"]).first(), now=self.now,
                )
            )
        )  # fmt: skip
