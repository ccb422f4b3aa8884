"""What a settlement was rated from, as JSON: kept beside its lines, so that it can be rated again at any time."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from metering_ingest.domain.list_usage import ListPrices
from metering_ingest.domain.settlement import DeploymentUsage, Late, Line, Lot, Settlement, Terms, Undelivered, settle


def inputs_of(
    lots: Sequence[Lot],
    usage: Sequence[DeploymentUsage],
    *,
    terms: Terms,
    undelivered: Sequence[Undelivered] = (),
    replaced_tokens: int = 0,
    list_prices: ListPrices | None = None,
    late: Late | None = None,
) -> dict[str, Any]:
    """Return the arguments of `settle` as JSON values."""
    return {
        "lots": [asdict(lot) for lot in lots],
        "usage": [asdict(used) for used in usage],
        "terms": asdict(terms),
        "undelivered": [asdict(missing) for missing in undelivered],
        "replaced_tokens": replaced_tokens,
        "list_prices": list_prices.as_json() if list_prices else None,
        "late": asdict(late) if late else None,
    }


def rate_again(inputs: Mapping[str, Any]) -> Settlement:
    """Return what `settle` gives for stored arguments."""
    return settle(
        [Lot(**lot) for lot in inputs["lots"]],
        [DeploymentUsage(**used) for used in inputs["usage"]],
        terms=Terms(**inputs["terms"]),
        undelivered=[Undelivered(**missing) for missing in inputs["undelivered"]],
        replaced_tokens=inputs["replaced_tokens"],
        list_prices=ListPrices.from_json(prices) if (prices := inputs.get("list_prices")) else None,
        late=Late(**slow) if (slow := inputs.get("late")) else None,
    )


def as_bytes(lines: Sequence[Line | Mapping[str, Any]]) -> list[bytes]:
    """Return each line in one canonical form, to be compared byte for byte; a book's words where it said some."""
    return [json.dumps(_said(line), sort_keys=True).encode() for line in lines]


_OF_A_BOOK = ("price_book", "price_rule", "calculation")  # older lines have not got them


def _said(line: Line | Mapping[str, Any]) -> dict[str, Any]:
    values = dict(line) if isinstance(line, Mapping) else asdict(line)
    return {name: value for name, value in values.items() if value or name not in _OF_A_BOOK}
