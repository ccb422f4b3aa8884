"""
What billing a month costs: one contract's line from the rollup against the same from its events, and a close.

    python -m benchmarks.invoice             # FULL=1: the whole month; else its first three days
    python -m benchmarks.invoice --rows N --days N --contracts N

`rollup_vs_events`: work and tokens of one of 100 equal contracts, priced, in a month of ten million events. Both ways
cost a day's share per day, so three days of that month (a million events, as dense) say what the month would; what is
fixed per line weighs ten times as much there as in the month, against us. The close issues the documents
of 1,000 contracts (50 buyers × 20 providers on monthly cycles) and shows how far it is. A close reads charges, of which
a contract has as many as windows it was settled in, and never an event.
"""

import argparse
import os
import time
from datetime import datetime, timedelta
from typing import Any

from benchmarks import database
from benchmarks.baselines import usage_rows
from benchmarks.harness import Case, environment, interleave, report

BUYERS = 50
PRICE_NANO = 3_000
#: A line from the rollup takes a millisecond, which a busy machine's scheduler alone may double: many are timed as one.
LINES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="events of a whole month")
    parser.add_argument("--days", type=int, default=usage_rows.DAYS if os.environ.get("FULL") else 3)
    parser.add_argument("--contracts", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=11)
    options = parser.parse_args()
    print(environment())
    database.start()
    figures = lines(options.rows, options.days, options.repeats) | close(options.contracts)
    report({"rows": options.rows, "days": options.days, "contracts": options.contracts} | figures)


def lines(rows: int, days: int, repeats: int) -> dict[str, float]:
    """Time one contract's line from the rollup, by a price book from the rollup, and from the events."""
    from billing.domain.price_books import Use, rate
    from core.money import work_cost_micro
    from core.periods import Period
    from metering_ingest.actions.list_prices import rolled_up_cells
    from metering_ingest.actions.recount import recount
    from metering_ingest.ingest_workers import own_connection
    from metering_ingest.rerating import rolled_up

    usage_rows.fill(own_connection(), rows, days)
    own_connection().execute("CHECKPOINT")
    period = Period(usage_rows.START, usage_rows.START + timedelta(days=days))
    number = iter(range(1, 10**9))
    book = _book()

    def contract() -> int:
        return 1 + next(number) % usage_rows.CONTRACTS

    def from_rollup(contract_id: int) -> Any:
        [(work, tokens)] = rolled_up(contract_id, [1], period).values()
        return work_cost_micro(work_micro_st=work, price_nano=PRICE_NANO), tokens

    def from_events(contract_id: int) -> Any:
        [used] = recount([contract_id], [1], period)
        return work_cost_micro(work_micro_st=used.work_micro_st, price_nano=PRICE_NANO), used.tokens

    def many(line: Any) -> Any:
        return lambda contract_id: [line(1 + (contract_id + step) % usage_rows.CONTRACTS) for step in range(LINES)]

    def by_book(contract_id: int) -> Any:
        cells = rolled_up_cells([contract_id], [1], period)
        uses = [
            Use(1, "g", "m", name, "realtime", datetime.fromisoformat(hour), band, tokens)
            for _, (_, name, hour, band, tokens, _) in cells
        ]
        return rate(book, uses).total_micro

    assert from_rollup(7) == from_events(7)
    timings = interleave(
        {
            "from events": Case(from_events, contract),
            f"{LINES} from rollup": Case(many(from_rollup), contract),
            f"{LINES} by price book, from rollup": Case(many(by_book), contract),
        },
        repeats=repeats,
    )  # fmt: skip
    print(timings.table(f"one contract's line of {days} days of a month of {rows:,} events"))
    return {
        "rollup_vs_events": LINES * timings.ratio("from events", f"{LINES} from rollup"),
        "by_book_vs_events": LINES * timings.ratio("from events", f"{LINES} by price book, from rollup"),
    }


def close(contracts: int) -> dict[str, float]:
    """Issue the month's documents of many contracts, with progress; return seconds, and contracts a second."""
    from django.db import transaction

    from billing.actions.invoices import issue_invoices
    from billing.models import BillingProfile, Invoice
    from billing.queries import organizations_waiting
    from core.periods import Period
    from tests.billing.given import charge_input, given_charges
    from tests.given import given_organization

    start, end = usage_rows.month()
    given_organization("operator")
    buyers = [given_organization() for _ in range(BUYERS)]
    providers = [given_organization("provider") for _ in range(-(-contracts // BUYERS))]
    for party in (*buyers, *providers):
        BillingProfile.objects.create(organization=party, cycle="monthly")
    pairs = [(buyer, provider) for provider in providers for buyer in buyers][:contracts]
    occurred = Period(start + timedelta(days=9), start + timedelta(days=10))
    charges = [
        charge_input(buyer, provider, source_key=f"contract:{number}", scope=f"market:{provider.pk}", occurred=occurred)
        for number, (buyer, provider) in enumerate(pairs, 1)
    ]
    for first in range(0, len(charges), 200):
        given_charges(*charges[first : first + 200], now=start + timedelta(days=11))
    waiting = organizations_waiting()
    print(f"close: {contracts:,} contracts of {len(waiting)} organizations")
    started = time.perf_counter()
    for done, organization_id in enumerate(waiting, 1):
        with transaction.atomic():
            issue_invoices(organization_id=organization_id, now=end + timedelta(days=1))
        if done % 10 == 0 or done == len(waiting):
            print(f"close: {done} of {len(waiting)} organizations, {time.perf_counter() - started:.1f} s", flush=True)
    seconds = time.perf_counter() - started
    assert Invoice.objects.count() == len(waiting)
    assert not organizations_waiting()
    return {"close_seconds": seconds, "contracts_per_second": contracts / seconds}


def _book() -> Any:
    from billing.domain.price_book_terms import read_book

    half = [{"start_hour": 0, "end_hour": 24, "thousandths": 500}]
    classes = ("requests", "input.text", "input.text.cache_read", "output.text")
    return read_book({"rules": [{"class": n, "steps": [{"price": "0.00001"}], "other_day": half} for n in classes]})


if __name__ == "__main__":
    main()
