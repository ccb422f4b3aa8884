"""
`python -m scenarios.demo`: the demo market that `make run` starts, and keeps alive.

Five providers and a dozen buyers trade two grades in windows of one minute, so that within three minutes a newcomer has
seen an auction close, usage stream in and an invoice issue. Everything goes through the public API by the SDK; after a
restart it finds its parties again and goes on. What it orders in a market follows from the market's id alone. What was
bought is called for through gateways and guards (`demo_delivery`).
"""

import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

from ciyuan import CiyuanError

from config.instance import free_port
from scenarios.demo_delivery import DemoDelivery, Desk, Hall
from scenarios.parties import Keyring, Party, Setting, Supply

log = logging.getLogger("scenarios.demo")

LOT_TOKENS = 1_000


@dataclass(frozen=True, slots=True)
class GradePlan:
    """A grade of the demo: its terms, its model, and each provider's list price."""

    slug: str
    name: str
    name_zh: str
    model: str
    tick: str
    list_prices: tuple[str, ...]
    wanted_tokens: int


#: The prices of the article that the product began with (¥ per token, about a thousand times today's), and of 2026.
GRADES = (
    GradePlan(
        slug="demo-7b-article-prices",
        name="Demo 7B at the prices of the article (about 1,000 times today's)",
        name_zh="演示 7B · 文章原价（约为今日价格的一千倍）",
        model="reference-7b",
        tick="0.00001",
        list_prices=("0.005", "0.004", "0.003", "0.0035", "0.004"),
        wanted_tokens=120_000,
    ),
    GradePlan(
        slug="demo-qwen3-32b-2026",
        name="Demo Qwen3-32B at 2026 prices",
        name_zh="演示 Qwen3-32B · 2026 年价格",
        model="qwen3-32b",
        tick="0.00000001",
        list_prices=("0.0000031", "0.0000028", "0.0000026", "0.0000029", "0.0000030"),
        wanted_tokens=1_200_000,
    ),
)

#: Name, Chinese name, accelerator, number of them, engine.
PROVIDERS = (
    ("Yanshan Kunlun Cloud", "燕山昆仑云", "baidu-kunlun-3", 256, "vllm"),
    ("Qiantang Hanguang Cloud", "钱塘含光云", "alibaba-hanguang-800", 256, "vllm"),
    ("Pengcheng Ascend Cloud", "鹏城昇腾云", "huawei-ascend-910b", 256, "mindie"),
    ("Hongqiao Reseller", "虹桥算力聚合", "nvidia-h20-96gb", 128, "sglang"),
    ("Bashu Reseller", "巴蜀算力聚合", "metax-c550", 128, "vllm"),
)
BUYERS = (
    ("Lantern Search", "灯笼搜索"),
    ("Maple Legal", "枫叶法务"),
    ("Harbour Games", "港湾游戏"),
    ("Plum Tutors", "梅花教育"),
    ("Heron Media", "白鹭传媒"),
    ("Cedar Bank", "雪松金融"),
    ("Willow Health", "垂柳健康"),
    ("Bamboo Works", "竹简办公"),
    ("Lotus Travel", "莲叶旅行"),
    ("Granite Motors", "花岗汽车"),
    ("Tea Horse Trade", "茶马电商"),
    ("Ink Stone Press", "砚台出版"),
)
#: Whose gateway anybody on this machine may call.
CALLABLE = "Lantern Search"
#: Who may sign in: address, organization, role.
SIGN_INS = (
    ("buyer@demo.ciyuan.example", "Lantern Search", "owner"),
    ("provider@demo.ciyuan.example", "Yanshan Kunlun Cloud", "owner"),
)


class Demo:
    """The cast, and what it does each second."""

    def __init__(self, *, url: str, operator_key: str, keyring: Keyring, password: str) -> None:
        self.setting = Setting(url=url, operator_key=operator_key, name="demo", keyring=keyring)
        self.password = password
        self.buyers: list[Party] = []
        self.supplies: dict[str, list[Supply]] = {}
        self._traded: set[int] = set()
        self._topped_up: datetime | None = None

    def set_up(self) -> None:
        """Make grades, parties, deployments and sign-ins; those that are there stay as they are."""
        operator = self.setting.operator
        for plan in GRADES:
            operator.grades.publish(
                slug=plan.slug,
                name=plan.name,
                name_zh=plan.name_zh,
                model=plan.model,
                precisions=["bf16", "fp16", "int8"],
                service_class="batch",
                region="cn",
                max_context_tokens=32_768,
                max_output_tokens=8_192,
                take_or_pay_thousandths=600,
                grace_seconds=10,
                tick=plan.tick,
                min_order=LOT_TOKENS,
                reference_price=str(Decimal(plan.list_prices[2]) * Decimal("0.4")),
                window_schedule={"every_minutes": 1, "kind": "demo"},
                call_opens_before_seconds=55,
                call_closes_before_seconds=20,
                gate_closes_before_seconds=8,
                idempotency_key=f"demo:grade:{plan.slug}",
            )
        parties: dict[str, Party] = {}
        for name, name_zh in BUYERS:
            party = self.setting.party("buyer", name, name_zh, deposit="200000.00", allows_overage="50000.00")
            self.buyers.append(party)
            parties[name] = party
        for number, (name, name_zh, accelerator, count, engine) in enumerate(PROVIDERS):
            party = parties[name] = self.setting.party("provider", name, name_zh, deposit="2000000.00")
            for plan in GRADES:
                supply = self.setting.supply(
                    party,
                    grade=plan.slug,
                    accelerator=accelerator,
                    count=count,
                    engine=engine,
                    precision="int8" if accelerator == "alibaba-hanguang-800" else "bf16",
                    region="cn-north",
                    rated_tokens_per_minute=plan.wanted_tokens,
                    label=f"served-{plan.slug}-{number}",
                    endpoint=f"http://127.0.0.1:{self._port(f'{plan.slug}-{number}')}/v1",
                )
                party.client.deployments.set_list_price(
                    supply.deployment,
                    price=plan.list_prices[number],
                    idempotency_key=f"demo:list-price:{supply.deployment}",
                )
                self.supplies.setdefault(plan.slug, []).append(supply)
        for email, organization, role in SIGN_INS:
            operator.organizations.invite(
                parties[organization].organization,
                email=email,
                role=role,
                password=self.password,
                idempotency_key=f"demo:sign-in:{email}",
            )

    def step(self) -> None:
        """Do what is due now: offer and bid in open calls, top up."""
        for plan in GRADES:
            for market in self.setting.operator.markets.list(grade=plan.slug, phase="call"):
                if market.id not in self._traded:
                    self._trade(plan, market)
                    self._traded.add(market.id)
        now = datetime.now(UTC)
        if self._topped_up is None or now - self._topped_up > timedelta(minutes=10):
            self._top_up(now)
            self._topped_up = now

    def _trade(self, plan: GradePlan, market: Any) -> None:
        """Offer at about 60% below list and bid around it, differently in each market but always the same in one."""
        dice = random.Random(f"{plan.slug}:{market.id}")
        supplies = self.supplies[plan.slug]
        tick = Decimal(plan.tick)
        for number, supply in enumerate(supplies):
            list_price = Decimal(plan.list_prices[number])
            reserve = list_price * Decimal(dice.randint(360, 440)) / 1_000
            quantity = _lots(plan.wanted_tokens * dice.randint(140, 300) // 1_000)
            self._unless_refused(
                supply.party,
                lambda supply=supply, reserve=reserve, list_price=list_price, quantity=quantity: (
                    supply.party.client.capacity.publish(
                        deployment=supply.deployment,
                        market=market.id,
                        quantity=quantity,
                        tokens_per_minute=quantity,
                        reserve_price=_on_tick(reserve, tick),
                        list_price=list_price,
                        idempotency_key=f"demo:capacity:{market.id}:{supply.deployment}",
                    )
                ),
            )
        lowest = min(Decimal(price) for price in plan.list_prices)
        for number, buyer in enumerate(self.buyers):
            if dice.random() < 0.25:
                continue
            at_market = dice.random() < 0.1
            bid = _on_tick(lowest * Decimal(dice.randint(370, 560)) / 1_000, tick)
            quantity = _lots(plan.wanted_tokens * dice.randint(40, 160) // 1_000)
            self._unless_refused(
                buyer,
                lambda buyer=buyer, number=number, at_market=at_market, bid=bid, quantity=quantity: (
                    buyer.client.orders.buy(
                        market.id,
                        quantity=quantity,
                        price=None if at_market else bid,
                        idempotency_key=f"demo:bid:{market.id}:{number}",
                    )
                ),
            )

    def delivery(self, folder: Path) -> DemoDelivery:
        """What serves the buyers, not started yet; `folder` keeps what waits to be sent."""
        halls = [
            Hall(supply, plan.slug, plan.model, self._port(f"{plan.slug}-{number}"))
            for plan in GRADES
            for number, supply in enumerate(self.supplies[plan.slug])
        ]
        desks = [
            Desk(
                buyer,
                self.setting.buyer_meter(buyer),
                # One has a port that stays, so that visitors can call it.
                self._port("gateway") if buyer.name == CALLABLE else 0,
            )
            for buyer in self.buyers
        ]
        return DemoDelivery(url=self.setting.url, folder=folder, halls=halls, desks=desks)

    @property
    def gateway_url(self) -> str:
        """The address of the gateway that a visitor may call."""
        return f"http://127.0.0.1:{self._port('gateway')}/v1"

    def _port(self, name: str) -> int:
        """A port that stays the same over restarts, as addresses of deployments do."""
        return int(self.setting.keyring.get_or_make(f"demo:port:{name}", lambda: str(free_port())))

    def _top_up(self, now: datetime) -> None:
        """Enter a deposit for whoever runs low, so that the demo can go on for days."""
        parties = {supply.party.organization: supply.party for row in self.supplies.values() for supply in row}
        for party in [*self.buyers, *parties.values()]:
            if party.client.account.balance().available < 50_000:
                stamp = f"{now:%Y%m%d%H%M}"
                self.setting.operator.deposits.record(
                    organization=party.organization,
                    amount="200000.00",
                    reference=f"demo top-up {stamp} {party.name}",
                    idempotency_key=f"demo:top-up:{party.organization}:{stamp}",
                )

    @staticmethod
    def _unless_refused(party: Party, place: Any) -> None:
        """Go on without an order that the exchange refuses: the call may have closed meanwhile."""
        try:
            place()
        except CiyuanError as error:
            if not 0 < error.status < 500:
                raise
            log.info("%s: %s", party.name, error)


def announce(path: Path, *, password: str, gateway_url: str) -> None:
    """Write who may sign in and what to look at first, for whoever started the demo."""
    what = {"buyer": "a buyer: orders, contracts, usage, invoices", "provider": "a provider: capacity, statements"}
    body = {
        "sign_ins": [
            {"email": email, "password": password, "what": f"{organization}, {what[email.split('@')[0]]}"}
            for email, organization, _role in SIGN_INS
        ],
        "first": "/markets (an auction closes every minute), then a closed one: the curves, and why that price",
        "gateway": f"{gateway_url} serves {GRADES[0].model} and {GRADES[1].model} to any OpenAI client, from what "
        f"{CALLABLE} bought",
    }
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(body))
    scratch.replace(path)


def _on_tick(price: Decimal, tick: Decimal) -> Decimal:
    return (price / tick).to_integral_value() * tick


def _lots(tokens: int) -> int:
    return max(LOT_TOKENS, tokens // LOT_TOKENS * LOT_TOKENS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo until it is told to end; a server that is away is waited for."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    url = os.environ.get("CIYUAN_BASE_URL", "http://127.0.0.1:8000")
    var = Path(os.environ.get("CIYUAN_VAR", "var"))
    ending = False

    def end(_signal: int, _frame: FrameType | None) -> None:
        nonlocal ending
        ending = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    demo: Demo | None = None
    delivery: DemoDelivery | None = None
    try:
        while not ending:
            began = time.monotonic()
            try:
                if demo is None:
                    fresh = Demo(
                        url=url,
                        operator_key=(var / "operator.key").read_text().strip(),
                        keyring=Keyring(var / "demo-keys.json"),
                        password=os.environ.get("CIYUAN_DEMO_PASSWORD", "demo-ciyuan-2026"),
                    )
                    fresh.set_up()
                    demo = fresh
                    announce(var / "demo.json", password=fresh.password, gateway_url=fresh.gateway_url)
                    log.info("the demo market is open at %s", url)
                demo.step()
                if delivery is None:  # bids do not wait for it
                    delivery = demo.delivery(var / "demo-delivery")
                    delivery.start()
            except (CiyuanError, OSError) as error:
                log.warning("waiting for the exchange: %s", error)
                time.sleep(2)
            time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))
    except KeyboardInterrupt:
        pass
    finally:
        if delivery is not None:
            delivery.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
