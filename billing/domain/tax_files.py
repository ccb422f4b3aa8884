"""
The tax platform's files: what is to be issued, as the two sheets of its batch template, and its answer as CSV.

An adapter's pure half: it speaks the platform's column names and returns ours. Another platform is another module.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

from billing.domain.bank_files import BadLine, rows_of
from billing.domain.tax_invoices import NUMBER, UNIT, quantity, unit_price
from core.money import MICRO_PER_FEN, BadAmount, format_yuan, parse_yuan_micro

KIND_NAMES = {"81": "增值税专用发票", "82": "普通发票"}
HEAD_SHEET, LINE_SHEET = "1-发票基本信息", "2-发票明细信息"
HEAD_COLUMNS = (
    "发票流水号", "发票类型", "是否含税", "受票方自然人标识", "购买方名称", "购买方纳税人识别号",
    "购买方地址", "购买方电话", "购买方开户银行", "购买方银行账号", "购买方邮箱", "备注",
    "蓝字数电发票号码", "红冲原因",
)  # fmt: skip
LINE_COLUMNS = (
    "发票流水号", "项目名称", "商品和服务税收编码", "规格型号", "单位", "数量", "单价", "金额", "税率", "税额",
)  # fmt: skip
ANSWER_HEADINGS: dict[str, tuple[str, ...]] = {
    "reference": ("发票流水号", "reference"),
    "number": ("数电发票号码", "发票号码", "number"),
    "issued_on": ("开票日期", "issued_on"),
    "total": ("价税合计", "total"),
    "tax": ("税额", "tax"),
    "refusal": ("失败原因", "refusal"),
}
DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S")


class Answer(NamedTuple):
    """What the platform says of one request: a number and its figures (micro-yuan), or why it refused."""

    line: int
    reference: str
    number: str
    issued_on: date | None
    total_micro: int
    tax_micro: int
    refusal: str


class Line(NamedTuple):
    """A line to be issued; amounts in micro-yuan, negative on a red invoice."""

    item: str
    tax_code: str
    specification: str
    quantity_micro_st: int
    net_micro: int
    vat_thousandths: int
    tax_micro: int


def head_row(
    *, reference: str, kind: str, title: Mapping[str, str], remark: str, corrects: str = "", reason: str = ""
) -> dict[str, Any]:
    """Return the first sheet's row of one request; `corrects` is the number that a red invoice takes back."""
    return {
        "发票流水号": reference, "发票类型": KIND_NAMES[kind], "是否含税": "否",
        "受票方自然人标识": "否" if title["tax_number"] else "是", "购买方名称": title["name"],
        "购买方纳税人识别号": title["tax_number"], "购买方地址": title["address"], "购买方电话": title["phone"],
        "购买方开户银行": title["bank_name"], "购买方银行账号": title["bank_account"], "购买方邮箱": title["email"],
        "备注": remark, "蓝字数电发票号码": corrects, "红冲原因": reason,
    }  # fmt: skip


def line_row(reference: str, line: Line) -> dict[str, Any]:
    """Return the second sheet's row of one line."""
    return {
        "发票流水号": reference, "项目名称": line.item, "商品和服务税收编码": line.tax_code,
        "规格型号": line.specification, "单位": UNIT if line.quantity_micro_st > 0 else "",
        "数量": quantity(line.quantity_micro_st), "单价": unit_price(line.net_micro, line.quantity_micro_st),
        "金额": format_yuan(line.net_micro), "税率": f"{line.vat_thousandths / 1000:g}",
        "税额": format_yuan(line.tax_micro),
    }  # fmt: skip


def read_answers(text: str) -> tuple[list[Answer], list[BadLine]]:
    """
    Return what the platform says, request by request, and the lines that cannot be read.

    :raises BadFile: no heading with reference and number.
    """
    answers: list[Answer] = []
    bad: list[BadLine] = []
    for line, row in rows_of(text, ANSWER_HEADINGS, needed=("reference", "number")):
        try:
            answers.append(_answer(line, row))
        except (BadAmount, ValueError) as error:
            bad.append(BadLine(line, str(error)))
    return answers, bad


def _answer(line: int, row: Mapping[str, str]) -> Answer:
    reference, refusal = row["reference"], row.get("refusal", "")[:200]
    if not row["number"] and refusal:
        return Answer(line, reference, "", None, 0, 0, refusal)
    if not NUMBER.fullmatch(row["number"]):
        raise ValueError(f"“{row['number']}” is no number of a tax invoice: it has 20 digits.")
    return Answer(line, reference, row["number"], _day(row.get("issued_on", "")), _fen(row.get("total", "")),
                  _fen(row.get("tax", "")), "")  # fmt: skip


def _day(text: str) -> date:
    for form in DATES:
        try:
            return datetime.strptime(text, form).date()  # noqa: DTZ007  a date has no zone
        except ValueError:
            continue
    raise ValueError(f"“{text}” is no date such as 2026-11-20.")


def _fen(text: str) -> int:
    amount_micro = parse_yuan_micro(text.replace(",", "").replace("¥", "").strip())
    if amount_micro % MICRO_PER_FEN:
        raise BadAmount(f"“{text}” is not in whole fen.")
    return amount_micro
