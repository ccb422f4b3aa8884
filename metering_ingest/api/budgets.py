"""Budgets of an organization, its keys and tags; and authorizations, which a gateway asks for before a call."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import PriceField, StrictSerializer, TokensField, YuanField
from core.errors import NotFound
from core.money import MICRO_PER_TOKEN, format_price, format_tokens, format_yuan
from exchange.contract_queries import contracts_readable
from identity.access import Actor
from identity.api.base import ApiView
from metering_ingest import budget_queries as queries
from metering_ingest.actions import authorizations, budgets
from metering_ingest.actions.budgets import BadBudget
from metering_ingest.models import Authorization, Budget, BudgetWindow

Text = serializers.CharField


class BudgetIn(StrictSerializer):
    subject = serializers.CharField(max_length=12, help_text="organization, key or tag.")
    key = Text(max_length=256, required=False, help_text="For a key's budget: as the gateway names its keys.")
    tag = Text(max_length=256, required=False, help_text="For a tag's budget: its name.")
    value = Text(max_length=256, required=False, help_text="For a tag's budget: its value.")
    period = serializers.CharField(max_length=8, help_text="day, month (both in Shanghai) or contract.")
    standard_tokens = TokensField(required=False, min_value=0)
    yuan = YuanField(required=False, allow_zero=True)
    hard = serializers.BooleanField(required=False, default=False, help_text="Refuse authorizations beyond it.")
    alert_thousandths = serializers.ListField(
        child=serializers.IntegerField(), required=False, max_length=10, default=lambda: [800, 1_000]
    )


class BudgetChangeIn(StrictSerializer):
    standard_tokens = TokensField(required=False, min_value=0)
    yuan = YuanField(required=False, allow_zero=True)
    hard = serializers.BooleanField(required=False)
    alert_thousandths = serializers.ListField(child=serializers.IntegerField(), required=False, max_length=10)


class BudgetWindowOut(serializers.Serializer[Any]):
    start = serializers.DateTimeField()
    contract = serializers.IntegerField(allow_null=True)
    held = Text(help_text="Reserved by open authorizations.")
    settled = Text(help_text="Used by settled ones.")
    overrun = Text(help_text="Of that, what exceeded its reservation.")
    metered = Text(help_text="What the meters say was used; the larger of both counts.")
    left = Text()
    alerts = serializers.ListField(child=serializers.IntegerField(), help_text="Shares reached, in thousandths.")


class BudgetOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    organization = serializers.IntegerField()
    subject = Text()
    key = Text(allow_null=True)
    tag = Text(allow_null=True)
    value = Text(allow_null=True)
    period = Text()
    unit = Text(help_text="tokens (standard tokens) or yuan; what all amounts are in.")
    limit = Text()
    hard = serializers.BooleanField()
    alert_thousandths = serializers.ListField(child=serializers.IntegerField())
    created_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    windows = BudgetWindowOut(many=True, help_text="The running period; of a budget per contract the last ten.")


class BudgetPage(serializers.Serializer[Any]):
    items = BudgetOut(many=True)
    next_cursor = Text(allow_null=True)


class AuthorizationIn(StrictSerializer):
    standard_tokens = TokensField(help_text="The most that the call may use.")
    contract = serializers.IntegerField(min_value=1, required=False, allow_null=True)
    key = Text(
        max_length=256, required=False, help_text="Who calls, as the gateway names it; this API key's id if left out."
    )
    tags = serializers.DictField(child=Text(max_length=256), required=False, default=dict)
    max_price = PriceField(required=False, allow_null=True, help_text="¥ per standard token, where no contract says.")
    lifetime_seconds = serializers.IntegerField(min_value=1, max_value=86_400, required=False, default=600)


class SettleIn(StrictSerializer):
    standard_tokens = serializers.DecimalField(
        max_digits=19, decimal_places=6, min_value=0, help_text='What the call used, as text: "812.5".'
    )


class AuthorizationOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    state = Text(help_text="open, settled or expired.")
    key = Text()
    tags = serializers.DictField(child=Text())
    contract = serializers.IntegerField(allow_null=True)
    standard_tokens = Text()
    used_standard_tokens = Text(allow_null=True)
    price = Text(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)


class AuthorizationPage(serializers.Serializer[Any]):
    items = AuthorizationOut(many=True)
    next_cursor = Text(allow_null=True)


def show_budget(row: Budget, windows: list[BudgetWindow]) -> dict[str, Any]:
    show = format_tokens if row.unit == Budget.Unit.TOKENS else format_yuan
    of_key = row.subject == Budget.Subject.KEY
    return {
        "id": row.pk, "organization": row.organization_id, "subject": row.subject,
        "key": row.value if of_key else None, "tag": None if of_key else row.tag or None,
        "value": None if of_key else row.value or None, "period": row.period, "unit": row.unit,
        "limit": show(row.limit), "hard": row.hard, "alert_thousandths": row.alert_thousandths,
        "created_at": row.created_at, "closed_at": row.closed_at,
        "windows": [
            {
                "start": w.start, "contract": w.contract_id or None, "held": show(w.held), "settled": show(w.settled),
                "overrun": show(w.overrun), "metered": show(w.metered),
                "left": show(max(0, row.limit - w.used - w.held)),
                "alerts": sorted(alert.share_thousandths for alert in w.alerts.all()),
            }
            for w in windows
        ],
    }  # fmt: skip


def show_authorization(row: Authorization) -> dict[str, Any]:
    return {
        "id": row.pk, "state": row.state, "key": row.key, "tags": row.tags, "contract": row.contract_id,
        "standard_tokens": format_tokens(row.quantity_micro_st),
        "used_standard_tokens": None if row.used_micro_st is None else format_tokens(row.used_micro_st),
        "price": None if row.price_nano is None else format_price(row.price_nano),
        "created_at": row.created_at, "expires_at": row.expires_at, "closed_at": row.closed_at,
    }  # fmt: skip


def _choice(name: str, value: str, choices: list[str]) -> str:
    if value not in choices:
        raise BadBudget(f"{name} is one of {', '.join(choices)}.", field=name)
    return value


def _limit(wanted: dict[str, Any], *, required: bool) -> tuple[str, int] | None:
    tokens, yuan = wanted.pop("standard_tokens", None), wanted.pop("yuan", None)
    if (tokens is not None and yuan is not None) or (required and tokens is None and yuan is None):
        raise BadBudget("Limit either standard_tokens or yuan; two limits are two budgets.", field="standard_tokens")
    if tokens is not None:
        if tokens > 10**12:
            raise BadBudget("A budget has at most 10¹² standard tokens.", field="standard_tokens")
        return Budget.Unit.TOKENS.value, tokens * MICRO_PER_TOKEN
    return None if yuan is None else (Budget.Unit.YUAN.value, yuan)


class Budgets(ApiView):
    """What an organization limits."""

    scopes = {"GET": "read", "POST": "billing"}

    @extend_schema(operation_id="budgets_list", responses=BudgetPage)
    def get(self, request: Request) -> Response:
        """List budgets with the state of their running periods, the newest first."""
        return Response(page(request, queries.budgets_readable(self.actor), self.show))

    @extend_schema(operation_id="budgets_set", request=BudgetIn, responses={201: BudgetOut})
    def post(self, request: Request) -> Response:
        """Limit what the organization, a key or a tag may use in a period."""
        wanted = self.parse(BudgetIn)
        limit = _limit(wanted, required=True)
        assert limit is not None
        subject = _choice("subject", wanted["subject"], Budget.Subject.values)
        period = _choice("period", wanted["period"], Budget.PeriodKind.values)
        of_key = subject == Budget.Subject.KEY
        if of_key and ("tag" in wanted or "value" in wanted):
            raise BadBudget("A key's budget names its key, and no tag.", field="tag")
        if not of_key and "key" in wanted:
            raise BadBudget("Only a key's budget names a key.", field="key")
        return self.once(
            lambda: self.show(
                budgets.set_budget(
                    organization=self.actor.organization, subject=subject, tag=wanted.get("tag", ""),
                    value=wanted.get("key" if of_key else "value", ""), period=period, unit=limit[0], limit=limit[1],
                    hard=wanted["hard"], alert_thousandths=wanted["alert_thousandths"], now=self.now,
                )
            )
        )  # fmt: skip

    def show(self, row: Budget) -> dict[str, Any]:
        """Show a budget with its running period."""
        return show_budget(row, queries.running_windows(row, self.now))


class BudgetDetail(Budgets):
    """One budget."""

    scopes = {"GET": "read", "PATCH": "billing", "DELETE": "billing"}
    http_method_names = ["get", "patch", "delete", "options"]

    @extend_schema(operation_id="budgets_read", responses=BudgetOut)
    def get(self, request: Request, budget_id: int = 0) -> Response:
        """Show a budget with the state of its running period."""
        return Response(self.show(self._find(budget_id)))

    @extend_schema(operation_id="budgets_change", request=BudgetChangeIn, responses=BudgetOut)
    def patch(self, request: Request, budget_id: int) -> Response:
        """Change the limit (in its unit), whether it is hard, or its alerts."""
        row = self._own(budget_id)
        changes = self.parse(BudgetChangeIn)
        limit = _limit(changes, required=False)
        if limit is not None:
            if limit[0] != row.unit:
                raise BadBudget("The unit of a budget stays; set another budget.", field=f"{limit[0]}")
            changes["limit"] = limit[1]
        return self.once(lambda: self.show(budgets.change_budget(budget=row, changes=changes)), status=200)

    @extend_schema(operation_id="budgets_close", request=None, responses=BudgetOut)
    def delete(self, request: Request, budget_id: int) -> Response:
        """Close a budget: it limits nothing any more."""
        row = self._own(budget_id)
        return self.once(lambda: self.show(budgets.close_budget(budget=row, now=self.now)), status=200)

    def _find(self, budget_id: int) -> Budget:
        row = queries.budgets_readable(self.actor).filter(pk=budget_id).first()
        if row is None:
            raise NotFound("There is no such budget.")
        return row

    def _own(self, budget_id: int) -> Budget:
        row = self._find(budget_id)
        if row.organization_id != self.actor.organization_id:
            raise NotFound("There is no such budget of yours.")
        return row


class _ForGateways(ApiView):
    """Open to keys that trade, and to the key of a gateway's meter: whoever makes the calls."""

    scopes = {"GET": "read", "POST": "trade"}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if isinstance(request.auth, Actor) and request.auth.meter_id is not None:
            self.scopes = {"GET": "meter", "POST": "meter"}  # type: ignore[misc]  # of this request alone
        super().initial(request, *args, **kwargs)

    def find(self, authorization_id: UUID) -> Authorization:
        """Return the authorization. :raises NotFound: of others."""
        row = queries.authorizations_readable(self.actor).filter(pk=authorization_id).first()
        if row is None:
            raise NotFound("There is no such authorization.")
        return row


class Authorizations(_ForGateways):
    """Permissions to use so much, reserved in the budgets that the call falls under."""

    @extend_schema(
        operation_id="authorizations_list", responses=AuthorizationPage,
        parameters=[OpenApiParameter("state", OpenApiTypes.STR, enum=Authorization.State.values)],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List authorizations, the newest first."""
        rows = queries.authorizations_readable(self.actor)
        if state := request.query_params.get("state"):
            rows = rows.filter(state=_choice("state", state, Authorization.State.values))
        return Response(page(request, rows, show_authorization))

    @extend_schema(operation_id="authorizations_ask", request=AuthorizationIn, responses={201: AuthorizationOut})
    def post(self, request: Request) -> Response:
        """
        Reserve what a call may use at most, before it is made; 409 `budget-exceeded` when a hard budget has not got it.

        Settle it with what was used; what nobody settles in its lifetime is given back.
        """
        wanted = self.parse(AuthorizationIn)
        contract = None
        if wanted.get("contract") is not None:
            contract = contracts_readable(self.actor).filter(
                pk=wanted["contract"], buyer=self.actor.organization
            ).first()  # fmt: skip
            if contract is None:
                raise NotFound("There is no such contract of yours.", field="contract")
        if wanted["standard_tokens"] > 10**12:
            raise BadBudget("A call uses at most 10¹² standard tokens.", field="standard_tokens")
        return self.once(
            lambda: show_authorization(
                authorizations.authorize(
                    organization=self.actor.organization,
                    quantity_micro_st=wanted["standard_tokens"] * MICRO_PER_TOKEN,
                    key=wanted.get("key") or str(self.actor.api_key_id or ""), tags=wanted["tags"], contract=contract,
                    max_price_nano=wanted.get("max_price"),
                    lifetime=timedelta(seconds=wanted["lifetime_seconds"]), now=self.now,
                )
            )
        )  # fmt: skip


class AuthorizationDetail(_ForGateways):
    """One authorization."""

    @extend_schema(operation_id="authorizations_read", responses=AuthorizationOut)
    def get(self, request: Request, authorization_id: UUID) -> Response:
        """Show what became of it."""
        return Response(show_authorization(self.find(authorization_id)))


class AuthorizationSettle(_ForGateways):
    """The end of an authorization."""

    @extend_schema(operation_id="authorizations_settle", request=SettleIn, responses={201: AuthorizationOut})
    def post(self, request: Request, authorization_id: UUID) -> Response:
        """Say what the call used: 0 gives all back. More than was reserved is counted, as overrun."""
        row = self.find(authorization_id)
        if row.organization_id != self.actor.organization_id:
            raise NotFound("There is no such authorization of yours.")
        used = int(self.parse(SettleIn)["standard_tokens"] * MICRO_PER_TOKEN)
        return self.once(
            lambda: show_authorization(
                authorizations.settle_authorization(authorization_id=row.pk, used_micro_st=used, now=self.now)
            )
        )
