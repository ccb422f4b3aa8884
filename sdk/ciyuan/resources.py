"""
The exchange's API by resource: `client.markets.list()`, `client.orders.buy(…)`, `client.invoices.pdf(7)`.

Prices are ¥ per standard token and amounts ¥, given as `Decimal` or text ("0.0035"); floats are refused. Quantities are
standard tokens; times are aware datetimes. Every write takes `idempotency_key`; without one it makes its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write

Money = Decimal | str | int
Side = Literal["buy", "sell"]
Results = list[r.Anything]


def decimal_text(name: str, value: Money | None) -> str | None:
    """:raises TypeError: for a float, which does not hold what was meant."""
    if value is None:
        return None
    if isinstance(value, bool | float) or not isinstance(value, Decimal | str | int):
        raise TypeError(f"{name} must be a Decimal or text such as '0.0035', not {value!r}")
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def time_text(name: str, value: datetime | str | None) -> str | None:
    """:raises ValueError: for a time without a zone."""
    if value is None or isinstance(value, str):
        return value
    if value.tzinfo is None:
        raise ValueError(f"{name} has no time zone: {value.isoformat()}")
    return value.isoformat()


def _given(**values: Any) -> dict[str, Any]:
    """The arguments that were given."""
    return {name: value for name, value in values.items() if value is not None}


class Organizations(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Organization]]:
        """One's own; all of them for the operator."""
        return read("/v1/organizations", page_of(r.Organization))

    @endpoint
    def get(self, organization: int) -> Call[r.Organization]:
        return read(f"/v1/organizations/{organization}", r.Organization)

    @endpoint
    def create(
        self,
        *,
        kind: Literal["buyer", "provider", "both", "operator"],
        name: str,
        name_zh: str | None = None,
        control_group: str | None = None,
        allows_overage: Money | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Organization]:
        """Operator only."""
        overage = decimal_text("allows_overage", allows_overage)
        body = _given(kind=kind, name=name, name_zh=name_zh, control_group=control_group, allows_overage=overage)
        return write("POST", "/v1/organizations", r.Organization, body, idempotency_key=idempotency_key)

    @endpoint
    def invite(
        self,
        organization: int,
        *,
        email: str,
        role: str,
        name: str | None = None,
        password: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Anything]:
        """Let a person act for an organization (its owners, or the operator). A new person may be given a password."""
        path = f"/v1/organizations/{organization}/members"
        body = _given(email=email, role=role, name=name, password=password)
        return write("POST", path, r.Anything, body, idempotency_key=idempotency_key)


class Keys(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Key]]:
        return read("/v1/keys", page_of(r.Key))

    @endpoint
    def create(
        self,
        *,
        name: str,
        scopes: Sequence[str],
        expires_at: datetime | str | None = None,
        organization: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.NewKey]:
        """Make a key; its `secret` is in this answer alone. `organization` is for the operator."""
        body = _given(
            name=name,
            scopes=[*scopes],
            expires_at=time_text("expires_at", expires_at),
            organization=organization,
        )
        return write("POST", "/v1/keys", r.NewKey, body, idempotency_key=idempotency_key)

    @endpoint
    def rotate(
        self, key: int, *, overlap_seconds: int | None = None, idempotency_key: str | None = None
    ) -> Call[r.NewKey]:
        """Make a key's successor; the old one ends after the overlap."""
        body = _given(overlap_seconds=overlap_seconds)
        return write("POST", f"/v1/keys/{key}/rotate", r.NewKey, body, idempotency_key=idempotency_key)

    @endpoint
    def revoke(self, key: int, *, idempotency_key: str | None = None) -> Call[r.Key]:
        return write("DELETE", f"/v1/keys/{key}", r.Key, idempotency_key=idempotency_key)


class Accelerators(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Accelerator]]:
        return read("/v1/accelerators", page_of(r.Accelerator))


class Models(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Anything]]:
        """Model cards, with the numbers that the standard token needs."""
        return read("/v1/models", page_of(r.Anything))


class Grades(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Grade]]:
        return read("/v1/grades", page_of(r.Grade))

    @endpoint
    def get(self, grade: int | str) -> Call[r.Grade]:
        return read(f"/v1/grades/{grade}", r.Grade)

    @endpoint
    def publish(self, /, *, idempotency_key: str | None = None, **terms: Any) -> Call[r.Grade]:
        """Publish a grade (operator). Its terms are frozen from then on."""
        for name in ("tick", "reference_price"):
            if name in terms:
                terms[name] = decimal_text(name, terms[name])
        return write("POST", "/v1/grades", r.Grade, terms, idempotency_key=idempotency_key)


class Deployments(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Deployment]]:
        return read("/v1/deployments", page_of(r.Deployment))

    @endpoint
    def register(
        self,
        *,
        name: str,
        grade: int | str,
        accelerator: int | str,
        accelerator_count: int,
        engine: str,
        precision: str,
        region: str,
        endpoint: str,
        rated_tokens_per_minute: int,
        idempotency_key: str | None = None,
    ) -> Call[r.Deployment]:
        body = _given(
            name=name,
            grade=grade,
            accelerator=accelerator,
            accelerator_count=accelerator_count,
            engine=engine,
            precision=precision,
            region=region,
            endpoint=endpoint,
            rated_tokens_per_minute=rated_tokens_per_minute,
        )
        return write("POST", "/v1/deployments", r.Deployment, body, idempotency_key=idempotency_key)


class Capacities(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Capacity]]:
        return read("/v1/capacity", page_of(r.Capacity))

    @endpoint
    def publish(
        self,
        *,
        deployment: int,
        quantity: int,
        tokens_per_minute: int,
        reserve_price: Money,
        list_price: Money | None = None,
        market: int | None = None,
        window: tuple[datetime | str, datetime | str] | None = None,
        wait: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Capacity]:
        """
        Publish capacity for a market or a window, and offer it at its reserve price at once unless `wait`.

        :param quantity: standard tokens in all. :param tokens_per_minute: standard tokens per minute.
        """
        if (market is None) == (window is None):
            raise ValueError("capacity is published either for a market or for a window (start, end)")
        body = _given(
            deployment=deployment,
            market=market,
            window=None if window is None else _window(window),
            quantity=quantity,
            tokens_per_minute=tokens_per_minute,
            reserve_price=decimal_text("reserve_price", reserve_price),
            list_price=decimal_text("list_price", list_price),
            wait=wait,
        )
        return write("POST", "/v1/capacity", r.Capacity, body, idempotency_key=idempotency_key)

    @endpoint
    def withdraw(self, capacity: int, *, idempotency_key: str | None = None) -> Call[Any]:
        """Withdraw what is not sold; the exchange refuses to withdraw what is."""
        return write("DELETE", f"/v1/capacity/{capacity}", _any, idempotency_key=idempotency_key)


def _window(window: tuple[datetime | str, datetime | str]) -> dict[str, str | None]:
    return {"start": time_text("window", window[0]), "end": time_text("window", window[1])}


class Markets(Resource[Mode]):
    @paged
    def list(self, *, grade: int | str | None = None, phase: str | None = None) -> Call[Page[r.Market]]:
        return read("/v1/markets", page_of(r.Market), grade=grade, phase=phase)

    @endpoint
    def get(self, market: int) -> Call[r.Market]:
        return read(f"/v1/markets/{market}", r.Market)

    @endpoint
    def book(self, market: int) -> Call[r.Anything]:
        return read(f"/v1/markets/{market}/book", r.Anything)

    @paged
    def trades(self, market: int) -> Call[Page[r.Trade]]:
        """All trades of a market, anonymised."""
        return read(f"/v1/markets/{market}/trades", page_of(r.Trade))

    @endpoint
    def candles(self, market: int, *, interval: str | None = None) -> Call[Any]:
        return read(f"/v1/markets/{market}/candles", _any, interval=interval)


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


class Orders(Resource[Mode]):
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
    def batch(self, commands: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None) -> Call[Results]:
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
    def cancel(self, order: str, *, idempotency_key: str | None = None) -> Call[Any]:
        return write("DELETE", f"/v1/orders/{order}", _any, idempotency_key=idempotency_key)


def order_body(
    *, market: int, side: Side, quantity: int, price: Money | None = None, type: str | None = None, **further: Any
) -> dict[str, Any]:
    """One order as the API takes it."""
    decimals = {name: decimal_text(name, value) for name, value in further.items() if name.endswith("price")}
    return _given(
        market=market,
        side=side,
        type=type or ("market" if price is None else "limit"),
        price=decimal_text("price", price),
        quantity=quantity,
        **{**further, **decimals},
    )


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


class Deliveries(Resource[Mode]):
    @paged
    def list(self, *, market: int | None = None) -> Call[Page[r.Delivery]]:
        """Whom to serve, what, how much and when (the provider's)."""
        return read("/v1/deliveries", page_of(r.Delivery), market=market)


class Meters(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.MeterRecord]]:
        return read("/v1/meters", page_of(r.MeterRecord))

    @endpoint
    def register(self, /, *, idempotency_key: str | None = None, **fields: Any) -> Call[r.MeterRecord]:
        """Register a meter; the answer holds its key's `secret`, once."""
        return write("POST", "/v1/meters", r.MeterRecord, fields, idempotency_key=idempotency_key)

    @endpoint
    def alias(self, *, subject: str, buyer: int, idempotency_key: str | None = None) -> Call[r.Alias]:
        """Let events with this subject be a buyer's usage."""
        body = {"subject": subject, "buyer": buyer}
        return write("POST", "/v1/aliases", r.Alias, body, idempotency_key=idempotency_key)


class Events(Resource[Mode]):
    @endpoint
    def send(self, events: Sequence[Mapping[str, Any]]) -> Call[r.EventAnswer]:
        """
        Send CloudEvents, at most 10,000 at once. Each counts once for ever by its source and id, so that sending the
        same again is safe; `ciyuan.Meter` does this, batching and spooling.
        """
        return Call("POST", "/v1/events", r.EventAnswer, json=[*events], repeatable=True)

    @paged
    def rejected(self) -> Call[Page[r.RejectedEvent]]:
        return read("/v1/events/rejected", page_of(r.RejectedEvent))

    @endpoint
    def replay(self, /, *, idempotency_key: str | None = None, **which: Any) -> Call[Any]:
        """Try rejected events again after their cause is mended."""
        return write("POST", "/v1/events/rejected/replay", _any, which, idempotency_key=idempotency_key)


class UsageQueries(Resource[Mode]):
    @endpoint
    def query(
        self,
        /,
        *,
        group_by: Sequence[str] = (),
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        **filters: Any,
    ) -> Call[list[r.UsageRow]]:
        """Usage sums over [start, end), from rollups; a row per group."""
        params = {"from": time_text("start", start), "to": time_text("end", end), **filters}
        return read("/v1/usage", _rows, group_by=",".join(group_by) or None, **params)


class Invoices(Resource[Mode]):
    _path = "/v1/invoices"

    @paged
    def list(self) -> Call[Page[r.Invoice]]:
        return read(self._path, page_of(r.Invoice))

    @endpoint
    def get(self, invoice: int) -> Call[r.Invoice]:
        return read(f"{self._path}/{invoice}", r.Invoice)

    @endpoint
    def pdf(self, invoice: int) -> Call[bytes]:
        return Call("GET", f"{self._path}/{invoice}.pdf", bytes, binary=True)

    @endpoint
    def csv(self, invoice: int) -> Call[bytes]:
        return Call("GET", f"{self._path}/{invoice}.csv", bytes, binary=True)


class Statements(Invoices[Mode]):
    """Settlement statements (结算单) of a provider."""

    _path = "/v1/statements"


class Account(Resource[Mode]):
    @endpoint
    def balance(self) -> Call[r.Balance]:
        return read("/v1/balance", r.Balance)

    @paged
    def transfers(self) -> Call[Page[r.Anything]]:
        return read("/v1/transfers", page_of(r.Anything))

    @paged
    def charges(self, *, market: int | None = None, contract: int | None = None) -> Call[Page[r.Charge]]:
        return read("/v1/charges", page_of(r.Charge), market=market, contract=contract)


class Deposits(Resource[Mode]):
    @endpoint
    def record(
        self, *, organization: int, amount: Money, reference: str, idempotency_key: str | None = None
    ) -> Call[r.Deposit]:
        """Enter money that an organization has paid in (operator)."""
        body = {"organization": organization, "amount": decimal_text("amount", amount), "reference": reference}
        return write("POST", "/v1/deposits", r.Deposit, body, idempotency_key=idempotency_key)


class Exports(Resource[Mode]):
    @endpoint
    def usage_csv(
        self, /, *, start: datetime | str | None = None, end: datetime | str | None = None, **filters: Any
    ) -> Call[bytes]:
        params = {"from": time_text("start", start), "to": time_text("end", end), "format": "csv", **filters}
        return Call("GET", "/v1/usage", bytes, params=_given(**params), binary=True)


def _any(body: Any) -> Any:
    return body


def _rows(body: Any) -> list[r.UsageRow]:
    return [r.UsageRow(row) for row in (body["items"] if isinstance(body, dict) else body)]


def _results(body: Any) -> list[r.Anything]:
    return [r.Anything(row) for row in body["results"]]
