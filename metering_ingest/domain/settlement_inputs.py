"""What a settlement was rated from, as JSON: kept beside its lines, so that it can be rated again at any time."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from metering_ingest.domain.settlement import DeploymentUsage, Line, Lot, Settlement, Terms, Undelivered, settle


def inputs_of(
    lots: Sequence[Lot],
    usage: Sequence[DeploymentUsage],
    *,
    terms: Terms,
    undelivered: Sequence[Undelivered] = (),
    replaced_tokens: int = 0,
) -> dict[str, Any]:
    """Return the arguments of `settle` as JSON values."""
    return {
        "lots": [asdict(lot) for lot in lots],
        "usage": [asdict(used) for used in usage],
        "terms": asdict(terms),
        "undelivered": [asdict(missing) for missing in undelivered],
        "replaced_tokens": replaced_tokens,
    }


def rate_again(inputs: Mapping[str, Any]) -> Settlement:
    """Return what `settle` gives for stored arguments."""
    return settle(
        [Lot(**lot) for lot in inputs["lots"]],
        [DeploymentUsage(**used) for used in inputs["usage"]],
        terms=Terms(**inputs["terms"]),
        undelivered=[Undelivered(**missing) for missing in inputs["undelivered"]],
        replaced_tokens=inputs["replaced_tokens"],
    )


def as_bytes(lines: Sequence[Line | Mapping[str, Any]]) -> list[bytes]:
    """Return each line in one canonical form, to be compared byte for byte."""
    return [
        json.dumps(dict(line) if isinstance(line, Mapping) else asdict(line), sort_keys=True).encode() for line in lines
    ]
