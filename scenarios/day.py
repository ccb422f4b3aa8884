"""
`python -m scenarios.day [TRACE]`: a whole trading day on real usage, end to end, on an instance of its own.

Its clock maps the trace's first request to the start of an off-peak window. Providers publish capacity, buyers bid, the
call auction clears at its closing time, the trace's requests are metered as they came, the window is settled, invoices
and statements are issued, and the books are audited. The same trace and seed give the same invoices, line by line.
"""

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from ciyuan import CiyuanError
from ciyuan.named_cards import named_card
from ciyuan.standard_token import work

from config.instance import Instance
from scenarios.parties import Keyring, Party, Setting, Supply
from scenarios.traces import NotATrace, Trace, TraceRequest, generate, read_trace

SHANGHAI = ZoneInfo("Asia/Shanghai")
GRADE, MODEL = "qwen3-32b-batch-cn", "qwen3-32b"
LIST_PRICE = Decimal("0.0000026")
LOT_TOKENS = 1_000
BATCH = 500
SHOWN_BAD_LINES = 20
NIGHT = timedelta(hours=9)  # the night window of the default schedule
MICRO = 1_000_000
#: A day whose holidays are published, for traces that bear no date.
DEFAULT_DAY = date(2026, 11, 23)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Provider:
    """Who offers: share of the trace's work in thousandths, reserve price as a share of list."""

    name: str
    name_zh: str
    accelerator: str
    count: int
    engine: str
    share: int
    reserve: Decimal


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who wants: share of the trace's work in thousandths, bid as a share of list (None: at the market)."""

    name: str
    name_zh: str
    share: int
    bid: Decimal | None


PROVIDERS = (
    Provider("Yanshan Kunlun", "燕山昆仑", "baidu-kunlun-3", 64, "vllm", 380, Decimal("0.36")),
    Provider("Pengcheng Ascend", "鹏城昇腾", "huawei-ascend-910b", 128, "mindie", 520, Decimal("0.40")),
    Provider("Hongqiao Mixed", "虹桥聚合", "nvidia-h20-96gb", 64, "sglang", 400, Decimal("0.44")),
)
BUYERS = (
    Buyer("Lantern Search", "灯笼搜索", 380, Decimal("0.52")),
    Buyer("Maple Legal", "枫叶法务", 240, Decimal("0.47")),
    Buyer("Harbour Games", "港湾游戏", 200, None),
    Buyer("Plum Tutors", "梅花教育", 180, Decimal("0.43")),
    Buyer("Heron Media", "白鹭传媒", 150, Decimal("0.38")),
)


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract as the day's driver sees it."""

    id: int
    buyer: int
    provider: int
    quantity: int


class DayFailed(RuntimeError):
    """The day could not go on; the message says where it stopped and what to look at."""


class Day:
    """One trading day on a running instance. Each step may be repeated; repeating changes nothing."""

    def __init__(
        self,
        *,
        instance: Instance,
        trace: Trace,
        seed: int,
        say: Callable[[str], None] = print,
        files: Path | None = None,
    ) -> None:
        self.instance = instance
        self.files = files
        self.trace = trace
        self.seed = seed
        self.say = say
        day = trace.starts_at.astimezone(SHANGHAI).date() if trace.starts_at else DEFAULT_DAY
        self.window_start = datetime.combine(day, clock_time(), SHANGHAI).astimezone(UTC)
        self.starts_at = self.window_start - timedelta(hours=25)
        self.work_micro = [_work_micro(request) for request in trace.requests]
        self.total_tokens = -(-sum(self.work_micro) // MICRO)
        self.setting: Setting
        self.buyers: list[Party] = []
        self.supplies: list[Supply] = []
        self.market: Any = None

    # the steps, in order -----------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Play the day and return its figures (JSON values)."""
        self.open()
        self.publish_and_bid()
        auction = self.clear()
        contracts = self.close_gate()
        sent = self.deliver(contracts)
        documents = self.settle(traded=bool(auction.volume))
        return self.report(auction, contracts, sent, documents)

    def open(self) -> None:
        """Make the parties and find the window's market, which the schedule has created ahead."""
        key_file = self.instance.var / "operator.key"
        self.instance.manage("load_catalogue")
        self.instance.manage("bootstrap", "--key-file", str(key_file))
        self.setting = Setting(
            url=self.instance.base_url,
            operator_key=key_file.read_text().strip(),
            name=f"day{self.seed}",
            keyring=Keyring(self.instance.var / "day-keys.json"),
        )
        for wants in BUYERS:
            self.buyers.append(
                self.setting.party("buyer", wants.name, wants.name_zh, deposit="5000000.00", allows_overage="100000.00")
            )
        for offers in PROVIDERS:
            party = self.setting.party("provider", offers.name, offers.name_zh, deposit="1000000.00")
            rate = -(-self._offered_by(offers) // self._window_minutes())
            self.supplies.append(
                self.setting.supply(
                    party,
                    grade=GRADE,
                    accelerator=offers.accelerator,
                    count=offers.count,
                    engine=offers.engine,
                    precision="bf16",
                    region="cn-north",
                    rated_tokens_per_minute=2 * rate,
                    endpoint=self._endpoint(offers.name),
                )
            )
        for supply in self.supplies:
            for number, buyer in enumerate(self.buyers, start=1):
                self.setting.alias(supply, subject=f"customer-{number}", buyer=buyer)
        self.market = self._wait_for("the window's market", self._find_market)
        self.say(
            f"market {self.market.id}: {GRADE}, {_local(self.market.window_start)} to "
            f"{_local(self.market.window_end)} Shanghai"
        )

    def publish_and_bid(self) -> None:
        """Publish capacity at around 60% below list, and bid for the work that the trace will be."""
        self._go_to(self.market.call_opens_at)
        for supply, offers in zip(self.supplies, PROVIDERS, strict=True):
            quantity = self._offered_by(offers)
            publish = partial(
                supply.party.client.capacity.publish,
                deployment=supply.deployment,
                market=self.market.id,
                quantity=quantity,
                tokens_per_minute=-(-quantity // self._window_minutes()),
                reserve_price=self._on_tick(LIST_PRICE * offers.reserve),
                list_price=LIST_PRICE,
                idempotency_key=f"day{self.seed}:capacity:{supply.deployment}",
            )
            self._patiently(publish)
        self._wait_for("the call phase", lambda: self._market().phase == "call" or None)
        for number, (buyer, wants) in enumerate(zip(self.buyers, BUYERS, strict=True), start=1):
            bid = partial(
                buyer.client.orders.buy,
                self.market.id,
                quantity=_lots(max(self._minimum_order(), self.total_tokens * wants.share // 1_000)),
                price=None if wants.bid is None else self._on_tick(LIST_PRICE * wants.bid),
                idempotency_key=f"day{self.seed}:bid:{number}",
            )
            self._patiently(bid)

    def clear(self) -> Any:
        """Go to the call's end and wait for the auction's result."""
        self._go_to(self.market.call_closes_at)
        auction = self._wait_for("the auction's result", self._find_auction)
        price = f"¥{auction.price}/token" if auction.price is not None else "no price"
        self.say(f"auction {auction.id}: {price}, volume {auction.volume:,} standard tokens, decided by {auction.rule}")
        return auction

    def close_gate(self) -> list[Contract]:
        """Go past gate closure to the window's start; return the delivery contracts."""
        self._go_to(self.market.gate_closes_at)
        self._wait_for("gate closure", lambda: self._market().phase in ("closed", "delivering", "settled") or None)
        self._go_to(self.window_start)
        self._wait_for("the delivery phase", lambda: self._market().phase in ("delivering", "settled") or None)
        contracts = self._patiently(
            lambda: [
                Contract(row.id, buyer.organization, int(row["provider"]), row.quantity)
                for buyer in self.buyers
                for row in buyer.client.contracts.list(market=self.market.id)
            ]
        )
        self.say(f"{len(contracts)} delivery contracts for {sum(c.quantity for c in contracts):,} standard tokens")
        return sorted(contracts, key=lambda contract: contract.id)

    def deliver(self, contracts: Sequence[Contract]) -> Counter[str]:
        """Meter the trace's requests as they came: each provider's meter sends what its buyers used."""
        counted: Counter[str] = Counter()
        for moment, supply, events in self._batches(self._assign(contracts)):
            self._go_to(moment)
            answer = self._patiently(partial(supply.meter.events.send, events))
            counted.update(result.status for result in answer.results)
            for result in answer.results:
                if result.status not in ("accepted", "duplicate"):
                    self.say(f"event {result.id}: {result.status} ({result.detail})")
        self.say("events: " + ", ".join(f"{count:,} {status}" for status, count in sorted(counted.items())))
        return counted

    def settle(self, *, traded: bool) -> list[dict[str, Any]]:
        """
        Go past the window's end and its grace, then past the day's, when usage without a contract is settled at list
        price; wait for both settlements; return all documents with their lines.
        """
        self._go_to(self.market.window_end)
        grace = timedelta(seconds=int(self._grade()["grace_seconds"]))
        self._go_to(self.market.window_end + grace + timedelta(seconds=1))
        self._wait_for("settlement", lambda: self._market().phase == "settled" or None)
        self._go_to(self.window_start + timedelta(days=1) + grace + timedelta(seconds=1))
        return self._wait_for("invoices and statements", lambda: self._documents(traded=traded))

    def report(
        self, auction: Any, contracts: Sequence[Contract], sent: Counter[str], documents: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Print the figures and the audit's verdict; return them."""
        metered: Counter[str] = Counter()
        for buyer in self.buyers:
            metered += self._metered(buyer)
        self.say("metered tokens: " + ", ".join(f"{count:,} {name}" for name, count in sorted(metered.items())))
        invoices = [document for document in documents if document["document"] == "invoice"]
        if invoices:
            largest = max(invoices, key=lambda invoice: Decimal(invoice["total"]))
            self.say(f"largest invoice: ¥{largest['total']} to {largest['party']}, {len(largest['lines'])} lines")
        self._hand_over()
        self.say(self.instance.manage("seal_journal").stdout.strip().rpartition("\n")[2] or "every day is sealed")
        rated = self.instance.manage("rerate", check=False)
        self.say((rated.stdout + rated.stderr).strip().rpartition("\n")[2])
        sums = self.instance.manage("book_totals", check=False)
        self.say((sums.stdout + sums.stderr).strip())
        audit = self.instance.manage("audit", check=False)
        lines = audit.stdout.strip().splitlines() or [audit.stderr.strip()]
        self.say(lines[-1] if audit.returncode == 0 else "\n".join(lines))
        return {
            "auction": {"price": str(auction.price), "volume": auction.volume, "rule": auction.rule},
            "contracts": sorted(
                [self._name_of(contract.buyer), self._name_of(contract.provider), contract.quantity]
                for contract in contracts
            ),
            "events": dict(sent),
            "metered": dict(metered),
            "documents": documents,
            "audit_clean": audit.returncode == 0,
            "rates_the_same": rated.returncode == 0,
            "sums_agree": sums.returncode == 0,
        }

    def _hand_over(self) -> None:
        """Write each document as PDF in both languages, and each buyer's FOCUS file, where a folder is named."""
        if self.files is None:
            return
        self.files.mkdir(parents=True, exist_ok=True)
        for party in (*self.buyers, *(supply.party for supply in self.supplies)):
            for documents in (party.client.invoices, party.client.statements):
                for document in documents.list():
                    for language in ("zh", "en"):
                        content = documents.pdf(document.id, language=language)
                        (self.files / f"{document.number}-{language}.pdf").write_bytes(content)
        first, last = self.window_start - timedelta(days=31), self.window_start + timedelta(days=31)
        days = {"first": _local(first)[:10], "last": _local(last)[:10]}
        for number, buyer in enumerate(self.buyers, start=1):
            focus = buyer.client.exports.focus(first=days["first"], last=days["last"])
            (self.files / f"focus-{number}.csv").write_bytes(focus)
        written = Counter(file.suffix[1:] for file in self.files.iterdir())
        self.say(f"{self.files}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(written.items())))

    def _metered(self, buyer: Party) -> Counter[str]:
        """What the meters say that a buyer used, by class."""
        rows = buyer.client.usage.query(
            group_by=["class"], start=self.market.window_start, end=self.market.window_end
        )
        return Counter({str(row["class"]): int(row["quantity"]) for row in rows})

    # how ---------------------------------------------------------------------------------------------------------

    def _name_of(self, organization: int) -> str:
        parties = [*self.buyers, *(supply.party for supply in self.supplies)]
        return next(party.name for party in parties if party.organization == organization)

    def _endpoint(self, name: str) -> str:
        """Where a provider is called: nowhere, its meter speaks for it."""
        return ""

    def _offered_by(self, offers: Provider) -> int:
        return _lots(max(self._minimum_order(), self.total_tokens * offers.share // 1_000))

    def _window_minutes(self) -> int:
        if self.market is None:
            return NIGHT // timedelta(minutes=1)
        minutes: int = (self.market.window_end - self.market.window_start) // timedelta(minutes=1)
        return minutes

    def _grade(self) -> dict[str, Any]:
        return self._patiently(lambda: self.setting.operator.grades.get(GRADE)).raw

    def _minimum_order(self) -> int:
        return int(self._grade()["min_order"])

    def _on_tick(self, price: Decimal) -> Decimal:
        tick = Decimal(self._grade()["tick"])
        return (price / tick).to_integral_value() * tick

    def _find_market(self) -> Any:
        for market in self.setting.operator.markets.list(grade=GRADE):
            if market.window_start == self.window_start:
                return market
        return None

    def _market(self) -> Any:
        return self.setting.operator.markets.get(self.market.id)

    def _find_auction(self) -> Any:
        return next(iter(self.setting.operator.auctions.list(market=self.market.id)), None)

    def _assign(self, contracts: Sequence[Contract]) -> Iterator[tuple[TraceRequest, Supply, str]]:
        """
        Say who served each request to whom: buyers by their share, of a buyer's contracts the one with most left.

        A buyer without a contract goes to the first provider, at list price within what it allowed as overage.
        """
        left = {contract.id: contract.quantity * MICRO for contract in contracts}
        of_provider = {supply.party.organization: supply for supply in self.supplies}
        for request, work_micro, chosen in self._by_buyer():
            mine = [contract for contract in contracts if contract.buyer == self.buyers[chosen].organization]
            supply = self.supplies[0]
            if mine:
                contract = max(mine, key=lambda one: (left[one.id], -one.id))
                left[contract.id] -= work_micro
                supply = of_provider[contract.provider]
            yield request, supply, f"customer-{chosen + 1}"

    def _by_buyer(self) -> Iterator[tuple[TraceRequest, int, int]]:
        """Each request with its work and the number of the buyer whose it is: by the buyers' shares, in turn."""
        owed = [0] * len(BUYERS)
        for request, work_micro in zip(self.trace.requests, self.work_micro, strict=True):
            owed = [due + wants.share for due, wants in zip(owed, BUYERS, strict=True)]
            chosen = owed.index(max(owed))
            owed[chosen] -= sum(wants.share for wants in BUYERS)
            yield request, work_micro, chosen

    def _batches(
        self, served: Iterator[tuple[TraceRequest, Supply, str]]
    ) -> Iterator[tuple[datetime, Supply, list[dict[str, Any]]]]:
        """Group the events by meter, in the order of time; each batch goes out when its last request has ended."""
        waiting: dict[int, tuple[Supply, list[dict[str, Any]]]] = {}
        moment = self.window_start
        for request, supply, subject in served:
            moment = self.window_start + request.after
            _, events = waiting.setdefault(supply.deployment, (supply, []))
            events.append(_event(request, supply, subject, moment))
            if len(events) == BATCH:
                del waiting[supply.deployment]
                yield moment, supply, events
        for supply, events in waiting.values():
            yield moment, supply, events

    def _documents(self, *, traded: bool) -> list[dict[str, Any]] | None:
        """Return all invoices and statements once every charge stands on one; None before that."""
        found = []
        for buyer in self.buyers:
            charges = list(buyer.client.account.charges())
            charged = sum(int(charge.raw["tokens"].get("output.text", 0)) for charge in charges)
            if charged < self._metered(buyer)["output.text"]:  # what no contract covers is settled a day later
                return None
            if any(charge.raw.get("invoice") is None for charge in charges):
                return None
            invoices = [buyer.client.invoices.get(invoice.id).raw for invoice in buyer.client.invoices.list()]
            found += [_comparable("invoice", buyer, invoice) for invoice in invoices]
        for supply in self.supplies:
            client = supply.party.client
            if any(charge.raw.get("statement") is None for charge in client.account.charges()):
                return None
            statements = [client.statements.get(statement.id).raw for statement in client.statements.list()]
            found += [_comparable("statement", supply.party, statement) for statement in statements]
        return sorted(found, key=_said) if found or not traded else None

    def _go_to(self, moment: datetime) -> None:
        """Move the instance's clock forwards to `moment`, unless it is there already."""
        with suppress(ValueError):
            self.instance.set_clock(product=moment)

    def _wait_for(self, what: str, look: Callable[[], T | None], *, seconds: float = 120) -> T:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self._patiently(look)
            if found is not None:
                return found
            time.sleep(0.1)
        raise DayFailed(f"Waited {seconds:.0f} s for {what}. The logs are in {self.instance.logs}.")

    def _patiently(self, call: Callable[[], T], *, seconds: float = 120) -> T:
        """Make a call that is safe to repeat until the instance answers: a process may be away for a while."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return call()
            except CiyuanError as error:
                if 0 < error.status < 500 or time.monotonic() > deadline:  # 0: no answer came
                    raise
                time.sleep(0.3)


def _work_micro(request: TraceRequest) -> int:
    done = work(
        named_card(MODEL),
        input_tokens=request.input_tokens,
        cached_input_tokens=request.cached_input_tokens,
        output_tokens=request.output_tokens,
    )
    return done.input_micro_st + done.cached_input_micro_st + done.output_micro_st


def _event(request: TraceRequest, supply: Supply, subject: str, moment: datetime) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": "ciyuan.usage",
        "id": f"request-{request.line}",
        "source": supply.source,
        "subject": subject,
        "time": moment.isoformat().replace("+00:00", "Z"),
        "data": {
            "input_tokens": request.input_tokens,
            "cached_input_tokens": request.cached_input_tokens,
            "output_tokens": request.output_tokens,
        },
    }


#: What names a row or a moment of this run: another run of the same day gives others.
RUN_LABELS = frozenset({"market", "contract", "auction", "deployment"})


def _comparable(document: str, party: Party, detail: dict[str, Any]) -> dict[str, Any]:
    """
    What must be the same on a second run: total and lines, without ids and wall-clock stamps.

    Lines of one kind stand in the order of their contracts, and list usage makes its contract when the first of it
    arrives; so they are put in an order of their own here, that of what they say.
    """
    lines = []
    for line in detail["lines"]:
        kept = {name: value for name, value in line.items() if name not in ("id", "number", "scope", "charges")}
        kept["labels"] = {name: value for name, value in line["labels"].items() if name not in RUN_LABELS}
        lines.append(kept)
    return {"document": document, "party": party.name, "total": detail["total"], "lines": sorted(lines, key=_said)}


def _said(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True)


def _lots(tokens: int) -> int:
    return -(-tokens // LOT_TOKENS) * LOT_TOKENS


def _local(moment: datetime) -> str:
    return moment.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M")


def play(
    *, instance: Instance, trace: Trace, seed: int, say: Callable[[str], None] = print, files: Path | None = None,
    via: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Start the instance a day before the window, play the day (`via` "gateway": by calls), stop it."""
    kind = Day
    if via:
        from scenarios.day_gateway import GatewayDay

        kind = GatewayDay
    day = kind(instance=instance, trace=trace, seed=seed, say=say, files=files)
    say(f"{len(trace.requests):,} requests, {day.total_tokens:,} standard tokens; starting an instance …")
    instance.set_clock(product=day.starts_at, speed=1.0)
    with instance.started():
        return day.run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a day by the command line; 0 when the audit is clean."""
    parser = argparse.ArgumentParser(prog="make day", description="A whole trading day on a usage trace.")
    parser.add_argument(
        "trace",
        nargs="?",
        type=Path,
        help="CSV of Azure or BurstGPT, JSONL of Mooncake or Qwen-Bailian; without it traffic is made up",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--via", choices=["", "gateway"], default="", help="gateway: make the requests instead of reporting them"
    )
    parser.add_argument("--var", type=Path, default=Path("var/day"), help="the instance's folder, emptied first")
    parser.add_argument("--out", type=Path, help="write the figures and all document lines as JSON")
    parser.add_argument(
        "--files", type=Path, default=Path("build/day"), help="where the day's PDFs and FOCUS files go, emptied first"
    )
    parser.add_argument("--keep", action="store_true", help="leave the instance's data for a look afterwards")
    chosen = parser.parse_args(arguments)
    try:
        trace = read_trace(chosen.trace) if chosen.trace else generate(seed=chosen.seed)
    except (NotATrace, OSError) as error:
        print(f"make day: {error}", file=sys.stderr)
        return 2
    for bad in trace.bad_lines[:SHOWN_BAD_LINES]:
        print(f"{chosen.trace}: {bad}; left out", file=sys.stderr)
    if len(trace.bad_lines) > SHOWN_BAD_LINES:
        print(f"{chosen.trace}: {len(trace.bad_lines):,} such lines in all; left out", file=sys.stderr)
    within = [request for request in trace.requests if request.after < NIGHT]
    if len(within) < len(trace.requests):
        late = len(trace.requests) - len(within)
        print(f"{chosen.trace}: {late:,} requests come after the night's nine hours; left out", file=sys.stderr)
        trace = replace(trace, requests=within)
    instance = Instance(var=chosen.var, clock=True, seed=chosen.seed)
    if chosen.var.exists():
        instance.stop()
        instance.remove()
    began = time.monotonic()
    try:
        shutil.rmtree(chosen.files, ignore_errors=True)
        result = play(instance=instance, trace=trace, seed=chosen.seed, files=chosen.files, via=chosen.via)
    except (DayFailed, CiyuanError) as error:
        print(f"make day: {error}", file=sys.stderr)
        return 1
    finally:
        if not chosen.keep:
            instance.remove()
    print(f"the day took {time.monotonic() - began:.0f} s")
    if chosen.out:
        chosen.out.write_text(json.dumps(result, ensure_ascii=False, indent=1))
    return 0 if result["audit_clean"] and result["rates_the_same"] and result["sums_agree"] else 1


if __name__ == "__main__":
    sys.exit(main())
