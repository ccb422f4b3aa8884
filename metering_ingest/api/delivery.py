"""Non-delivery over HTTP: what providers withdraw after the gate, and what buyers claim."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import StrictSerializer, TokensField
from core.errors import NotFound
from exchange.api.parameters import whole_number
from exchange.contract_queries import shortfalls_readable
from exchange.models import Shortfall
from identity.api.base import ApiView
from metering_ingest import queries
from metering_ingest.actions import claims, withdrawals
from metering_ingest.models import Claim


class ReplacementOut(serializers.Serializer[Any]):
    contract = serializers.IntegerField(help_text="The contract that delivers instead.")
    quantity = serializers.IntegerField()


class ShortfallOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    contract = serializers.IntegerField()
    cause = serializers.CharField(help_text="withdrawn by the provider, or a claim of the buyer that was found so.")
    quantity = serializers.IntegerField()
    replaced = serializers.IntegerField()
    penalty_thousandths = serializers.IntegerField(help_text="Share of the price owed for what is not replaced.")
    reported_at = serializers.DateTimeField()
    begins_at = serializers.DateTimeField(allow_null=True)
    note = serializers.CharField()
    replacements = ReplacementOut(many=True)


class ShortfallsOut(serializers.Serializer[Any]):
    items = ShortfallOut(many=True)


class ShortfallPage(serializers.Serializer[Any]):
    items = ShortfallOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ShortfallIn(StrictSerializer):
    contract = serializers.IntegerField(required=False, min_value=1, max_value=2**62)
    capacity = serializers.IntegerField(
        required=False, min_value=1, max_value=2**62, help_text="Instead of a contract: all that it serves, in part."
    )
    quantity = TokensField(help_text="Standard tokens, in lots of 1,000.")
    begins_at = serializers.DateTimeField(required=False, help_text="An hour ahead, it halves the penalty.")
    note = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class ClaimOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    contract = serializers.IntegerField()
    buyer = serializers.IntegerField()
    provider = serializers.IntegerField()
    state = serializers.CharField(help_text="open, accepted, upheld or rejected.")
    quantity = serializers.IntegerField()
    found_quantity = serializers.IntegerField(allow_null=True, help_text="What was found undelivered.")
    requests = serializers.ListField(child=serializers.CharField())
    metered = serializers.IntegerField(help_text="How many of them the provider's meters have on record as served.")
    note = serializers.CharField()
    made_at = serializers.DateTimeField()
    ruling_note = serializers.CharField()
    ruled_at = serializers.DateTimeField(allow_null=True)


class ClaimPage(serializers.Serializer[Any]):
    items = ClaimOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ClaimIn(StrictSerializer):
    contract = serializers.IntegerField(min_value=1, max_value=2**62)
    requests = serializers.ListField(
        child=serializers.CharField(max_length=200), max_length=claims.MOST_REQUESTS, allow_empty=False
    )
    quantity = TokensField(help_text="What the requests would have been, in standard tokens.")
    note = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")


class AcceptanceIn(StrictSerializer):
    note = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")


class RulingIn(StrictSerializer):
    verdict = serializers.ChoiceField(choices=["upheld", "rejected"])
    quantity = TokensField(required=False, allow_null=True, default=None, help_text="A part of what was claimed.")
    note = serializers.CharField(max_length=500)


def show_shortfall(row: Shortfall) -> dict[str, Any]:
    return {
        "id": row.pk, "contract": row.contract_id, "cause": row.cause, "quantity": row.quantity_tokens,
        "replaced": row.replaced_tokens, "penalty_thousandths": row.penalty_thousandths,
        "reported_at": row.reported_at, "begins_at": row.begins_at, "note": row.note,
        "replacements": [
            {"contract": one.new_lot.contract_id, "quantity": one.quantity_tokens}
            for one in row.replacements.select_related("new_lot").order_by("pk")
        ],
    }  # fmt: skip


def show_claim(row: Claim) -> dict[str, Any]:
    ruling = getattr(row, "ruling", None)
    return {
        "id": row.pk, "contract": row.contract_id, "buyer": row.contract.buyer_id,
        "provider": row.contract.provider_id, "state": ruling.verdict if ruling else "open",
        "quantity": row.quantity_tokens, "found_quantity": ruling.quantity_tokens if ruling else None,
        "requests": list(row.requests.order_by("pk").values_list("request_id", flat=True)), "metered": row.metered,
        "note": row.note, "made_at": row.made_at, "ruling_note": ruling.note if ruling else "",
        "ruled_at": ruling.ruled_at if ruling else None,
    }  # fmt: skip


class Shortfalls(ApiView):
    """What providers did not make available, seen by both sides."""

    scopes = {"GET": "read", "POST": "trade"}

    @extend_schema(
        responses=ShortfallPage, parameters=[OpenApiParameter("contract", int)], operation_id="shortfalls_list"
    )
    def get(self, request: Request) -> Response:
        """List shortfalls of one's contracts, the newest first."""
        rows = shortfalls_readable(self.actor)
        contract_id = whole_number(request, "contract")
        if contract_id is not None:
            rows = rows.filter(contract_id=contract_id)
        return Response(page(request, rows, show_shortfall))

    @extend_schema(request=ShortfallIn, responses={201: ShortfallsOut})
    def post(self, request: Request) -> Response:
        """
        Withdraw sold tokens after gate closure, of a contract or of all that a capacity serves.

        They are replaced by the cheapest unsold offers where there are any, at the provider's cost; what is not
        replaced is refunded with a penalty.
        """
        fields = self.parse(ShortfallIn)

        def report() -> dict[str, Any]:
            rows = withdrawals.report_shortfall(
                provider_id=self.actor.organization_id, quantity_tokens=fields["quantity"],
                contract_id=fields.get("contract"), capacity_id=fields.get("capacity"),
                begins_at=fields.get("begins_at"), note=fields["note"], now=self.now,
            )  # fmt: skip
            return {"items": [show_shortfall(row) for row in rows]}

        return self.once(report)


class Claims(ApiView):
    """Claims of either side."""

    scopes = {"GET": "read", "POST": "trade"}

    @extend_schema(responses=ClaimPage, parameters=[OpenApiParameter("contract", int)], operation_id="claims_list")
    def get(self, request: Request) -> Response:
        """List claims that one made, or that are made on one, the newest first."""
        rows = queries.claims_readable(self.actor)
        contract_id = whole_number(request, "contract")
        if contract_id is not None:
            rows = rows.filter(contract_id=contract_id)
        return Response(page(request, rows, show_claim))

    @extend_schema(request=ClaimIn, responses={201: ClaimOut})
    def post(self, request: Request) -> Response:
        """Claim that requests of a contract failed, by their ids (buyer); until the window's grace is over."""
        fields = self.parse(ClaimIn)
        return self.once(
            lambda: show_claim(
                claims.make_claim(
                    contract_id=fields["contract"], buyer_id=self.actor.organization_id,
                    request_ids=fields["requests"], quantity_tokens=fields["quantity"], note=fields["note"],
                    now=self.now,
                )
            )
        )  # fmt: skip


class ClaimView(ApiView):
    """What one claim's addresses share."""

    def shown(self, claim_id: int) -> dict[str, Any]:
        """Return a claim that the actor may see."""
        row = queries.claims_readable(self.actor).filter(pk=claim_id).first()
        if row is None:
            raise NotFound("There is no such claim.", field="claim")
        return show_claim(row)


class ClaimDetail(ClaimView):
    """One claim."""

    scopes = {"GET": "read"}

    @extend_schema(responses=ClaimOut, operation_id="claims_retrieve")
    def get(self, request: Request, claim_id: int) -> Response:
        """Show a claim and what was decided of it."""
        return Response(self.shown(claim_id))


class ClaimAcceptance(ClaimView):
    """The provider's answer."""

    scopes = {"POST": "trade"}

    @extend_schema(request=AcceptanceIn, responses={201: ClaimOut})
    def post(self, request: Request, claim_id: int) -> Response:
        """Accept a claim as its provider: its tokens are refunded, with the penalty."""
        self.shown(claim_id)
        fields = self.parse(AcceptanceIn)

        def accept() -> dict[str, Any]:
            claims.accept_claim(
                claim_id=claim_id, provider=self.actor.organization, quantity_tokens=None, note=fields["note"],
                now=self.now,
            )  # fmt: skip
            return self.shown(claim_id)

        return self.once(accept)


class ClaimRulingView(ClaimView):
    """The operator's ruling."""

    scopes = {"POST": "read"}  # to a stranger it is not there; whoever sees it still needs `operate`

    @extend_schema(request=RulingIn, responses={201: ClaimOut}, operation_id="claims_ruling_create")
    def post(self, request: Request, claim_id: int) -> Response:
        """Uphold a claim, whole or in part, or reject it (operator)."""
        self.shown(claim_id)
        self.actor.require("operate")
        fields = self.parse(RulingIn)

        def rule() -> dict[str, Any]:
            claims.rule_on_claim(
                claim_id=claim_id, operator=self.actor.organization, upheld=fields["verdict"] == "upheld",
                quantity_tokens=fields["quantity"], note=fields["note"], now=self.now,
            )  # fmt: skip
            return self.shown(claim_id)

        return self.once(rule)
