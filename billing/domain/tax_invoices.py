"""
From documents to the lines of a tax invoice (数电发票): pure, and equal to the documents' net and tax to the fen.

What is no taxable service (rate 0: penalties, trading differences) stands on no tax invoice. Lines of one rate and
specification are one; a rate's net, which its documents rounded, is split over its lines by largest remainder, so that
lines add up to what the documents say.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from core.money import MICRO_PER_FEN, exact_decimal, largest_remainder, round_half_up

ITEM = "*信息技术服务*大模型推理词元"
UNIT = "百万词元"
MICRO_ST_PER_UNIT = 10**12
LONGEST_REMARK = 230
NUMBER = re.compile(r"[0-9]{20}")
_CREDIT_CODE = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_OLD_TAX_NUMBER = re.compile(r"[0-9A-Z]{15}|[0-9A-Z]{17}|[0-9A-Z]{20}")


class Taxed(NamedTuple):
    """A document's line as it counts here: whole fen, VAT included."""

    vat_thousandths: int
    specification: str
    quantity_micro_st: int
    gross_micro: int


class TaxTotal(NamedTuple):
    """What documents say of one rate: whole fen."""

    vat_thousandths: int
    net_micro: int
    tax_micro: int


class TaxLine(NamedTuple):
    """A line of a tax invoice: whole fen."""

    specification: str
    quantity_micro_st: int
    vat_thousandths: int
    net_micro: int
    tax_micro: int


class NotPositive(ValueError):
    """A rate whose documents come to nothing, or less."""


def is_tax_number(text: str) -> bool:
    """
    Whether a text can be a taxpayer's number: a unified social credit code with its check character (GB 32100-2015), or
    one of the older lengths.
    """
    if len(text) != 18:
        return _OLD_TAX_NUMBER.fullmatch(text) is not None
    values = [_CREDIT_CODE.find(character) for character in text]
    if -1 in values:
        return False
    total = sum(value * pow(3, place, 31) for place, value in enumerate(values[:17]))
    return (total + values[17]) % 31 == 0


def tax_lines(lines: Iterable[Taxed], totals: Iterable[TaxTotal]) -> list[TaxLine]:
    """
    Return the lines for documents' `lines`, whose sums per rate are `totals`. A part below zero (a credit) lowers the
    largest of its rate.

    :raises NotPositive: a rate whose documents come to nothing, or less.
    """
    sums: dict[int, list[int]] = {}
    for total in totals:
        if total.vat_thousandths:
            entry = sums.setdefault(total.vat_thousandths, [0, 0])
            entry[0] += total.net_micro
            entry[1] += total.tax_micro
    groups: dict[int, dict[str, list[int]]] = {rate: {} for rate in sums}
    for line in lines:
        if line.vat_thousandths in groups and (line.gross_micro or line.quantity_micro_st):
            group = groups[line.vat_thousandths].setdefault(line.specification, [0, 0])
            group[0] += line.quantity_micro_st
            group[1] += line.gross_micro
    made: list[TaxLine] = []
    for rate in sorted(sums, reverse=True):
        net, tax = sums[rate]
        if net + tax == 0:
            continue
        if net + tax < 0:
            raise NotPositive(f"what is taxed at {rate / 10:g}% comes to less than nothing")
        parts = _positive(groups[rate])
        grosses = [gross for _, _, gross in parts]
        nets = [fen * MICRO_PER_FEN for fen in largest_remainder(grosses, net // MICRO_PER_FEN)]
        made += [TaxLine(name, quantity, rate, part_net, gross - part_net)
                 for (name, quantity, gross), part_net in zip(parts, nets, strict=True)]  # fmt: skip
    return made


def _positive(groups: dict[str, list[int]]) -> list[tuple[str, int, int]]:
    """Return specification, quantity and gross of each part, all grosses above zero; the sums stay."""
    parts = sorted((name, quantity, gross) for name, (quantity, gross) in groups.items())
    while any(gross <= 0 for _, _, gross in parts) and len(parts) > 1:
        lowest = min(parts, key=lambda part: (part[2], part[0]))
        parts.remove(lowest)
        highest = max(parts, key=lambda part: (part[2], part[0]))
        parts[parts.index(highest)] = (highest[0], highest[1] + lowest[1], highest[2] + lowest[2])
    return parts


def quantity(quantity_micro_st: int) -> str:
    """Return a line's quantity in millions of standard tokens; empty for an amount only."""
    return exact_decimal(quantity_micro_st, MICRO_ST_PER_UNIT) if quantity_micro_st > 0 else ""


def unit_price(net_micro: int, quantity_micro_st: int) -> str:
    """Return ¥ without VAT for a million standard tokens, to nine decimals; empty for an amount only."""
    if quantity_micro_st <= 0:
        return ""
    return exact_decimal(round_half_up(net_micro * 10**15, quantity_micro_st), 10**9)


def remark(numbers: Sequence[str]) -> str:
    """Return the remark that names the documents; of very many the first and the last."""
    text = "账单：" + "、".join(numbers)
    if len(text) <= LONGEST_REMARK:
        return text
    return f"账单：{numbers[0]} 至 {numbers[-1]}，共 {len(numbers)} 份"
