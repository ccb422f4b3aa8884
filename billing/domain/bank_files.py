"""
Bank files: statements as banks export them (CSV), payout batches as banks take them, and the results they give back.

A statement's columns are known by their headings, Chinese or English, in any order. Amounts are in ¥ with at most two
decimals; a line has an income or an outgoing amount. Times without a zone are Shanghai's.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from core.money import MICRO_PER_FEN, BadAmount, format_yuan, parse_yuan_micro
from core.periods import SHANGHAI

HEADINGS: dict[str, tuple[str, ...]] = {
    "reference": ("reference", "transaction id", "交易流水号", "流水号", "交易流水", "银行流水号"),
    "booked_at": ("booked_at", "date", "time", "交易时间", "交易日期", "记账日期", "入账时间"),
    "income": ("credit", "income", "收入金额", "贷方发生额", "贷方金额", "收入"),
    "outgoing": ("debit", "outgoing", "支出金额", "借方发生额", "借方金额", "支出"),
    "amount": ("amount", "金额", "交易金额", "发生额"),
    "payer": ("payer", "counterparty", "对方户名", "对方名称", "付款人名称", "付款人"),
    "payer_account": ("payer_account", "counterparty account", "对方账号", "付款人账号", "对方账户"),
    "payer_bank": ("payer_bank", "counterparty bank", "对方开户行", "对方行名", "付款人开户行"),
    "purpose": ("purpose", "remittance", "摘要", "用途", "附言", "备注"),
}
RESULT_HEADINGS: dict[str, tuple[str, ...]] = {
    "reference": ("reference", "付款编号", "业务参考号", "用途"),
    "amount": ("amount", "金额"),
    "result": ("result", "处理结果", "状态", "结果"),
    "reason": ("reason", "失败原因", "原因"),
    "bank_reference": ("bank_reference", "交易流水号", "流水号"),
}
PAID = {"paid", "success", "成功", "已付款", "交易成功"}
FAILED = {"failed", "失败", "退票", "交易失败", "已退回"}
CLOSED = ("closed", "销户", "账户不存在", "no such account")
TIMES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d",
         "%Y%m%d %H:%M:%S", "%Y%m%d")  # fmt: skip
MOST_LINES = 50_000
PAYMENT_REFERENCE = re.compile(r"CY(\d{6,18})(\d{2})(?!\d)")


class BadFile(ValueError):
    """A file that is not what it should be, as a whole."""


class StatementLine(NamedTuple):
    """One movement at the bank. `amount_micro` is positive for money that came in; whole fen."""

    reference: str
    booked_at: datetime
    amount_micro: int
    payer: str
    payer_account: str
    payer_bank: str
    purpose: str


class BadLine(NamedTuple):
    """A line that cannot be read: its number in the file (the heading is line 1), and why."""

    number: int
    detail: str


class PayoutResult(NamedTuple):
    """What the bank says of one payout."""

    number: int
    reference: str
    amount_micro: int
    paid: bool
    reason: str
    bank_reference: str

    @property
    def account_is_closed(self) -> bool:
        """Whether the reason says that the account is no more."""
        return any(word in self.reason.lower() for word in CLOSED)


def payment_reference(organization_id: int) -> str:
    """Return what a buyer writes in a bank transfer, such as CY00001262: the id and two check digits (mod 97)."""
    return f"CY{organization_id:06d}{98 - organization_id * 100 % 97:02d}"


def references_in(text: str) -> set[int]:
    """Return the organizations whose payment references stand in a text; one with wrong check digits is none."""
    plain = unicodedata.normalize("NFKC", text).upper()
    matches = [match for part in (plain, re.sub(r"[\s\-_]", "", plain)) for match in PAYMENT_REFERENCE.finditer(part)]
    return {int(match[1]) for match in matches if match[0] == payment_reference(int(match[1]))}


def decoded(content: bytes) -> str:
    """
    Return the text of a file in UTF-8 or GB 18030, which Chinese banks use.

    :raises BadFile: in neither.
    """
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise BadFile("The file is neither UTF-8 nor GB 18030 text.")


def read_statement(text: str) -> tuple[list[StatementLine], list[BadLine]]:
    """
    Return the lines of a bank statement, and those that cannot be read.

    :raises BadFile: no heading with reference, time and amount, no line, or more than 50,000.
    """
    lines: list[StatementLine] = []
    bad: list[BadLine] = []
    for number, row in rows_of(text, HEADINGS, needed=("reference", "booked_at")):
        try:
            lines.append(_statement_line(row))
        except (BadAmount, ValueError) as error:
            bad.append(BadLine(number, str(error)))
    return lines, bad


def read_results(text: str) -> tuple[list[PayoutResult], list[BadLine]]:
    """
    Return what a bank says of the payouts of a batch, and the lines that cannot be read.

    :raises BadFile: no heading with reference, amount and result.
    """
    results: list[PayoutResult] = []
    bad: list[BadLine] = []
    for number, row in rows_of(text, RESULT_HEADINGS, needed=("reference", "amount", "result")):
        try:
            result = row["result"].lower()
            if result not in PAID | FAILED:
                raise ValueError(f"“{row['result']}” is no result: paid (成功) or failed (失败).")
            results.append(PayoutResult(
                number, row["reference"], _fen(row["amount"]), result in PAID, row.get("reason", "")[:200],
                row.get("bank_reference", "")[:64]))  # fmt: skip
        except (BadAmount, ValueError) as error:
            bad.append(BadLine(number, str(error)))
    return results, bad


def batch_file(rows: Iterable[tuple[str, str, str, str, int]]) -> str:
    """Return a batch of payouts as CSV: (reference, payee, account, bank, amount in micro-yuan) each, then the sum."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["序号", "付款编号", "收款人名称", "收款账号", "收款开户行", "金额", "币种", "用途"])
    for number, (reference, payee, account, bank, amount_micro) in enumerate(rows, start=1):
        # A name that begins like a formula would be run by the spreadsheet in which somebody looks at the file.
        safe = [f"'{text}" if text[:1] in "=+-@\t" else text for text in (payee, account, bank)]
        writer.writerow([number, reference, *safe, format_yuan(amount_micro), "CNY", reference])
    return "\ufeff" + out.getvalue()


def rows_of(
    text: str, headings: Mapping[str, Sequence[str]], *, needed: Sequence[str]
) -> Iterable[tuple[int, dict[str, str]]]:
    """
    Yield the lines below a file's heading, with their numbers, by our names of the columns.

    :raises BadFile: no text, no CSV, no heading with the columns `needed`, or too many lines.
    """
    if "\x00" in text:
        raise BadFile("The file is not text.")
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise BadFile(f"The file is not CSV: {error}.") from None
    names = {name: key for key, options in headings.items() for name in options}
    start, columns = 0, dict[str, int]()
    while start < min(len(rows), 20):  # banks print account and period above the heading
        cells = [cell.strip().lower() for cell in rows[start]]
        columns = {names[cell]: index for index, cell in enumerate(cells) if cell in names}
        if all(key in columns for key in needed):
            break
        start += 1
    else:
        raise BadFile(f"The file has no heading with {', '.join(headings[key][-1] for key in needed)}.")
    if needed == ("reference", "booked_at") and not {"income", "amount"} & set(columns):
        raise BadFile("The file has no column of amounts: 收入金额 and 支出金额, or 金额.")
    body = [(number, row) for number, row in enumerate(rows[start + 1 :], start=start + 2) if any(map(str.strip, row))]
    if not body:
        raise BadFile("The file has a heading and no lines.")
    if len(body) > MOST_LINES:
        raise BadFile(f"The file has more than {MOST_LINES} lines; split it.")
    for number, row in body:
        yield number, {key: row[index].strip() if index < len(row) else "" for key, index in columns.items()}


def _statement_line(row: Mapping[str, str]) -> StatementLine:
    if not 0 < len(row["reference"]) <= 64:
        raise ValueError("The bank's reference has 1 to 64 characters.")
    if row.get("amount"):
        amount_micro = _fen(row["amount"])
    else:
        income, outgoing = _fen(row.get("income") or "0"), _fen(row.get("outgoing") or "0")
        if income < 0 or outgoing < 0 or (income and outgoing):
            raise ValueError("A line has an income or an outgoing amount, above zero, not both.")
        amount_micro = income - outgoing
    if not amount_micro:
        raise ValueError("The amount is zero.")
    if abs(amount_micro) > 10**18:
        raise ValueError("The amount is beyond ¥1,000,000,000,000.")
    return StatementLine(
        row["reference"], _time(row["booked_at"]), amount_micro, row.get("payer", "")[:120],
        row.get("payer_account", "").replace(" ", "")[:40], row.get("payer_bank", "")[:120],
        row.get("purpose", "")[:300],
    )  # fmt: skip


def _fen(text: str) -> int:
    amount_micro = parse_yuan_micro(text.replace(",", "").replace("¥", "").strip())
    if amount_micro % MICRO_PER_FEN:
        raise BadAmount(f"“{text}” is not in whole fen.")
    return amount_micro


def _time(text: str) -> datetime:
    for form in TIMES:
        try:
            return datetime.strptime(text, form).replace(tzinfo=SHANGHAI)
        except ValueError:
            continue
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"“{text}” is no time such as 2026-11-20 12:34:56.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=SHANGHAI)
