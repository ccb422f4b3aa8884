"""
An exchange for the stories told in a browser: complete, its own, with a cast by name, and a clock that the story moves.

Nothing waits for a market's own minutes: the story says `stage.close_call(market)` and time is there. Product time only
moves forwards, so each story makes markets of its own.
"""

from __future__ import annotations

import itertools
import time
from datetime import timedelta
from types import SimpleNamespace

from ciyuan import CiyuanError
from playwright.sync_api import Page

from scenarios.parties import Keyring, Setting

PASSWORD = "demo-ciyuan-2026"
PATIENCE_SECONDS = 240
SCHEDULE = {
    "workday": [],
    "other_day": [{"kind": "early", "start": "03:00", "end": "03:01"}],
}  # out of the stories' way
GRADES = {
    "story": {"mode": "auction", "name": "Qwen3-32B off-peak", "name_zh": "Qwen3-32B 谷时", "grace_seconds": 10},
    "live": {"mode": "exchange", "name": "Qwen3-32B continuous", "name_zh": "Qwen3-32B 连续", "grace_seconds": 10},
}
TOKENS_PER_MINUTE = 1_000_000


def until(look, what: str, seconds: float = PATIENCE_SECONDS):
    """What `look` returns as soon as that is something; a busy or restarted server is asked again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := look():
                return found
        except CiyuanError as error:
            if 0 < error.status < 500:
                raise
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def reload_until(page: Page, look, what: str) -> None:
    """Load a page again until `look(page)` is true of it."""

    def looked():
        page.reload()
        return look(page)

    until(looked, what)


class Stage:
    """The cast, and time. `buyer` and `provider` are parties with sign-ins; others trade through the SDK alone."""

    def __init__(self, instance) -> None:
        self.instance = instance
        key = instance.bootstrap()["api_key"]
        ring = Keyring(instance.var / "stage-keys.json")
        self.setting = Setting(url=instance.base_url, operator_key=key, name="stage", keyring=ring)
        self.operator = self.setting.operator
        for slug, terms in GRADES.items():
            self.operator.grades.publish(
                slug=slug, **terms, model="qwen3-32b", precisions=["bf16"], service_class="batch", region="cn",
                max_context_tokens=32_768, max_output_tokens=8_192, take_or_pay_thousandths=600, tick="0.00000001",
                min_order=1_000, reference_price="0.0000011", window_schedule=SCHEDULE,
                idempotency_key=f"stage:{slug}",
            )  # fmt: skip
        self.buyer = self._party("buyer", "Lantern Search", "灯笼搜索", "buyer@stage.example")
        self.other = self._party("buyer", "Maple Legal", "枫叶法务", "stranger@stage.example")
        self.third = self._party("buyer", "Heron Media", "白鹭传媒", "third@stage.example")
        self.provider = self._party("provider", "Yanshan Cloud", "燕山云", "provider@stage.example")
        self.rivals = [
            self._party("provider", "Qiantang Cloud", "钱塘云", "rival@stage.example"),
            self._party("provider", "Pengcheng Cloud", "鹏城云", "rival2@stage.example"),
        ]
        self.supplies = {
            slug: [self._supply(party, slug) for party in (self.provider, *self.rivals)] for slug in GRADES
        }
        self.house = self.operator.whoami().organization.id
        self.operator.organizations.invite(
            self.house, email="second-operator@stage.example", role="owner", password=PASSWORD,
            idempotency_key="stage:second-operator",
        )  # fmt: skip
        self._ends = dict.fromkeys(GRADES, self.now())
        self._numbers = itertools.count(1)

    def _party(self, kind: str, name: str, name_zh: str, email: str):
        party = self.setting.party(kind, name, name_zh, deposit="200000.00", allows_overage="50000.00")
        self.operator.organizations.invite(
            party.organization, email=email, role="owner", password=PASSWORD, idempotency_key=f"stage:{email}"
        )
        return party

    def _supply(self, party, grade: str):
        supply = self.setting.supply(
            party, grade=grade, accelerator="nvidia-h20-96gb", count=256, engine="vllm", precision="bf16",
            region="cn-north", rated_tokens_per_minute=TOKENS_PER_MINUTE, label=grade,
        )  # fmt: skip
        party.client.deployments.set_list_price(
            supply.deployment, price="0.0000028", idempotency_key=f"stage:list:{supply.deployment}"
        )
        return supply

    # time ------------------------------------------------------------------------------------------------------------

    def now(self):
        """The product's time."""
        return self.instance.set_clock()

    def go_to(self, moment) -> None:
        """Move time to `moment`, unless it has passed."""
        if moment > self.now():
            self.instance.set_clock(product=moment)

    def phase(self, market: int) -> str:
        """A market's phase."""
        return self.operator.markets.get(market).phase

    def wait_phase(self, market: int, *phases: str) -> None:
        """Wait until the market is in one of these phases."""
        until(lambda: self.phase(market) in phases, f"market {market} to be {' or '.join(phases)}")

    # a market's life -------------------------------------------------------------------------------------------------

    def market(self, grade: str = "story"):
        """A new market whose call is open for an hour of product time."""
        now = self.now()
        start = max(now + timedelta(hours=2), self._ends[grade])
        end = self._ends[grade] = start + timedelta(minutes=30)
        made = self.operator.markets.create(
            grade=grade, window=(start, end), call_opens_at=now, call_closes_at=now + timedelta(hours=1),
            gate_closes_at=start - timedelta(minutes=30), cap_price="0.0000056",
        )  # fmt: skip
        self.wait_phase(made.id, "call")
        return made

    def offer(self, market, *, grade: str = "story", tokens: int = 2_000_000, supplies=slice(None)) -> None:
        """Let the providers publish capacity, each at a reserve of its own."""
        for number, supply in enumerate(self.supplies[grade][supplies]):
            supply.party.client.capacity.publish(
                deployment=supply.deployment, market=market.id, quantity=tokens,
                tokens_per_minute=min(tokens // 10, TOKENS_PER_MINUTE),
                reserve_price=f"0.00000{100 + 5 * number}", list_price="0.0000028",
                idempotency_key=f"stage:capacity:{market.id}:{supply.deployment}",
            )  # fmt: skip

    def bid(self, market, *, tokens: int = 1_500_000) -> None:
        """Let the three buyers bid, each at a limit of its own."""
        for number, party in enumerate((self.buyer, self.other, self.third)):
            party.client.orders.buy(
                market.id, quantity=tokens + 100_000 * number, price=f"0.00000{120 + 6 * number}",
                idempotency_key=f"stage:bid:{market.id}:{tokens}:{number}",
            )  # fmt: skip

    def close_call(self, market, *, into: tuple[str, ...] = ("continuous", "closed", "delivering")) -> None:
        """Go past the end of the call and wait for its result."""
        self.go_to(market.call_closes_at + timedelta(minutes=10))  # a call may be extended
        self.wait_phase(market.id, *into)

    def deliver(self, market) -> None:
        """Go past gate closure into the window."""
        self.go_to(market.gate_closes_at + timedelta(seconds=1))
        self.wait_phase(market.id, "closed", "delivering")
        self.go_to(market.window_start + timedelta(minutes=1))
        self.wait_phase(market.id, "delivering")

    def use(self, market, *, grade: str = "story", requests: int = 20) -> None:
        """Let each provider's meter send usage of what it delivers in the market, as of now."""
        at = self.now().isoformat()
        for supply in self.supplies[grade]:
            events = [
                {
                    "specversion": "1.0", "type": "ciyuan.usage", "id": f"{row.contract}-{next(self._numbers)}",
                    "source": supply.source, "subject": str(row.contract), "time": at,
                    "data": {"input_tokens": 2_000 + 10 * n, "cached_input_tokens": 512, "output_tokens": 500},
                }
                for row in supply.party.client.deliveries.list()
                if row["deployment"] == supply.deployment and row.window_start == market.window_start
                for n in range(requests)
            ]  # fmt: skip
            if events:
                assert {one.status for one in supply.meter.events.send(events).results} == {"accepted"}

    def count_half(self, meter, contract: int, requests: int = 10) -> None:
        """Let a buyer's meter count half the requests that `use` sends for a contract."""
        events = [
            {
                "specversion": "1.0", "type": "ciyuan.usage", "id": f"{contract}-{next(self._numbers)}",
                "source": "gateway", "subject": f"contract:{contract}", "time": self.now().isoformat(),
                "data": {"input_tokens": 2_000 + 10 * n, "cached_input_tokens": 512, "output_tokens": 500},
            }
            for n in range(requests)
        ]  # fmt: skip
        assert {one.status for one in meter.events.send(events).results} == {"accepted"}

    def settle(self, market) -> None:
        """Go past the window's end and its grace, and wait for the settlement."""
        self.go_to(market.window_end + timedelta(seconds=30))
        self.wait_phase(market.id, "settled")

    def trading(self):
        """A market in continuous trading, with bids and offers in its book."""
        made = self.market("live")
        self.offer(made, grade="live")
        self.bid(made)
        self.close_call(made, into=("continuous",))
        self.bid(made, tokens=2_500_000)
        return made

    def played(self):
        """One market from its call to its settled invoices, one in continuous trading, one in call."""
        done = self.market()
        self.offer(done)
        self.bid(done)
        self.close_call(done)
        self.deliver(done)
        self.use(done)
        self.settle(done)
        until(lambda: list(self.buyer.client.invoices.list()), "an invoice")
        trading = self.trading()
        calling = self.market()
        self.offer(calling)
        self.bid(calling)
        return SimpleNamespace(settled=done, continuous=trading, call=calling)
