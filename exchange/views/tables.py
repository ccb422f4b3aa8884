"""The columns of the exchange's tables: what they are called, what sorts and narrows them, what they export."""

from typing import Any

from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from core.listing import Column, Filter, Table
from core.money import cost_micro, format_price, format_yuan
from exchange.models import Command

SIDES = ((str(Command.Side.BUY.value), _("Buy")), (str(Command.Side.SELL.value), _("Sell")))

#: What orders are called by what became of them.
STATUSES = {
    "pending": _("accepted, waiting its turn"), "open": _("open"), "partly_filled": _("partly filled"),
    "filled": _("filled"), "cancelled": _("cancelled"), "expired": _("expired"), "refused": _("refused"),
    "waiting": _("waiting for its stop price"),
}  # fmt: skip


def _price(price_nano: int | None) -> str:
    return format_price(price_nano) if price_nano else ""


def _of_market(market: Any) -> dict[str, Column]:
    """Return the columns of a row's market, which `market` finds; of the file alone, for a page links to it."""
    return {
        "market": Column("", lambda row: market(row).pk),
        "grade": Column("", lambda row: market(row).grade.slug),
        "window_start": Column("", lambda row: market(row).window_start),
        "window_end": Column("", lambda row: market(row).window_end),
    }


#: Rows are (OrderState, Market).
ORDERS = Table(
    name="orders",
    columns={
        "order": Column("", lambda row: row[0].id),
        **_of_market(lambda row: row[1]),
        "where": Column(_("Market"), lambda row: row[1].grade.name, "market_id"),
        "window": Column(_("Delivery window"), lambda row: row[1].window_start, left=True),
        "side": Column(_("Side"), lambda row: row[0].side, "side", left=True),
        "price": Column(_("¥ per token"), lambda row: _price(row[0].price_nano), "price_nano"),
        "quantity": Column(_("Tokens"), lambda row: row[0].quantity_tokens, "quantity_tokens"),
        "filled": Column(_("Filled"), lambda row: row[0].filled_tokens),
        "held": Column(_("Held"), lambda row: format_yuan(row[0].held_micro)),
        "state": Column(_("State"), lambda row: row[0].status, left=True),
        "reason": Column("", lambda row: row[0].reason),
        "placed": Column(_("Placed"), lambda row: row[0].command.accepted_at, "accepted_at"),
    },
    filters={
        "side": Filter(_("Side"), SIDES, lambda value: Q(side=value)),
        "kind": Filter(
            _("Type"), [(str(kind.value), kind.label) for kind in Command.ORDER_KINDS], lambda value: Q(kind=value)
        ),
    },
    time="accepted_at",
)  # fmt: skip


def trades_table(organization_id: int) -> Table:
    """Return the table of an organization's trades; rows are (Trade, Market)."""

    def side(row: Any) -> str:
        return "buy" if row[0].buyer_id == organization_id else "sell"

    return Table(
        name="trades",
        columns={
            "trade": Column("", lambda row: row[0].pk),
            **_of_market(lambda row: row[1]),
            "where": Column(_("Market"), lambda row: row[1].grade.name),
            "window": Column(_("Delivery window"), lambda row: row[1].window_start, left=True),
            "side": Column(_("Side"), side, left=True),
            "price": Column(_("¥ per token"), lambda row: format_price(row[0].price_nano), "price_nano"),
            "quantity": Column(_("Tokens"), lambda row: row[0].quantity_tokens, "quantity_tokens"),
            "value": Column(_("Value"), lambda row: format_yuan(
                cost_micro(tokens=row[0].quantity_tokens, price_nano=row[0].price_nano))),
            "order": Column("", lambda row: row[0].buy_order_id if side(row) == "buy" else row[0].sell_order_id),
            "how": Column(_("How"), lambda row: row[0].get_aggressor_display(), left=True),
            "traded": Column(_("Traded"), lambda row: row[0].occurred_at, "occurred_at"),
        },
        filters={"side": Filter(_("Side"), [("buy", _("Buy")), ("sell", _("Sell"))], lambda value: Q(
            **{"buyer_id" if value == "buy" else "seller_id": organization_id}))},
        time="occurred_at",
    )  # fmt: skip


def contracts_table(organization_id: int) -> Table:
    """Return the table of delivery contracts, as an organization sees them."""
    return Table(
        name="contracts",
        columns={
            "contract": Column(_("Contract"), lambda row: row.pk, "pk"),
            "market": Column("", lambda row: row.market_id),
            "grade": Column(_("Grade"), lambda row: row.grade.slug, "grade__slug", left=True),
            "window": Column(_("Delivery window"), lambda row: row.window_start, "window_start", left=True),
            "window_end": Column("", lambda row: row.window_end),
            "buyer": Column(_("Buyer"), lambda row: row.buyer.name, left=True),
            "provider": Column(_("Provider"), lambda row: row.provider.name, left=True),
            "quantity": Column(_("Standard tokens"), lambda row: row.quantity_tokens, "quantity_tokens"),
            "rate": Column(_("Rate a minute"), lambda row: row.rate_tokens_per_minute, "rate_tokens_per_minute"),
        },
        filters={
            "side": Filter(_("Side"), [("bought", _("Bought")), ("sold", _("Sold"))], lambda value: Q(
                **{"buyer_id" if value == "bought" else "provider_id": organization_id})),
            "kind": Filter(_("Kind"), [("spot", _("of a market")), ("list", _("at list price"))],
                           lambda value: Q(kind=value)),
        },
        time="window_start",
    )  # fmt: skip
