"""The client's own habits: keys, retries, pages, errors. What its requests do is tested against the real exchange."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from ciyuan import AsyncClient, CiyuanError, Client, Retry
from ciyuan.errors import ConfigurationError, NotFound, Unauthenticated, Unreachable
from ciyuan.resources import order_body

from tests.sdk.endpoint import Endpoint

MARKET = {
    "id": 7,
    "grade": "qwen3-32b-realtime",
    "phase": "call",
    "window_start": "2026-11-20T16:00:00Z",
    "window_end": "2026-11-21T01:00:00Z",
    "cap_price": "0.0000040",
    "cap_price_per_million": "4.00",
}
ORDER = {
    "id": "0192",
    "market": 7,
    "side": "buy",
    "type": "limit",
    "status": "open",
    "price": "0.0000021",
    "quantity": 5000,
}


@pytest.fixture
def exchange():
    with Endpoint() as server:
        server.routes["GET", "/v1/markets/7"] = (200, MARKET)
        server.routes["POST", "/v1/orders"] = (202, ORDER)
        yield server


@pytest.fixture
def waits():
    return []


@pytest.fixture
def client(exchange, waits):
    with Client("ck_test", exchange.url, sleep=waits.append, retry=Retry(draw=lambda: 1.0)) as client:
        yield client


def test_answers_are_typed(client):
    market = client.markets.get(7)
    assert market.window_start == datetime(2026, 11, 20, 16, tzinfo=UTC)
    assert market.cap_price == Decimal("0.0000040")
    assert market.gate_closed_at is None
    assert market["cap_price_per_million"] == "4.00"  # known to the exchange, not to this client


def test_a_write_carries_a_key_of_its_own(client, exchange):
    client.orders.buy(7, quantity=5_000, price=Decimal("0.0000021"))
    client.orders.buy(7, quantity=5_000, price="0.0000021")
    client.orders.buy(7, quantity=5_000, price="0.0000021", idempotency_key="mine")
    keys = [headers["Idempotency-Key"] for _, _, _, headers, _ in exchange.requests]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"
    bodies = [json.loads(body) for *_, body in exchange.requests]
    assert bodies[0] == {"market": 7, "side": "buy", "type": "limit", "price": "0.0000021", "quantity": 5_000}


def test_prices_are_never_floats_or_in_exponents():
    assert order_body(market=1, side="sell", quantity=1, price=Decimal("1E-6"))["price"] == "0.000001"
    with pytest.raises(TypeError, match="Decimal or text"):
        order_body(market=1, side="sell", quantity=1, price=0.1)
    assert order_body(market=1, side="sell", quantity=1)["type"] == "market"


def test_times_have_a_zone(client):
    with pytest.raises(ValueError, match="time zone"):
        client.usage.query(start=datetime(2026, 11, 20))  # noqa: DTZ001


@pytest.mark.parametrize("trouble", ["drop", 429, 502, 503, 504])
def test_a_write_is_sent_again_with_the_same_key(client, exchange, waits, trouble):
    answer = "drop" if isinstance(trouble, str) else (trouble, {}, {"code": "x", "detail": "later"})
    exchange.script = [answer, answer]
    assert client.orders.buy(7, quantity=5_000, price="0.0000021").id == "0192"
    assert len({headers["Idempotency-Key"] for _, _, _, headers, _ in exchange.requests}) == 1
    assert len({body for *_, body in exchange.requests}) == 1
    assert waits == [0.25, 0.5]


def test_retry_after_is_obeyed(client, exchange, waits):
    exchange.script = [(429, {"Retry-After": "3"}, {})]
    client.markets.get(7)
    assert waits == [3.0]


def test_attempts_end(client, exchange, waits):
    exchange.script = [(503, {}, {"code": "unavailable", "detail": "The exchange is starting."})] * 9
    with pytest.raises(CiyuanError, match="unavailable: The exchange is starting"):
        client.markets.get(7)
    assert len(exchange.requests) == 5
    assert waits == [0.25, 0.5, 1.0, 2.0]


def test_waits_have_jitter():
    retry = Retry(first=1, most=8)
    assert len({retry.wait(3) for _ in range(20)}) > 10
    assert all(2 <= retry.wait(3) <= 4 for _ in range(100))
    assert all(4 <= retry.wait(50) <= 8 for _ in range(100))


def test_a_refusal_is_not_repeated_and_is_told_in_full(client, exchange):
    exchange.script = [
        (
            409,
            {},
            {
                "code": "insufficient-funds",
                "detail": "This order holds ¥12.00 and ¥3.00 is available.",
                "field": "quantity",
                "status": 409,
                "available": "3.00",
            },
        )
    ]
    with pytest.raises(CiyuanError) as caught:
        client.orders.buy(7, quantity=5_000, price="0.0000021")
    error = caught.value
    assert (error.code, error.status, error.field) == ("insufficient-funds", 409, "quantity")
    assert error.request_id == "req-12345678"
    assert error.problem["available"] == "3.00"
    assert len(exchange.requests) == 1


def test_statuses_have_their_own_errors(client, exchange):
    with pytest.raises(NotFound):
        client.markets.get(8)
    exchange.script = [(401, {}, {"code": "key-invalid", "detail": "revoked"})]
    with pytest.raises(Unauthenticated):
        client.markets.get(7)


def test_a_page_of_a_proxy_is_told_briefly(client, exchange):
    exchange.script = [(500, {}, b"<html>  Internal\n error</html>")]
    with pytest.raises(CiyuanError, match="the exchange answered 500: <html> Internal error"):
        client.markets.get(7)


def test_an_answer_of_another_shape_is_an_error_of_its_own(client, exchange):
    exchange.script = [(200, {}, b"not json")]
    with pytest.raises(CiyuanError, match="unreadable-answer"):
        client.markets.get(7)
    exchange.script = [(200, {}, ["a", "list"])]
    with pytest.raises(CiyuanError, match="unreadable-answer"):
        client.markets.get(7)


def test_nobody_there():
    client = Client("ck_test", "http://127.0.0.1:9", sleep=lambda _: None)
    with pytest.raises(Unreachable, match="no answer from http:"):
        client.whoami()


def test_where_and_who_come_from_the_environment(exchange, monkeypatch):
    monkeypatch.setenv("CIYUAN_URL", exchange.url + "/")
    monkeypatch.setenv("CIYUAN_API_KEY", "ck_from_environment")
    Client().markets.get(7)
    assert exchange.requests[0][3]["Authorization"] == "Bearer ck_from_environment"
    monkeypatch.setenv("CIYUAN_URL", "localhost:8000")
    with pytest.raises(ConfigurationError, match="begins with http"):
        Client()


def pages(_headers, query, _body):
    cursor = dict(pair.split("=") for pair in query.split("&") if pair).get("cursor", "0")
    items = [{**MARKET, "id": int(cursor) * 2 + i} for i in range(2)]
    return 200, {"items": items, "next_cursor": None if cursor == "2" else str(int(cursor) + 1)}


def test_lists_walk_through_their_pages(client, exchange):
    exchange.routes["GET", "/v1/markets"] = pages
    assert [market.id for market in client.markets.list(phase="call")] == [0, 1, 2, 3, 4, 5]
    assert [query for _, _, query, _, _ in exchange.requests] == [
        "phase=call",
        "phase=call&cursor=1",
        "phase=call&cursor=2",
    ]
    exchange.requests.clear()
    next(client.markets.list())
    assert len(exchange.requests) == 1  # as far as the caller goes


async def test_the_async_client_does_the_same(exchange):
    exchange.routes["GET", "/v1/markets"] = pages
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    async with AsyncClient("ck_test", exchange.url, sleep=sleep) as client:
        exchange.script = ["drop", (503, {}, {})]
        assert (await client.markets.get(7)).id == 7
        assert len(waits) == 2
        assert [market.id async for market in client.markets.list()] == [0, 1, 2, 3, 4, 5]
        assert (await client.orders.sell(7, quantity=1_000)).id == "0192"
        with pytest.raises(NotFound):
            await client.invoices.pdf(3)


def test_files_come_as_bytes(client, exchange):
    exchange.routes["GET", "/v1/invoices/3.pdf"] = (200, b"%PDF-1.7 ")
    assert client.invoices.pdf(3).startswith(b"%PDF")


def test_capacity_is_for_a_market_or_a_window(client, exchange):
    exchange.routes["POST", "/v1/capacity"] = (201, {"id": 1, "deployment": 2, "quantity": 1_000})
    window = (datetime(2026, 11, 20, 16, tzinfo=UTC), "2026-11-21T01:00:00Z")
    published = client.capacity.publish(
        deployment=2,
        window=window,
        quantity=1_000,
        tokens_per_minute=10,
        reserve_price="0.000001",
        list_price="0.000004",
    )
    assert published.id == 1
    assert json.loads(exchange.requests[0][4])["window"] == {
        "start": "2026-11-20T16:00:00+00:00",
        "end": "2026-11-21T01:00:00Z",
    }
    with pytest.raises(ValueError, match="either for a market or for a window"):
        client.capacity.publish(
            deployment=2, quantity=1_000, tokens_per_minute=10, reserve_price="0.000001", list_price="1"
        )
