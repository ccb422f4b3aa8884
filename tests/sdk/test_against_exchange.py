"""The SDK and its commands against a running exchange: one small market from capacity to contract."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from ciyuan import AsyncClient, Client, Meter, Retry
from ciyuan.cli import main
from ciyuan.errors import CiyuanError, Conflict, Forbidden, NotFound, Unauthenticated
from ciyuan.meter import MeterBehind

from config.instance import Instance

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("sdk")]  # one instance for all of them

SDK = Path(__file__).parents[2] / "sdk"
OPENS = datetime(2026, 12, 1, 1, 0, tzinfo=UTC)


def until(look, seconds=60, told=lambda: "waited in vain"):
    """What `look` returns as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    instance = Instance(var=tmp_path_factory.mktemp("sdk"), clock=True)
    instance.set_clock(product=OPENS - timedelta(minutes=5), speed=1)
    with instance.started() as running:
        yield running
    instance.remove()


@pytest.fixture(scope="module")
def cast(instance):
    """Operator, provider, two buyers and a stranger, each with a client."""
    operator = Client(instance.bootstrap()["api_key"], instance.base_url)

    def party(kind, name, deposit):
        organization = operator.organizations.create(kind=kind, name=name)
        key = operator.keys.create(name="sdk", scopes=["trade", "billing", "read"], organization=organization.id)
        if deposit:
            operator.deposits.record(organization=organization.id, amount=deposit, reference=f"deposit of {name}")
        return SimpleNamespace(id=organization.id, key=key.secret, client=Client(key.secret, instance.base_url))

    return SimpleNamespace(
        operator=operator,
        provider=party("provider", "Yanshan", "100000.00"),
        buyer=party("buyer", "Lantern", "5000.00"),
        other=party("buyer", "Maple", Decimal("5000.00")),
        stranger=party("buyer", "Stranger", None),
    )


@pytest.fixture(scope="module")
def market(instance, cast):
    """A market that has been through its auction and its gate; its capacity and orders came through the SDK."""
    grade = next(iter(cast.operator.grades.list()))
    deployment = cast.provider.client.deployments.register(
        name="main",
        grade=grade.slug,
        accelerator="huawei-ascend-910b",
        accelerator_count=64,
        engine="vllm",
        precision="bf16",
        region=grade.region,
        endpoint="https://yanshan.example/v1",
        rated_tokens_per_minute=100_000,
    )
    window = (OPENS + timedelta(hours=1), OPENS + timedelta(hours=3))
    market = cast.operator.markets.create(
        grade=grade.id,
        window=window,
        call_opens_at=OPENS,
        call_closes_at=OPENS + timedelta(minutes=20),
        gate_closes_at=OPENS + timedelta(minutes=30),
        cap_price="0.00001",
    )
    tick = grade.tick
    instance.set_clock(product=OPENS + timedelta(minutes=1), speed=1)
    until(lambda: cast.buyer.client.markets.get(market.id).phase == "call")
    published = cast.provider.client.capacity.publish(
        deployment=deployment.id,
        market=market.id,
        quantity=8_000_000,
        tokens_per_minute=80_000,
        reserve_price=tick * 100,
        list_price=tick * 400,
    )
    orders = [
        party.client.orders.buy(market.id, quantity=5_000_000, price=tick * limit)
        for party, limit in ((cast.buyer, 300), (cast.other, 200))
    ]
    instance.set_clock(product=OPENS + timedelta(minutes=21), speed=1)
    auction = until(lambda: next(iter(cast.buyer.client.auctions.list(market=market.id)), None))
    instance.set_clock(product=OPENS + timedelta(minutes=31), speed=1)
    contracts = until(lambda: list(cast.buyer.client.contracts.list(market=market.id)))
    return SimpleNamespace(
        id=market.id,
        tick=tick,
        capacity=published,
        orders=orders,
        auction=auction,
        contract=contracts[0],
        window=window,
    )


@pytest.fixture
def ciyuan(instance, cast, monkeypatch, capsys):
    """Run a command with the buyer's key: (exit code, stdout, stderr)."""
    monkeypatch.setenv("CIYUAN_URL", instance.base_url)
    monkeypatch.setenv("CIYUAN_API_KEY", cast.buyer.key)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return (ended.value.code, *capsys.readouterr())

    return run


def test_the_auction_gave_what_its_book_gives(market, ciyuan):
    code, out, err = ciyuan("verify", "auction", market.auction.id)
    assert (code, err) == (0, "")
    assert "the published book gives the same" in out
    assert market.auction.volume == 8_000_000


def test_orders_and_trades_are_told_alike(market, cast):
    first, second = (
        party.client.orders.get(o.id) for party, o in zip((cast.buyer, cast.other), market.orders, strict=True)
    )
    assert (first.status, first.filled, first.remaining) == ("filled", 5_000_000, 0)
    assert (second.status, second.filled) == ("expired", 3_000_000)  # the rest went at gate closure
    (trade,) = cast.buyer.client.trades.list(market=market.id)
    assert (trade.side, trade.quantity, trade.price) == ("buy", 5_000_000, market.auction.price)
    assert trade.cost == trade.price * 5_000_000
    (position,) = cast.other.client.positions.list(market=market.id)
    assert position.position == 3_000_000
    held = cast.buyer.client.account.balance()
    assert held.available == Decimal("5000.00") - trade.cost


def test_a_contract_opens_the_providers_door(market, cast):
    contract = cast.buyer.client.contracts.get(market.contract.id)
    assert (contract.quantity, contract.buyer) == (5_000_000, cast.buyer.id)
    assert sum(lot.quantity for lot in contract.lots) == 5_000_000
    access = cast.buyer.client.contracts.access(contract.id)
    assert access.endpoint == "https://yanshan.example/v1"
    assert access.token.count(".") == 2
    assert access.window_start == market.window[0]
    deliveries = list(cast.provider.client.deliveries.list(market=market.id))
    assert {delivery.buyer for delivery in deliveries} == {cast.buyer.id, cast.other.id}


def test_strangers_see_nothing(market, cast):
    for look in (
        lambda: cast.stranger.client.contracts.get(market.contract.id),
        lambda: cast.stranger.client.contracts.access(market.contract.id),
        lambda: cast.stranger.client.orders.get(market.orders[0].id),
        lambda: cast.stranger.client.organizations.get(cast.buyer.id),
    ):
        with pytest.raises(NotFound):
            look()
    assert list(cast.stranger.client.orders.list()) == []
    with pytest.raises(Forbidden):
        cast.stranger.client.deposits.record(organization=cast.stranger.id, amount="1.00", reference="mine")


def test_what_is_not_delivered_is_reported_substituted_and_excluded(market, cast, ciyuan):
    (theirs,) = cast.other.client.contracts.list(market=market.id)
    (reported,) = cast.provider.client.shortfalls.report(contract=theirs.id, quantity=500_000, note="maintenance")
    assert (reported.quantity, reported.replaced, reported.penalty_thousandths) == (500_000, 0, 200)
    with pytest.raises(CiyuanError) as error:
        cast.provider.client.shortfalls.report(contract=theirs.id, quantity=2_501_000)
    assert (error.value.code, error.value.field) == ("more-than-undelivered", "quantity")
    assert [row.id for row in cast.other.client.shortfalls.list(contract=theirs.id)] == [reported.id]
    assert list(cast.stranger.client.shortfalls.list()) == []
    with pytest.raises(CiyuanError) as error:
        cast.other.client.claims.make(contract=theirs.id, requests=["r-1"], quantity=1_000)
    assert error.value.code == "claim-out-of-time"
    assert list(cast.other.client.claims.list()) == []
    main = market.capacity.deployment
    (served,) = cast.provider.client.contracts.substitute(theirs.id, from_deployment=main, to_deployment=main)
    assert (served.deployment, served.quantity) == (main, 2_500_000)
    code, out, err = ciyuan("exclusion", "add", cast.provider.id, "--json")
    assert (code, err) == (0, "") and json.loads(out)["provider"] == cast.provider.id
    assert [row.provider for row in cast.buyer.client.exclusions.list()] == [cast.provider.id]
    assert cast.buyer.client.exclusions.remove(cast.provider.id) == []
    assert list(cast.buyer.client.exclusions.unplaced()) == []
    code, out, _ = ciyuan("shortfall", "list")
    assert code == 0 and "maintenance" not in out


def test_a_repeated_key_gives_the_first_answer(cast):
    made = [
        cast.operator.organizations.create(kind="buyer", name="Twice", idempotency_key="organization-twice")
        for _ in range(2)
    ]
    assert made[0].id == made[1].id
    with pytest.raises(Conflict) as error:
        cast.operator.organizations.create(kind="both", name="Twice", idempotency_key="organization-twice")
    assert error.value.code == "idempotency-key-reused"


def test_refusals_name_code_field_and_request(market, cast):
    with pytest.raises(CiyuanError) as error:
        cast.buyer.client.capacity.publish(
            deployment=1, market=market.id, quantity=1_000, tokens_per_minute=1, reserve_price="1", list_price="1"
        )
    assert error.value.code == "not-a-provider"
    assert error.value.request_id
    with pytest.raises(CiyuanError) as error:
        cast.buyer.client.orders.buy(market.id, quantity=-5, price="0.000001")
    assert error.value.field == "quantity"
    with pytest.raises(Unauthenticated):
        Client("ck_nonsense", cast.buyer.client.transport.settings.url).markets.create(
            grade=1, window=("a", "b"), call_opens_at="c", call_closes_at="d", gate_closes_at="e"
        )


def test_a_batch_is_answered_one_by_one(market, cast):
    results = cast.buyer.client.orders.batch(
        [{"market": market.id, "side": "buy", "quantity": 1_000, "price": "0.000001"}, {"action": "dance"}]
    )
    assert [result.status for result in results] == ["refused", "refused"]
    assert (results[0].code, results[1].field) == ("market-closed", "action")


def test_lists_walk_through_all_their_pages(cast):
    names = [f"Page {number:02d}" for number in range(60)]
    for name in names:
        cast.operator.organizations.create(kind="buyer", name=name, idempotency_key=name)
    listed = [row.name for row in cast.operator.organizations.list()]
    assert [name for name in listed if name.startswith("Page")] == names[::-1]
    assert len(listed) == len({row.id for row in cast.operator.organizations.list()})


async def test_the_async_client_against_the_same(market, cast):
    async with AsyncClient(cast.buyer.key, cast.buyer.client.transport.settings.url) as client:
        assert (await client.whoami()).organization.id == cast.buyer.id
        assert (await client.markets.get(market.id)).id == market.id
        assert [order.id async for order in client.orders.list(market=market.id)] == [market.orders[0].id]


def test_the_commands_show_the_same(market, ciyuan, cast):
    assert ciyuan("whoami") == (0, f"Lantern (organization {cast.buyer.id}, buyer): billing, read, trade\n", "")
    for arguments, words in (
        (("market", "list", "--limit", 5), str(market.id)),
        (("market", "show", market.id), "window_start"),
        (("grade", "list"), "ST-2026.1"),
        (("order", "list"), market.orders[0].id),
        (("trades",), "buy"),
        (("contract", "list"), "Yanshan"),
        (("contract", "access", market.contract.id), "https://yanshan.example/v1"),
        (("auction", "list", "--market", market.id), market.auction.rule),
        (("balance",), "available"),
        (("keys", "list"), "sdk"),
    ):
        code, out, err = ciyuan(*arguments)
        assert (code, err) == (0, ""), arguments
        assert words in out, arguments
    code, _, err = ciyuan("order", "cancel", market.orders[0].id)
    assert code == 1 and err.startswith("ciyuan: order-ended: ")


# -- metering: these move the time into the window, so they come last --------------------------------------------------


@pytest.fixture(scope="module")
def gateway(instance, market, cast):
    """The provider's meter: its key, and the time in the window."""
    instance.set_clock(product=market.window[0] + timedelta(minutes=30), speed=1)
    until(lambda: cast.provider.client.markets.get(market.id).phase == "delivering")
    registered = cast.provider.client.meters.register(
        name="gateway", role="provider", deployment=market.capacity.deployment
    )
    assert registered.secret
    return SimpleNamespace(id=registered.id, key=registered.secret, now=lambda: market.window[0] + timedelta(minutes=5))


def metered(cast, market, **filters):
    rows = cast.provider.client.usage.query(
        group_by=["class"], start=market.window[0], end=market.window[1], contract=market.contract.id, **filters
    )
    return {row["class"]: row.quantity for row in rows}


def test_a_meter_outlives_the_exchange_and_counts_each_event_once(instance, market, cast, gateway, tmp_path):
    subject = str(market.contract.id)
    before = metered(cast, market)
    with Meter(
        source="gateway-1",
        spool=tmp_path / "spool",
        api_key=gateway.key,
        url=instance.base_url,
        now=gateway.now,
        batch=50,
        linger=0,
        retry=Retry(first=0.1, most=1.0),
    ) as meter:
        for n in range(400):
            meter.record(subject=subject, input_tokens=100 + n, cached_input_tokens=50, output_tokens=10)
            if n == 100:
                until(lambda: meter.state.sent_events, told=lambda: meter.state)
                instance.kill9("web")
            if n == 300:
                instance.restart("web")
        meter.flush(timeout=90)
        assert meter.state.rejected_events == 0
    instance.wait_ready()
    after = metered(cast, market)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["input.text"] == sum(50 + n for n in range(400))
    assert grown["input.text.cache_read"] == 400 * 50
    assert grown["output.text"] == 400 * 10


def test_what_the_exchange_refuses_is_kept_on_both_sides(instance, market, cast, gateway, tmp_path):
    with Meter(
        source="gateway-2",
        spool=tmp_path / "spool",
        api_key=gateway.key,
        url=instance.base_url,
        now=gateway.now,
        background=False,
    ) as meter:
        stray = meter.record(subject="nobody-known", input_tokens=1)
        good = meter.record(subject=str(market.contract.id), input_tokens=1)
        meter.record(subject=str(market.contract.id), input_tokens=2, id=good)
        meter.flush(timeout=60)
        kept = [json.loads(line) for line in meter.rejected_path.read_text().splitlines()]
    assert [row["event"]["id"] for row in kept] == [stray, good]
    assert kept[0]["field"] == "subject"
    assert kept[1]["code"] == "conflict"
    there = {row.event_id: row for row in cast.provider.client.events.rejected()}
    assert there[stray].code == kept[0]["code"]


def test_a_key_that_is_no_meters_is_told_so(instance, cast, tmp_path):
    with Meter(
        source="gateway-3", spool=tmp_path / "spool", api_key=cast.buyer.key, url=instance.base_url, background=False
    ) as meter:
        meter.record(subject="1", input_tokens=1)
        with pytest.raises(MeterBehind, match="scope-missing"):
            meter.flush(timeout=60)
        assert meter.state.waiting_events == 1


def test_every_vendors_usage_arrives_in_its_classes(instance, market, cast, gateway, tmp_path):
    before = metered(cast, market)
    log = tmp_path / "usage.ndjson"
    subject, when = str(market.contract.id), gateway.now().isoformat()
    rows = [
        {
            "format": "openai",
            "usage": {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}},
        },
        {"format": "anthropic", "usage": {"input_tokens": 10, "cache_read_input_tokens": 6, "output_tokens": 4}},
        {"format": "gemini", "usage": {"promptTokenCount": 10, "candidatesTokenCount": 4, "thoughtsTokenCount": 3}},
        {"classes": {"input.image": 7, "output.text": 1, "output.rejected_draft": 5}},
    ]
    log.write_text("".join(json.dumps({"subject": subject, "time": when, **row}) + "\n" for row in rows))
    environment = {"CIYUAN_URL": instance.base_url, "CIYUAN_API_KEY": gateway.key}
    command = [
        sys.executable,
        "-m",
        "ciyuan.cli",
        "meter",
        "send",
        str(log),
        "--source",
        "log",
        "--spool",
        str(tmp_path / "s"),
    ]
    for _ in range(2):  # the second time counts nothing
        done = subprocess.run(
            command,
            env={**os.environ, **environment, "PYTHONPATH": str(SDK)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stdout) == (0, "4 events acknowledged\n"), done.stderr
    grown = {name: n - before.get(name, 0) for name, n in metered(cast, market).items() if n != before.get(name, 0)}
    assert grown == {
        "requests": 4,
        "input.text": 4 + 10 + 10,
        "input.text.cache_read": 12,
        "input.image": 7,
        "output.text": 13,
        "output.reasoning": 3,
        "output.rejected_draft": 5,
    }
