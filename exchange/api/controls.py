"""The operator's controls of trading, leases, and limits."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import StrictSerializer, TokensField, YuanField
from core.errors import BadRequest, NotFound
from core.money import format_yuan
from exchange import queries
from exchange.actions import annulment, controls, leases, limits
from exchange.api import shapes
from exchange.api.markets import market_or_404
from exchange.api.parameters import whole_number
from exchange.models import Annulment, Intervention, Lease, SurveillanceFinding, TradingLimits, TradingStop
from identity.api.base import ApiView

SHOWN_INTERVENTIONS = 100


class MarketControlIn(StrictSerializer):
    action = serializers.ChoiceField(choices=["halt", "resume", "kill"])
    reason = serializers.CharField(max_length=controls.LONGEST_REASON)


class InterventionOut(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=["halt", "resume", "mass_cancel", "lease_expired", "annul"])
    organization = serializers.IntegerField(allow_null=True)
    requested_at = serializers.DateTimeField()
    sequence = serializers.IntegerField(allow_null=True, help_text="The journal entry; null while it is due.")
    refused = serializers.CharField()


class MarketControlsOut(serializers.Serializer[Any]):
    market = shapes.MarketOut()
    interventions = InterventionOut(many=True)


class OrganizationControlIn(StrictSerializer):
    action = serializers.ChoiceField(choices=["stop", "allow"])
    reason = serializers.CharField(max_length=controls.LONGEST_REASON)
    market = serializers.IntegerField(required=False, allow_null=True, default=None, min_value=1, max_value=2**31 - 1)


class StopOut(serializers.Serializer[Any]):
    market = serializers.IntegerField(allow_null=True, help_text="null: all markets.")
    reason = serializers.CharField()
    since = serializers.DateTimeField()


class OrganizationControlsOut(serializers.Serializer[Any]):
    organization = serializers.IntegerField()
    stops = StopOut(many=True)


class LeaseIn(StrictSerializer):
    seconds = serializers.IntegerField(default=30, min_value=leases.SHORTEST_SECONDS, max_value=leases.LONGEST_SECONDS)


class LeaseOut(serializers.Serializer[Any]):
    begun_at = serializers.DateTimeField()
    renewed_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class LimitsIn(StrictSerializer):
    organization = serializers.IntegerField(required=False, allow_null=True, default=None, min_value=1)
    order_quantity = TokensField(required=False, allow_null=True, default=None)
    order_value = YuanField(required=False, allow_null=True, default=None)
    price_distance_thousandths = serializers.IntegerField(
        required=False, allow_null=True, default=None, min_value=1, max_value=2**31 - 1
    )
    orders_per_minute = serializers.IntegerField(
        required=False, allow_null=True, default=None, min_value=1, max_value=2**31 - 1
    )
    position_quantity = TokensField(required=False, allow_null=True, default=None)


class LimitsOut(serializers.Serializer[Any]):
    organization = serializers.IntegerField(allow_null=True, help_text="null: the house's limits.")
    order_quantity = serializers.IntegerField(allow_null=True)
    order_value = serializers.CharField(allow_null=True)
    price_distance_thousandths = serializers.IntegerField(allow_null=True)
    orders_per_minute = serializers.IntegerField(allow_null=True)
    position_quantity = serializers.IntegerField(allow_null=True)


class OperatorView(ApiView):
    """A view that is there for the operator alone; to everybody else it is not there."""

    def operator_or_404(self) -> None:
        """
        Pass the operator.

        :raises NotFound: for anybody else.
        """
        if not self.actor.is_operator:
            raise NotFound("There is no such address.")
        self.actor.require("operate")


class MarketControls(OperatorView):
    """Halt, resume and kill switch of one market (operator)."""

    scopes = {"GET": "read", "POST": "read"}

    @extend_schema(responses=MarketControlsOut)
    def get(self, request: Request, market_id: int) -> Response:
        """Show whether a market is halted, and what has been done to it, the latest first."""
        self.operator_or_404()
        return Response(self._show(market_id))

    @extend_schema(request=MarketControlIn, responses={201: MarketControlsOut})
    def post(self, request: Request, market_id: int) -> Response:
        """Halt or resume a market, or kill it: halt and cancel all its orders."""
        self.operator_or_404()
        fields = self.parse(MarketControlIn)
        act = {
            "halt": controls.halt_market, "resume": controls.resume_market, "kill": controls.kill_market,
        }[fields["action"]]  # fmt: skip

        def perform() -> dict[str, Any]:
            act(market_id=market_id, reason=fields["reason"], now=self.now, actor=self.actor)
            return self._show(market_id)

        return self.once(perform)

    def _show(self, market_id: int) -> dict[str, Any]:
        market = market_or_404(market_id)
        rows = Intervention.objects.filter(market=market).order_by("-pk")[:SHOWN_INTERVENTIONS]
        return {
            "market": shapes.show_market(market),
            "interventions": [
                {
                    "kind": Intervention.Kind(row.kind).name.lower(),
                    "organization": row.organization_id,
                    "requested_at": row.requested_at,
                    "sequence": row.sequence,
                    "refused": row.refused,
                }
                for row in rows
            ],
        }


class OrganizationControls(OperatorView):
    """The kill switch of one organization (operator)."""

    scopes = {"GET": "read", "POST": "read"}

    @extend_schema(responses=OrganizationControlsOut)
    def get(self, request: Request, organization_id: int) -> Response:
        """Show where an organization's trading is stopped."""
        self.operator_or_404()
        return Response(self._show(organization_id))

    @extend_schema(request=OrganizationControlIn, responses={201: OrganizationControlsOut})
    def post(self, request: Request, organization_id: int) -> Response:
        """Stop an organization's trading (its open orders are cancelled, new ones refused), or allow it again."""
        self.operator_or_404()
        fields = self.parse(OrganizationControlIn)
        act = controls.stop_trading if fields["action"] == "stop" else controls.allow_trading

        def perform() -> dict[str, Any]:
            act(
                organization_id=organization_id, market_id=fields["market"], reason=fields["reason"], now=self.now,
                actor=self.actor,
            )  # fmt: skip
            return self._show(organization_id)

        return self.once(perform)

    def _show(self, organization_id: int) -> dict[str, Any]:
        self.subject(organization_id)
        rows = TradingStop.objects.filter(organization_id=organization_id, ended_at__isnull=True).order_by("pk")
        return {
            "organization": organization_id,
            "stops": [{"market": row.market_id, "reason": row.reason, "since": row.since} for row in rows],
        }


class AnnulmentIn(StrictSerializer):
    action = serializers.ChoiceField(choices=["request", "confirm"])
    reason = serializers.CharField(required=False, default="", max_length=annulment.LONGEST_REASON)


class AnnulmentOut(serializers.Serializer[Any]):
    auction = serializers.IntegerField()
    status = serializers.ChoiceField(choices=["requested", "confirmed", "annulled", "refused"])
    reason = serializers.CharField()
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField()
    confirmed_by = serializers.CharField()
    confirmed_at = serializers.DateTimeField(allow_null=True)
    refused = serializers.CharField(help_text="Why it could not be done.")


class AuctionAnnulment(OperatorView):
    """The annulment of one auction, by two operators."""

    scopes = {"GET": "read", "POST": "read"}

    @extend_schema(responses=AnnulmentOut)
    def get(self, request: Request, auction_id: int) -> Response:
        """Show how far an auction's annulment is."""
        self.operator_or_404()
        row = Annulment.objects.select_related("intervention").filter(pk=auction_id).first()
        if row is None:
            raise NotFound("Nobody has asked for the annulment of such an auction.")
        return Response(_annulment(row))

    @extend_schema(request=AnnulmentIn, responses={201: AnnulmentOut})
    def post(self, request: Request, auction_id: int) -> Response:
        """Ask for an auction's annulment, or confirm it as another operator, before gate closure."""
        self.operator_or_404()
        fields = self.parse(AnnulmentIn)

        def perform() -> dict[str, Any]:
            if fields["action"] == "confirm":
                row = annulment.confirm_annulment(auction_id=auction_id, now=self.now, actor=self.actor)
            else:
                row = annulment.request_annulment(
                    auction_id=auction_id, reason=fields["reason"], now=self.now, actor=self.actor
                )
            return _annulment(row)

        return self.once(perform)


class FindingOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    rule = serializers.ChoiceField(choices=SurveillanceFinding.Rule.values)
    market = serializers.IntegerField()
    organization = serializers.IntegerField()
    counterparty = serializers.IntegerField(allow_null=True)
    figures = serializers.JSONField(help_text="What the rule went by.")
    found_at = serializers.DateTimeField()


FindingPage = shapes.page_of(FindingOut, "FindingPage")


class Surveillance(OperatorView):
    """What surveillance found (operator)."""

    scopes = {"GET": "read"}

    @extend_schema(
        responses=FindingPage,
        parameters=[OpenApiParameter("rule", str), OpenApiParameter("market", int)],
        operation_id="surveillance_list",
    )
    def get(self, request: Request) -> Response:
        """List findings, the latest first: late withdrawals, matched counterparties, trades around the index window."""
        self.operator_or_404()
        rule = request.query_params.get("rule") or None
        if rule is not None and rule not in SurveillanceFinding.Rule.values:
            raise BadRequest(f"rule is one of {', '.join(SurveillanceFinding.Rule.values)}.", field="rule")
        rows = queries.surveillance_findings(rule=rule, market_id=whole_number(request, "market"))
        return Response(page(request, rows, _finding))


class Leases(ApiView):
    """One's lease: heartbeats that keep orders with `cancel_on_disconnect` alive."""

    scopes = {"GET": "read", "POST": "trade", "DELETE": "trade"}

    @extend_schema(responses=LeaseOut)
    def get(self, request: Request) -> Response:
        """Show one's lease."""
        row = Lease.objects.filter(pk=self.actor.organization_id).first()
        if row is None:
            raise NotFound("There is no lease; POST /v1/leases begins one.")
        return Response(_lease(row))

    @extend_schema(request=LeaseIn, responses={201: LeaseOut})
    def post(self, request: Request) -> Response:
        """Begin or renew one's lease. When it runs out, the orders under it are cancelled."""
        seconds = self.parse(LeaseIn)["seconds"]
        return self.once(
            lambda: _lease(leases.renew_lease(organization=self.actor.organization, seconds=seconds, now=self.now))
        )

    @extend_schema(responses={201: LeaseOut})
    def delete(self, request: Request) -> Response:
        """End one's lease now: the orders under it are cancelled."""

        def perform() -> dict[str, Any]:
            leases.end_lease(organization_id=self.actor.organization_id, now=self.now)
            row = Lease.objects.filter(pk=self.actor.organization_id).first()
            if row is None:
                raise NotFound("There is no lease to end.")
            return _lease(row)

        return self.once(perform)


class LimitsView(ApiView):
    """Pre-trade limits: one's own to read; the operator's to set."""

    scopes = {"GET": "read", "POST": "operate"}

    @extend_schema(responses=LimitsOut, parameters=[OpenApiParameter("organization", int)])
    def get(self, request: Request) -> Response:
        """Show the limits that hold for one's orders; the operator may name an organization."""
        organization = self.subject(whole_number(request, "organization"))
        rows = TradingLimits.objects.filter(organization=organization)
        row = rows.first() or TradingLimits.objects.filter(organization__isnull=True).first() or TradingLimits()
        return Response(_limits(row))

    @extend_schema(request=LimitsIn, responses={201: LimitsOut})
    def post(self, request: Request) -> Response:
        """Set an organization's limits, or the house's (operator). What is left out is no limit."""
        if not self.actor.is_operator:
            raise BadRequest("Limits are the operator's to set.")
        fields = self.parse(LimitsIn)
        values = {
            "order_tokens": fields["order_quantity"],
            "order_value_micro": fields["order_value"],
            "price_distance_thousandths": fields["price_distance_thousandths"],
            "orders_per_minute": fields["orders_per_minute"],
            "position_tokens": fields["position_quantity"],
        }
        return self.once(
            lambda: _limits(
                limits.set_limits(organization_id=fields["organization"], limits=values, now=self.now, actor=self.actor)
            )
        )


def _finding(row: SurveillanceFinding) -> dict[str, Any]:
    return {
        "id": row.pk,
        "rule": row.rule,
        "market": row.market_id,
        "organization": row.organization_id,
        "counterparty": row.counterparty_id,
        "figures": row.figures,
        "found_at": row.found_at,
    }


def _annulment(row: Annulment) -> dict[str, Any]:
    refused = row.intervention.refused if row.intervention is not None else ""
    status = "requested" if not row.confirmed_by else "annulled" if row.sequence else "confirmed"
    return {
        "auction": row.pk,
        "status": "refused" if refused else status,
        "reason": row.reason,
        "requested_by": row.requested_by,
        "requested_at": row.requested_at,
        "confirmed_by": row.confirmed_by,
        "confirmed_at": row.confirmed_at,
        "refused": refused,
    }


def _lease(row: Lease) -> dict[str, Any]:
    return {
        "begun_at": row.begun_at,
        "renewed_at": row.renewed_at,
        "expires_at": row.expires_at,
        "ended_at": row.ended_at,
    }


def _limits(row: TradingLimits) -> dict[str, Any]:
    value = row.order_value_micro
    return {
        "organization": row.organization_id,
        "order_quantity": row.order_tokens,
        "order_value": None if value is None else format_yuan(value),
        "price_distance_thousandths": row.price_distance_thousandths,
        "orders_per_minute": row.orders_per_minute,
        "position_quantity": row.position_tokens,
    }
