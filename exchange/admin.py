"""The operator's console: what happened in the markets, to look at."""

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from exchange.models import (
    AuctionResult,
    Command,
    ContractLot,
    DeliveryContract,
    JournalEntry,
    Market,
    MarketPosition,
    Offer,
    Shortfall,
    Trade,
)


class LookOnly(ModelAdmin):  # type: ignore[misc]
    """Rows that only actions change."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Market)
class MarketAdmin(LookOnly):
    list_display = ("id", "grade", "window_start", "window_end", "mode", "phase", "halted", "last_sequence")
    list_filter = ("phase", "mode", "grade")
    date_hierarchy = "window_start"
    list_select_related = ("grade",)


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
class AuctionResultAdmin(LookOnly):
    list_display = ("id", "market", "kind", "price_nano", "volume_tokens", "surplus_tokens", "rule", "thin")
    list_filter = ("kind", "rule", "thin")
    list_select_related = ("market__grade",)


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
