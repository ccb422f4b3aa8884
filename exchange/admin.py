"""The operator's console: what happened in the markets, to look at."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.forms import ActionForm

from core import clock
from core.errors import Problem
from core.transactions import durable
from exchange.actions import annulment, controls
from exchange.actions.limits import FIELDS, set_limits
from exchange.models import (
    Annulment,
    AuctionResult,
    Block,
    Command,
    ContractLot,
    DeliveryContract,
    Intervention,
    JournalEntry,
    Lease,
    Market,
    MarketPosition,
    Offer,
    Shortfall,
    SurveillanceFinding,
    Trade,
    TradingLimits,
    TradingStop,
)
from identity.access import Actor
from identity.console import LookOnly
from identity.models import User
from identity.page_forms import told
from identity.queries import actor_for_user


def operator_of(request: HttpRequest) -> Actor | None:
    """Return the operator that the signed-in person acts for, or None for anybody else."""
    actor = actor_for_user(request.user, None) if isinstance(request.user, User) else None
    return actor if actor is not None and actor.is_operator else None


class Operated(LookOnly):
    """Rows to look at, with actions for people who may operate."""

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return operator_of(request) is not None or bool(getattr(request.user, "is_superuser", False))

    def act(self, request: HttpRequest, label: object, work: Callable[[], object]) -> bool:
        """Do something to one row in its own transaction, and say so; what is refused is said instead."""
        try:
            durable(work)
        except Problem as problem:
            self.message_user(request, f"{label}: {told(problem)}", messages.ERROR)
            return False
        self.message_user(request, str(label), messages.SUCCESS)
        return True


class ReasonForm(ActionForm):  # type: ignore[misc]
    """An action and why it is taken, which is published with it."""

    reason = forms.CharField(
        required=False, max_length=controls.LONGEST_REASON, label=_("Reason, which everybody is told"),
        widget=forms.TextInput(attrs={"class": "reason", "autocomplete": "off"}),
    )  # fmt: skip


def reason_of(request: HttpRequest) -> str:
    """Return the reason typed beside the action; the actions refuse an empty one."""
    return request.POST.get("reason", "")


@admin.register(Market)
class MarketAdmin(Operated):
    action_form = ReasonForm
    actions = ("halt", "resume", "kill")
    list_display = ("id", "grade", "window_start", "window_end", "mode", "phase", "halted", "last_sequence")
    list_filter = ("phase", "mode", "grade")
    date_hierarchy = "window_start"
    list_select_related = ("grade",)

    @admin.action(description=_("Halt"), permissions=["operate"])
    def halt(self, request: HttpRequest, rows: QuerySet[Market]) -> None:
        self._each(request, rows, controls.halt_market)

    @admin.action(description=_("Resume"), permissions=["operate"])
    def resume(self, request: HttpRequest, rows: QuerySet[Market]) -> None:
        self._each(request, rows, controls.resume_market)

    @admin.action(description=_("Halt and cancel all orders"), permissions=["operate"])
    def kill(self, request: HttpRequest, rows: QuerySet[Market]) -> None:
        self._each(request, rows, controls.kill_market)

    def _each(self, request: HttpRequest, rows: QuerySet[Market], act: Callable[..., Market]) -> None:
        actor = operator_of(request)
        for market in rows.order_by("pk"):
            work = partial(act, market_id=market.pk, reason=reason_of(request), now=clock.now(), actor=actor)
            self.act(request, market, work)


@admin.register(TradingStop)
class TradingStopAdmin(Operated):
    """The kill switch of an organization: adding a row stops it, the action ends the stop."""

    list_display = ("organization", "market", "reason", "since", "ended_at")
    list_filter = (("ended_at", admin.EmptyFieldListFilter),)
    list_select_related = ("organization", "market__grade")
    raw_id_fields = ("organization", "market")
    fields = ("organization", "market", "reason")
    action_form = ReasonForm
    actions = ("allow",)

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return self.has_operate_permission(request)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name == "reason":
            field.help_text = _("Published on the page of notices without the member's name, and told to the member.")
        return field

    def save_model(self, request: HttpRequest, obj: TradingStop, form: Any, change: bool) -> None:
        stopped = durable(
            partial(
                controls.stop_trading, organization_id=obj.organization_id, market_id=obj.market_id,
                reason=obj.reason, now=clock.now(), actor=operator_of(request),
            )
        )  # fmt: skip
        obj.pk = stopped.pk

    @admin.action(description=_("Allow trading again"), permissions=["operate"])
    def allow(self, request: HttpRequest, rows: QuerySet[TradingStop]) -> None:
        actor = operator_of(request)
        for stop in rows.filter(ended_at__isnull=True).order_by("pk"):
            work = partial(
                controls.allow_trading, organization_id=stop.organization_id, market_id=stop.market_id,
                reason=reason_of(request), now=clock.now(), actor=actor,
            )  # fmt: skip
            self.act(request, stop, work)


@admin.register(TradingLimits)
class TradingLimitsAdmin(Operated):
    list_display = ("__str__", *FIELDS, "changed_at")
    list_select_related = ("organization",)
    raw_id_fields = ("organization",)
    fields = ("organization", *FIELDS)

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return self.has_operate_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return self.has_operate_permission(request)

    def get_readonly_fields(self, request: HttpRequest, obj: object = None) -> tuple[str, ...]:
        return () if obj is None else ("organization",)

    def save_model(self, request: HttpRequest, obj: TradingLimits, form: Any, change: bool) -> None:
        limits = {name: getattr(obj, name) for name in FIELDS}
        row = durable(
            partial(
                set_limits, organization_id=obj.organization_id, limits=limits, now=clock.now(),
                actor=operator_of(request),
            )
        )  # fmt: skip
        obj.pk = row.pk


@admin.register(Lease)
class LeaseAdmin(LookOnly):
    list_display = ("organization", "begun_at", "renewed_at", "expires_at", "ended_at")
    list_select_related = ("organization",)


@admin.register(Intervention)
class InterventionAdmin(LookOnly):
    list_display = ("id", "market", "kind", "organization", "requested_at", "sequence", "refused")
    list_filter = ("kind",)
    list_select_related = ("market__grade", "organization")


@admin.register(MarketPosition)
class MarketPositionAdmin(LookOnly):
    list_display = ("market", "organization", "capacity_tokens", "position_tokens", "open_sell_tokens")
    list_select_related = ("market__grade", "organization")
    raw_id_fields = ("market", "organization")


@admin.register(Command)
class CommandAdmin(LookOnly):
    list_display = ("id", "market_id", "organization", "kind", "side", "price_nano", "quantity_tokens", "accepted_at")
    list_filter = ("kind", "side")
    list_select_related = ("organization",)


@admin.register(JournalEntry)
class JournalEntryAdmin(LookOnly):
    list_display = ("id", "kind", "command_id", "outcome", "content", "occurred_at")
    list_filter = ("kind",)


@admin.register(Trade)
class TradeAdmin(LookOnly):
    list_display = ("id", "buyer", "seller", "quantity_tokens", "price_nano", "aggressor", "occurred_at")
    list_select_related = ("buyer", "seller")


@admin.register(AuctionResult)
class AuctionResultAdmin(Operated):
    action_form = ReasonForm
    actions = ("request_annulment", "confirm_annulment")
    list_display = ("id", "market", "kind", "price_nano", "volume_tokens", "surplus_tokens", "rule", "thin")
    list_filter = ("kind", "rule", "thin")
    list_select_related = ("market__grade",)

    @admin.action(description=_("Ask for annulment"), permissions=["operate"])
    def request_annulment(self, request: HttpRequest, rows: QuerySet[AuctionResult]) -> None:
        self._each(request, rows, partial(annulment.request_annulment, reason=reason_of(request)))

    @admin.action(description=_("Confirm annulment, as a second operator"), permissions=["operate"])
    def confirm_annulment(self, request: HttpRequest, rows: QuerySet[AuctionResult]) -> None:
        self._each(request, rows, annulment.confirm_annulment)

    def _each(self, request: HttpRequest, rows: QuerySet[AuctionResult], act: Callable[..., Annulment]) -> None:
        actor = operator_of(request)
        if actor is None:
            self.message_user(request, _("An annulment needs a person who acts for the operator."), messages.ERROR)
            return
        for auction in rows.order_by("pk"):
            self.act(request, auction, partial(act, auction_id=auction.pk, now=clock.now(), actor=actor))


@admin.register(SurveillanceFinding)
class SurveillanceFindingAdmin(LookOnly):
    list_display = ("found_at", "rule", "market", "organization", "counterparty", "figures")
    list_filter = ("rule",)
    list_select_related = ("market__grade", "organization", "counterparty")


@admin.register(Block)
class BlockAdmin(LookOnly):
    list_display = ("id", "organization", "call", "side", "limit_price_nano", "quantity_tokens", "least_tokens")
    list_select_related = ("organization", "call")


@admin.register(Annulment)
class AnnulmentAdmin(LookOnly):
    list_display = ("auction", "requested_by", "requested_at", "confirmed_by", "confirmed_at", "sequence", "reason")
    list_select_related = ("auction",)


class ContractLotInline(admin.TabularInline):  # type: ignore[type-arg]
    model = ContractLot
    extra = 0
    can_delete = False


@admin.register(DeliveryContract)
class DeliveryContractAdmin(LookOnly):
    list_display = ("id", "kind", "market", "buyer", "provider", "quantity_tokens", "window_start", "window_end")
    list_filter = ("kind", "grade")
    list_select_related = ("market__grade", "buyer", "provider")
    inlines = (ContractLotInline,)


@admin.register(Offer)
class OfferAdmin(LookOnly):
    list_display = ("capacity_id", "market", "state", "reason", "rolls_over", "updated_at")
    list_filter = ("state",)
    list_select_related = ("market__grade",)


@admin.register(Shortfall)
class ShortfallAdmin(LookOnly):
    list_display = ("id", "contract", "cause", "quantity_tokens", "reported_at", "source_key")
    list_filter = ("cause",)
    list_select_related = ("contract__buyer", "contract__provider")
