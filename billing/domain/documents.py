"""
From charges to the lines and totals of a document: pure, so that the same charges give the same document, to the fen.

Charges that differ only in what a reader does not need apart (deployment, revision) share a line. Lines of one section
and VAT rate are summed in micro-yuan and rounded to the fen **once**; the printed lines are fen by largest remainder,
so that they add up to that gross; tax = gross × rate ÷ (1 + rate), rounded; net = gross − tax. What rounding took or
gave is `rounding_micro`, which the ledger books.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from billing.domain.charges import ChargeKind, Label
from core.money import TaxSplit, fen_lines, vat_of_gross

LINE_LABELS = ("market", "window_start", "window_end", "grade", "grade_name", "grade_name_zh", "model", "contract",
               "lot", "take_or_pay_thousandths", "penalty_thousandths", "late", "replaced_by", "standard_version",
               "price_book", "price_rule", "calculation", "auction", "late_month")
SUPPLY, FEE = "supply", "fee"
KIND_ORDER = {kind.value: number for number, kind in enumerate(ChargeKind)}
FEE_KIND = "platform_fee"


class Item(NamedTuple):
    """One side of a charge: what a document of that side takes of it."""

    charge_id: UUID
    kind: str
    scope: str
    labels: dict[str, Label]
    tokens: dict[str, int]
    quantity_micro_st: int
    price_nano: int
    amount_micro: int
    vat_thousandths: int
    fee_micro: int  # 0 on the buyer's side
    occurred_start: datetime
    occurred_end: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """A printed line. `amount_micro` is exact, `printed_micro` whole fen; a fee's are negative."""

    section: str
    kind: str
    scope: str
    labels: dict[str, Label]
    tokens: dict[str, int]
    quantity_micro_st: int
    price_nano: int
    amount_micro: int
    printed_micro: int
    vat_thousandths: int
    charge_ids: tuple[UUID, ...]
    occurred_start: datetime
    occurred_end: datetime


@dataclass(frozen=True, slots=True)
class TaxLine:
    """The total of one section at one VAT rate, in whole fen."""

    section: str
    vat_thousandths: int
    gross_micro: int
    net_micro: int
    tax_micro: int


@dataclass(frozen=True, slots=True)
class Document:
    """Lines and totals. `total_micro` = `exact_micro` + `rounding_micro`, in whole fen."""

    lines: tuple[Line, ...]
    taxes: tuple[TaxLine, ...]
    exact_micro: int
    total_micro: int

    @property
    def rounding_micro(self) -> int:
        """What rounding to the fen added (or, negative, took)."""
        return self.total_micro - self.exact_micro

    @property
    def net_micro(self) -> int:
        """The total without tax."""
        return sum(tax.net_micro for tax in self.taxes)

    @property
    def tax_micro(self) -> int:
        """The tax in the total."""
        return sum(tax.tax_micro for tax in self.taxes)


def draw_up(items: Iterable[Item], *, fee_vat_thousandths: int = 0) -> Document:
    """Return the document of these items. A provider's fees become one line, deducted in a section of their own."""
    groups: dict[tuple[object, ...], list[Item]] = {}
    everything = sorted(items, key=lambda item: item.charge_id)
    for item in everything:
        groups.setdefault(_line_key(item), []).append(item)
    lines = [_line(group) for group in sorted(groups.values(), key=_order)]
    fees = [item for item in everything if item.fee_micro]
    if fees:
        lines.append(_fee_line(fees, fee_vat_thousandths))
    printed: list[Line] = []
    taxes: list[TaxLine] = []
    for section, rate in sorted({(line.section, line.vat_thousandths) for line in lines}, reverse=True):
        part = [line for line in lines if (line.section, line.vat_thousandths) == (section, rate)]
        fen = fen_lines([line.amount_micro for line in part])
        printed += [replace(line, printed_micro=amount) for line, amount in zip(part, fen, strict=True)]
        split = _split(sum(fen), rate)
        taxes.append(TaxLine(section, rate, split.gross_micro, split.net_micro, split.tax_micro))
    return Document(
        lines=tuple(printed), taxes=tuple(taxes), exact_micro=sum(line.amount_micro for line in lines),
        total_micro=sum(tax.gross_micro for tax in taxes))


def _split(gross_micro: int, rate: int) -> TaxSplit:
    """Split a gross of either sign; a credit is the mirror of what it credits."""
    if gross_micro >= 0:
        return vat_of_gross(gross_micro, rate)
    mirror = vat_of_gross(-gross_micro, rate)
    return TaxSplit(-mirror.gross_micro, -mirror.net_micro, -mirror.tax_micro)


def _line_key(item: Item) -> tuple[object, ...]:
    labels = tuple(item.labels.get(name) for name in LINE_LABELS)
    return (item.kind, item.scope, *labels, item.price_nano, item.vat_thousandths)


def _order(group: list[Item]) -> tuple[object, ...]:
    first = group[0]
    start = min(item.occurred_start for item in group)
    contract, lot = (_number(first.labels.get(name)) for name in ("contract", "lot"))
    return start, first.scope, contract, lot, KIND_ORDER[first.kind], str(first.labels.get("model")), first.price_nano


def _number(label: Label) -> int:
    return label if isinstance(label, int) else 0


def _line(group: list[Item]) -> Line:
    first = group[0]
    tokens: dict[str, int] = {}
    for item in group:
        for name, count in item.tokens.items():
            tokens[name] = tokens.get(name, 0) + count
    return Line(
        section=SUPPLY, kind=first.kind, scope=first.scope,
        labels={name: first.labels[name] for name in LINE_LABELS if first.labels.get(name) is not None},
        tokens=dict(sorted(tokens.items())), quantity_micro_st=sum(item.quantity_micro_st for item in group),
        price_nano=first.price_nano, amount_micro=sum(item.amount_micro for item in group), printed_micro=0,
        vat_thousandths=first.vat_thousandths, charge_ids=tuple(item.charge_id for item in group),
        occurred_start=min(item.occurred_start for item in group),
        occurred_end=max(item.occurred_end for item in group))


def _fee_line(items: list[Item], vat_thousandths: int) -> Line:
    return Line(
        section=FEE, kind=FEE_KIND, scope="", labels={}, tokens={}, quantity_micro_st=0, price_nano=0,
        amount_micro=-sum(item.fee_micro for item in items), printed_micro=0, vat_thousandths=vat_thousandths,
        charge_ids=(), occurred_start=min(item.occurred_start for item in items),
        occurred_end=max(item.occurred_end for item in items))
