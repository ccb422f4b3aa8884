"""The catalogue that comes with the product, from its data files into rows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from ciyuan.named_cards import named_card, named_derivation
from ciyuan.standard_token import REFERENCE_7B

from core.errors import BadRequest
from core.transactions import assert_in_transaction
from providers.actions.catalogue import AcceleratorFacts, ModelFacts, publish_model_card, put_accelerator
from providers.actions.grades import GradeTerms, publish_grade

DATA = Path(__file__).resolve().parent.parent / "data"


class BadCatalogueFile(BadRequest):
    """A data file that cannot be read; the detail names file and entry."""

    code = "bad-catalogue-file"


@dataclass(frozen=True, slots=True)
class Loaded:
    """How many rows of each kind were stored or changed; what was there already is not counted."""

    accelerators: int
    model_cards: int
    grades: int


def load_catalogue(*, now: datetime, accelerators_file: Path | None = None) -> Loaded:
    """
    Load accelerators, model cards and default grades; what is there already stays as it is, corrected figures aside.

    :param accelerators_file: another list of accelerators, in the form of `providers/data/accelerators.json`.
    :raises BadCatalogueFile: an entry that cannot be read.
    :raises ModelCardFrozen, GradeExists: an entry contradicts what is published.
    """
    assert_in_transaction()
    return Loaded(
        accelerators=sum(put_accelerator(facts=facts, now=now)[1] for facts in read_accelerators(accelerators_file)),
        model_cards=sum(publish_model_card(facts=facts, now=now)[1] for facts in read_models()),
        grades=sum(publish_grade(terms=terms, now=now)[1] for terms in read_grades()),
    )


def read_accelerators(path: Path | None = None) -> Iterator[AcceleratorFacts]:
    """Read the accelerators of the file (by default the product's own)."""
    path = path or DATA / "accelerators.json"
    for entry in _entries(path):
        facts = {**entry, "as_of": _day(path, entry), "unverified": tuple(entry.get("unverified", ()))}
        yield _made(path, entry, AcceleratorFacts, facts)


def read_models() -> Iterator[ModelFacts]:
    """Read the models named in the file; their cards follow from the configs that the SDK publishes."""
    path = DATA / "models.json"
    for entry in _entries(path):
        name = entry["name"]
        if name == REFERENCE_7B.name:
            card, total_params, source = named_card(name), REFERENCE_7B.active_params, "ST-2026.1, reference model"
        else:
            derivation = named_derivation(name)
            card, total_params = derivation.card, derivation.total_params
            source = f"config.json of the published weights of {name}, derived weight by weight"
        numbers = {key: value for key, value in card.to_dict().items() if key != "name"}
        yield ModelFacts(
            slug=name.lower(),
            name=name,
            card=numbers,
            total_params=total_params,
            source=source,
            as_of=_day(path, entry),
        )


def read_grades() -> Iterator[GradeTerms]:
    """Read the default grades."""
    path = DATA / "grades.json"
    for entry in _entries(path):
        yield _made(path, entry, GradeTerms, {**entry, "precisions": tuple(entry["precisions"])})


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadCatalogueFile(f"{path.name}: {error}.") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadCatalogueFile(f"{path.name} is a list of objects.")
    return entries


def _day(path: Path, entry: dict[str, Any]) -> date:
    try:
        return date.fromisoformat(entry["as_of"])
    except (KeyError, TypeError, ValueError):
        raise BadCatalogueFile(f"{path.name}: {_name(entry)} needs as_of as YYYY-MM-DD.") from None


def _made(path: Path, entry: dict[str, Any], kind: Any, values: dict[str, Any]) -> Any:
    try:
        return kind(**values)
    except TypeError as error:
        raise BadCatalogueFile(f"{path.name}: {_name(entry)}: {error}.") from None


def _name(entry: dict[str, Any]) -> str:
    return str(entry.get("slug") or entry.get("name") or "an entry")
