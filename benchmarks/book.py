"""
The continuous book against the order books of PyPI: messages a second on the same flow, and how cost and memory grow.

    python -m benchmarks.book [messages] [repeats]      # FULL=1 adds a book of a million orders to the growth

`limit_flow_vs_fastest_peer` is our messages a second over the fastest peer's on the flow of `flows.limit_flow`, which
every peer can run. `all_types_flow_vs_fastest_peer` is ours on `flows.all_types_flow`, which no peer can run, over the
same fastest peer on the limit flow. Every book gets its messages ready-made, in a process of its own or ours, with the
garbage collector off; the repeats are interleaved. Where a peer shows its trades they must be ours.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zlib
from pathlib import Path
from statistics import median

from benchmarks import harness
from benchmarks.flows import all_types_flow, limit_flow
from benchmarks.peers import peers_python
from exchange.domain.book import Book
from exchange.domain.orders import Event, Kind, MarketTerms, Phase

FILL = int(Event.FILL)
TERMS = MarketTerms(cap=20_000, maximum_lots=1_000_000)
FULL = os.environ.get("FULL") == "1"
PEERS = ("nanobook", "limit-order-book", "cython-orderbook", "liquibook")


class Peer:
    """A peer in a process of its own, which runs the flow once for each line it is sent."""

    def __init__(self, name: str, messages: Path) -> None:
        script = Path(__file__).with_name("baselines") / "book_peers.py"
        self.process = subprocess.Popen(
            [peers_python(), script, name, messages],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.works = self.process.stdout.readline() == "ready\n"

    def run(self) -> dict | None:
        """Return seconds and trades of one run, or None if the peer died of it."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else None

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def run_ours(commands: list) -> dict:
    """Apply the flow to a fresh book in batches of a thousand, as a drain does; keep the trades, as the peers do."""
    book, trades = Book(TERMS, Phase.CONTINUOUS), []
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    for first in range(0, len(commands), 1000):
        for events in book.apply_all(commands[first : first + 1000]):
            if len(events) > 1:
                trades.extend([event[3:5] for event in events if event[0] == FILL])
    seconds = time.perf_counter() - start
    gc.enable()
    return {"seconds": seconds, "traded": digest(trades)}


def digest(trades: list) -> list[int]:
    """Return (number of trades, lots traded, checksum of price and lots of each), as the peers' runner does."""
    return [len(trades), sum(lots for _, lots in trades), zlib.crc32(repr(trades).encode())]


def compare(commands: list, mixed: list, repeats: int) -> tuple[dict[str, float], dict[str, str]]:
    """Return messages a second of every book, and whether each peer's trades are ours."""
    seconds: dict[str, list[float]] = {"ciyuan": [], "ciyuan, all types": []}
    trades = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flow.json"
        path.write_text(json.dumps([[int(row[6] == Kind.CANCEL), row[2], row[7], row[4], row[5]] for row in commands]))
        peers = {name: Peer(name, path) for name in PEERS}
        for name in [name for name, peer in peers.items() if not peer.works]:
            trades[name] = "not installed here"
            peers.pop(name).close()
        for _ in range(repeats):
            ours = run_ours(commands)
            seconds["ciyuan"].append(ours["seconds"])
            seconds["ciyuan, all types"].append(run_ours(mixed)["seconds"])
            for name, peer in peers.items():
                theirs = peer.run()
                if theirs is None:
                    trades[name] = "failed"
                    continue
                seconds.setdefault(name, []).append(theirs["seconds"])
                trades[name] = "not shown" if theirs["traded"] is None else "equal"
                if theirs["traded"] not in (None, ours["traded"]):
                    trades[name] = f"DIFFERENT: {theirs['traded']}, ours {ours['traded']}"
        for peer in peers.values():
            peer.close()
    return {name: len(commands) / median(each) for name, each in seconds.items()}, trades


def growth(sizes: list[int]) -> str:
    """Return what adding, cancelling and hashing costs, and the memory an order takes, at books of several sizes."""
    rows = []
    for size in sizes:
        commands = []
        for n in range(1, size + 1):
            side, behind = n % 2, n * 7919 % 500 + 1
            price = 10_000 + behind if side else 10_000 - behind
            commands.append((n, n, n, n % 1000 + 1, price, n % 100 + 1, int(Kind.LIMIT), side, 0, None))
        gc.collect()
        tracemalloc.start()
        book = Book(MarketTerms(), Phase.CONTINUOUS)
        for command in commands:
            book.apply(command)
        memory = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        start = time.perf_counter()
        book.state_hash()
        hashing = time.perf_counter() - start
        book = Book(MarketTerms(), Phase.CONTINUOUS)
        start = time.perf_counter()
        for command in commands:
            book.apply(command)
        adding = time.perf_counter() - start
        start = time.perf_counter()
        for command in commands:
            book.apply((1, 1, command[2], 0, 0, 0, int(Kind.CANCEL), 0, 0, None))
        cancelling = time.perf_counter() - start
        costs = (f"{1e9 * cost / size:,.0f}" for cost in (adding, cancelling, hashing))
        rows.append((f"{size:,}", *costs, f"{memory / size:,.0f}"))
    return harness.table("A book of so many resting orders, per order",
                         ("orders", "add ns", "cancel ns", "hash ns", "bytes"), rows)  # fmt: skip


def main(count: int = 1_000_000, repeats: int = 3) -> None:
    print(harness.environment())
    commands, mixed = limit_flow(count), all_types_flow(count)
    rates, trades = compare(commands, mixed, repeats)
    rows = [(name, f"{rate:,.0f}", trades.get(name, "")) for name, rate in rates.items()]
    print(harness.table(f"{count:,} messages, median of {repeats}", ("book", "messages/s", "trades"), rows))
    sizes = (1_000, 10_000, 100_000, *([1_000_000] if FULL else []))
    print(growth([size for size in sizes if size <= count]))
    fastest = max(rate for name, rate in rates.items() if name in PEERS)
    harness.report({
        "limit_flow_vs_fastest_peer": rates["ciyuan"] / fastest,
        "all_types_flow_vs_fastest_peer": rates["ciyuan, all types"] / fastest,
        "messages_per_second": rates["ciyuan"],
        "fastest_peer": next(name for name, rate in rates.items() if rate == fastest and name in PEERS),
    })  # fmt: skip


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
