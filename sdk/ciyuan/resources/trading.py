"""Markets, auctions, orders, trades, positions, and the contracts they become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import Money, Side, decimal_text, given, time_text, window_body

CommandResults = list[r.CommandResult]
ServedBy = list[r.Served]
Candles = list[r.Candle]


class Markets(Resource[Mode]):
    @paged
    def list(self, *, grade: int | str | None = None, phase: str | None = None) -> Call[Page[r.Market]]:
        return read("/v1/markets", page_of(r.Market), grade=grade, phase=phase)

    @endpoint
    def get(self, market: int) -> Call[r.Market]:
        return read(f"/v1/markets/{market}", r.Market)

    @paged
    def notices(self) -> Call[Page[r.Notice]]:
        """What everybody is told: halts, annulments and changes of rules, the latest first."""
        return read("/v1/notices", page_of(r.Notice))

    @paged
    def trades(self, market: int) -> Call[Page[r.PublicTrade]]:
        """All trades of a market, anonymised."""
        return read(f"/v1/markets/{market}/trades", page_of(r.PublicTrade))

    @endpoint
    def book(self, market: int, *, level: int = 2, depth: int | None = None) -> Call[r.Book]:
        """The book as it is now: best prices (1), by level (2), order by order without names (3)."""
        return read(f"/v1/markets/{market}/book", r.Book, level=level, depth=depth)

    @endpoint
    def frames(self, market: int, *, after: int, until: int | None = None, level: int = 2) -> Call[r.Anything]:
        """What changed after a number: to fill a gap of the live channel."""
        return read(f"/v1/markets/{market}/frames", r.Anything, after=after, until=until, level=level)

    @endpoint
    def candles(
        self,
        market: int,
        *,
        interval: str = "1m",
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        limit: int | None = None,
    ) -> Call[Candles]:
        """Candles by time, without holes; intervals from 1s to 1d."""
        return read(
            f"/v1/markets/{market}/candles",
            _candles,
            interval=interval,
            since=time_text("since", since),
            until=time_text("until", until),
            limit=limit,
        )

    @endpoint
    def statistics(self, market: int) -> Call[r.MarketStatistics]:
        return read(f"/v1/markets/{market}/statistics", r.MarketStatistics)

    @endpoint
    def indicative(self, market: int) -> Call[r.Anything]:
        """What the call's auction would give now."""
        return read(f"/v1/markets/{market}/indicative", r.Anything)

    @endpoint
    def phases(self, market: int) -> Call[r.Anything]:
        return read(f"/v1/markets/{market}/phases", r.Anything)

    @paged
    def calls(self, market: int) -> Call[Page[r.MarketCall]]:
        """The calls that a market had and has, the latest first."""
        return read(f"/v1/markets/{market}/calls", page_of(r.MarketCall))

    @endpoint
    def create(
        self,
        *,
        grade: int | str,
        window: tuple[datetime | str, datetime | str],
        call_opens_at: datetime | str,
        call_closes_at: datetime | str,
        gate_closes_at: datetime | str,
        window_kind: str | None = None,
        cap_price: Money | None = None,
        reference_price: Money | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Market]:
        """Make a market with times of its own (operator); the others are made by the schedule."""
        body = given(
            grade=grade,
            window=window_body(window),
            window_kind=window_kind,
            call_opens_at=time_text("call_opens_at", call_opens_at),
            call_closes_at=time_text("call_closes_at", call_closes_at),
            gate_closes_at=time_text("gate_closes_at", gate_closes_at),
            cap_price=decimal_text("cap_price", cap_price),
            reference_price=decimal_text("reference_price", reference_price),
        )
        return write("POST", "/v1/markets", r.Market, body, idempotency_key=idempotency_key)


class Auctions(Resource[Mode]):
    @paged
    def list(self, *, market: int | None = None) -> Call[Page[r.Auction]]:
        return read("/v1/auctions", page_of(r.Auction), market=market)

    @endpoint
    def get(self, auction: int | str) -> Call[r.Auction]:
        return read(f"/v1/auctions/{auction}", r.Auction)

    @endpoint
    def book(self, auction: int | str) -> Call[r.Anything]:
        """The anonymised book that a closed auction was cleared from."""
        return read(f"/v1/auctions/{auction}/book", r.Anything)

    @endpoint
    def curves(self, auction: int | str) -> Call[r.Anything]:
        """Demand and supply at each limit."""
        return read(f"/v1/auctions/{auction}/curves", r.Anything)

    @endpoint
    def history(self, auction: int | str, *, after: int | None = None) -> Call[r.Anything]:
        """How the auction's book came to be, order by order, 500 frames at a time."""
        return read(f"/v1/auctions/{auction}/history", r.Anything, after=after)


class Orders(Resource[Mode]):
    @endpoint
    def frames(self, market: int, *, after: int, until: int | None = None) -> Call[r.Anything]:
        """What happened to one's own orders after a number: to fill a gap of the private live channel."""
        return read("/v1/orders/frames", r.Anything, market=market, after=after, until=until)

    @paged
    def list(self, *, market: int | None = None, status: str | None = None) -> Call[Page[r.Order]]:
        return read("/v1/orders", page_of(r.Order), market=market, status=status)

    @endpoint
    def get(self, order: str) -> Call[r.Order]:
        return read(f"/v1/orders/{order}", r.Order)

    @endpoint
    def place(
        self,
        /,
        *,
        market: int,
        side: Side,
        quantity: int,
        price: Money | None = None,
        type: str | None = None,
        time_in_force: str | None = None,
        client_order_id: str | None = None,
        idempotency_key: str | None = None,
        **further: Any,
    ) -> Call[r.Order]:
        """
        Place an order: with a price a limit order, without one a market order, unless `type` says otherwise.

        `further` are the rarer fields of the API, such as `stop_price`, `display_quantity` or `post_only`.
        """
        body = order_body(
            market=market,
            side=side,
            quantity=quantity,
            price=price,
            type=type,
            time_in_force=time_in_force,
            client_order_id=client_order_id,
            **further,
        )
        return write("POST", "/v1/orders", r.Order, body, idempotency_key=idempotency_key)

    @endpoint
    def buy(
        self,
        /,
        market: int,
        *,
        quantity: int,
        price: Money | None = None,
        idempotency_key: str | None = None,
        **further: Any,
    ) -> Call[r.Order]:
        """Bid for standard tokens: at most `price` each, or at the market."""
        body = order_body(market=market, side="buy", quantity=quantity, price=price, **further)
        return write("POST", "/v1/orders", r.Order, body, idempotency_key=idempotency_key)

    @endpoint
    def sell(
        self,
        /,
        market: int,
        *,
        quantity: int,
        price: Money | None = None,
        idempotency_key: str | None = None,
        **further: Any,
    ) -> Call[r.Order]:
        """Ask for at least `price` a standard token, or sell at the market."""
        body = order_body(market=market, side="sell", quantity=quantity, price=price, **further)
        return write("POST", "/v1/orders", r.Order, body, idempotency_key=idempotency_key)

    @endpoint
    def batch(
        self, commands: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> Call[CommandResults]:
        """Up to 1,000 commands, answered one by one; `order_body` makes one from typed arguments."""
        body = {"orders": [dict(command) for command in commands]}
        return write("POST", "/v1/orders/batch", _results, body, idempotency_key=idempotency_key)

    @endpoint
    def replace(self, /, order: str, *, idempotency_key: str | None = None, **changes: Any) -> Call[r.Order]:
        """Change price or quantity; a smaller quantity keeps its place."""
        if "price" in changes:
            changes["price"] = decimal_text("price", changes["price"])
        return write("PATCH", f"/v1/orders/{order}", r.Order, changes, idempotency_key=idempotency_key)

    @endpoint
    def cancel(self, order: str, *, idempotency_key: str | None = None) -> Call[r.Order]:
        """Ask to cancel what is left of an order."""
        return write("DELETE", f"/v1/orders/{order}", r.Order, idempotency_key=idempotency_key)


class Trades(Resource[Mode]):
    @paged
    def list(self, *, market: int | None = None) -> Call[Page[r.Trade]]:
        """One's own trades."""
        return read("/v1/trades", page_of(r.Trade), market=market)


class Positions(Resource[Mode]):
    @paged
    def list(self, *, market: int | None = None) -> Call[Page[r.Position]]:
        return read("/v1/positions", page_of(r.Position), market=market)


class Contracts(Resource[Mode]):
    @paged
    def list(self, *, market: int | None = None) -> Call[Page[r.Contract]]:
        return read("/v1/contracts", page_of(r.Contract), market=market)

    @endpoint
    def get(self, contract: int) -> Call[r.Contract]:
        return read(f"/v1/contracts/{contract}", r.Contract)

    @endpoint
    def access(self, contract: int) -> Call[r.Access]:
        """Where to call, and the signed token to call it with (the buyer's)."""
        return read(f"/v1/contracts/{contract}/access", r.Access)

    @endpoint
    def substitute(
        self, contract: int, *, from_deployment: int, to_deployment: int, idempotency_key: str | None = None
    ) -> Call[ServedBy]:
        """Let another deployment of the grade serve what one serves (the provider's); the price stays."""
        body = {"from_deployment": from_deployment, "to_deployment": to_deployment}
        path = f"/v1/contracts/{contract}/substitutions"
        return write("POST", path, _served_by, body, idempotency_key=idempotency_key)


class Deliveries(Resource[Mode]):
    @paged
    def list(self, *, market: int | None = None) -> Call[Page[r.Delivery]]:
        """Whom to serve, what, how much and when (the provider's)."""
        return read("/v1/deliveries", page_of(r.Delivery), market=market)


def order_body(
    *, market: int, side: Side, quantity: int, price: Money | None = None, type: str | None = None, **further: Any
) -> dict[str, Any]:
    """One order as the API takes it."""
    decimals = {name: decimal_text(name, value) for name, value in further.items() if name.endswith("price")}
    return given(
        market=market,
        side=side,
        type=type or ("market" if price is None else "limit"),
        price=decimal_text("price", price),
        quantity=quantity,
        **{**further, **decimals},
    )


def _served_by(body: Any) -> ServedBy:
    return [r.Served(row) for row in body["items"]]


def _candles(body: Any) -> Candles:
    return [r.Candle(row) for row in body["candles"]]


def _results(body: Any) -> CommandResults:
    return [r.CommandResult(row) for row in body["results"]]
