"""What the figures have to reach, by benchmark, and the table that says which do."""

from collections.abc import Mapping
from typing import Any

from benchmarks.harness import table

LEAST, MOST = "≥", "≤"
TARGETS: dict[str, dict[str, tuple[str, float]]] = {
    "auction": {"clear_1m_vs_sort": (LEAST, 0.6), "blocks_vs_sort_1m": (MOST, 2)},
    "book": {"limit_flow_vs_fastest_peer": (LEAST, 1.0), "all_types_flow_vs_fastest_peer": (LEAST, 0.6)},
    "orders": {
        "accept_10k_vs_copy": (LEAST, 0.15),
        "drain_10k_vs_copy": (LEAST, 0.2),
        "durable_1k_vs_orm": (LEAST, 50),
        "http_p99_vs_floor": (MOST, 6),
    },
    "settle": {"settle_vs_copy": (LEAST, 0.8), "settle_vs_copy_1m": (LEAST, 0.8)},
    "ingest": {
        "events_1k_vs_copy": (LEAST, 0.5),
        "events_10k_vs_copy": (LEAST, 0.5),
        "bytes_10k_vs_copy": (LEAST, 0.3),
        "http_vs_drf": (LEAST, 12),
        "single_vs_naive": (LEAST, 10),
        "duplicates_vs_fresh": (LEAST, 0.6),
        "wal_vs_raw": (MOST, 2.5),
        "vs_chdb": (LEAST, 0.8),
    },
    "soak": {
        "lost": (MOST, 0),
        "doubled": (MOST, 0),
        "latency_last_vs_first": (MOST, 1.5),
        "memory_last_vs_first": (MOST, 1.1),
    },
    "usage": {"rollup_vs_events": (LEAST, 100), "flat": (MOST, 1.3)},
    "ledger": {"bulk_vs_copy": (LEAST, 0.5), "hot_vs_spread": (LEAST, 0.8), "vs_hordak": (LEAST, 300)},
    "invoice": {"rollup_vs_events": (LEAST, 100)},
    "scheduler": {
        "cost_vs_best_rule": (MOST, 1.0),
        "slo_vs_best_rule": (LEAST, 1.0),
        "cost_vs_optimum": (MOST, 1.05),
    },
    "pages": {"slowest_page_vs_frame": (MOST, 5)},
    "guard": {"throughput_with_vs_without": (LEAST, 0.99), "ttft_vs_direct": (MOST, 1.2)},
}


def verdicts(figures: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return benchmark, figure, its value, the target, and met, missed or not measured; for each with a target."""
    rows = []
    for benchmark, wanted in TARGETS.items():
        if benchmark not in figures:
            continue
        for name, (sign, target) in wanted.items():
            value = (figures[benchmark] or {}).get(name)
            if not isinstance(value, int | float):
                verdict = "not measured"
            else:
                verdict = "met" if (value >= target if sign == LEAST else value <= target) else "MISSED"
            shown = f"{value:.4g}" if isinstance(value, int | float) else "–"
            rows.append((benchmark, name, shown, f"{sign} {target:g}", verdict))
    return rows


def summary(figures: Mapping[str, Any], seconds: Mapping[str, float]) -> str:
    """Return the figures against their targets, and how long each benchmark took, as text."""
    header = ("benchmark", "figure", "measured", "target", "")
    rows = verdicts(figures)
    met = sum(row[4] == "met" for row in rows)
    durations = [(name, f"{took:.0f}") for name, took in seconds.items()]
    durations.append(("all", f"{sum(seconds.values()):.0f}"))
    return "\n".join([
        table(f"Figures against their targets: {met} of {len(rows)} met", header, rows),
        table("Time taken", ("benchmark", "seconds"), durations),
    ])
