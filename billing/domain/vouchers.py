"""
The books as vouchers (记账凭证) of the operator's chart of accounts: pure, each voucher balanced to the fen.

What moved between our accounts in a month makes a voucher per kind of movement. Delivery makes one more: the operator
is principal, so it shows revenue and cost in full, where our ledger moves a buyer's money to a provider and a fee to
the house. A voucher's amounts are rounded to the fen by largest remainder over its accounts: they still sum to zero.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import date
from typing import NamedTuple

from billing.domain.accounts import AccountKind
from core.money import fen_lines, format_yuan

#: Ours → code and name by the Accounting Standards for Business Enterprises; the operator names its own by key.
DEFAULT_CHART: dict[str, tuple[str, str]] = {
    AccountKind.EXTERNAL.value: ("1002", "银行存款"),
    AccountKind.RECEIVABLE.value: ("1122", "应收账款"),
    AccountKind.AVAILABLE.value: ("220301", "合同负债-可用余额"),
    AccountKind.ESCROW.value: ("220302", "合同负债-待交付"),
    AccountKind.DISPUTE.value: ("220303", "合同负债-争议暂扣"),
    AccountKind.GIFT.value: ("220304", "合同负债-赠送额度"),
    AccountKind.BUNDLE.value: ("220305", "合同负债-套餐"),
    AccountKind.PAYABLE.value: ("220201", "应付账款-供应方"),
    AccountKind.PAYOUT.value: ("220202", "应付账款-在途付款"),
    AccountKind.BOND.value: ("224101", "其他应付款-保证金"),
    AccountKind.SUSPENSE.value: ("224102", "其他应付款-待查收款"),
    AccountKind.FEE.value: ("605101", "其他业务收入-平台费"),
    AccountKind.REVENUE.value: ("605101", "其他业务收入-平台费"),
    AccountKind.VAT.value: ("222102", "应交税费-平台费税额"),
    AccountKind.ROUNDING.value: ("630101", "营业外收入-尾差"),
    AccountKind.DEFAULT_FUND.value: ("671101", "营业外支出-违约垫付与坏账"),
    AccountKind.PROMOTION.value: ("660101", "销售费用-赠送"),
    "sales": ("6001", "主营业务收入"),
    "output_vat": ("222101", "应交税费-销项税额"),
    "output_vat_pending": ("222103", "应交税费-待转销项税额"),
    "cost": ("6401", "主营业务成本"),
    "input_vat_pending": ("222104", "应交税费-待认证进项税额"),
    "spread": ("671101", "营业外支出-违约垫付与坏账"),
}


class Movement(NamedTuple):
    """What one kind of transfer moved between two kinds of accounts, in micro-yuan."""

    kind: str
    debit: str
    credit: str
    amount_micro: int


class Delivered(NamedTuple):
    """
    A month's charges: micro-yuan, VAT included, of which the taxes. `fee_micro` is what the house kept as fees, less
    what it allowed to buyers out of them.
    """

    sales_micro: int
    sales_tax_micro: int
    unbilled_tax_micro: int
    cost_micro: int
    cost_tax_micro: int
    fee_micro: int
    fee_tax_micro: int


class VoucherLine(NamedTuple):
    """A line: whole fen; a credit is positive, a debit negative."""

    voucher: int
    summary: str
    code: str
    name: str
    amount_micro: int


def vouchers(
    movements: Iterable[Movement], delivered: Delivered, chart: Mapping[str, tuple[str, str]]
) -> list[VoucherLine]:
    """Return a month's vouchers; each sums to zero."""
    by_kind: dict[str, dict[str, int]] = {}
    for row in movements:
        sums = by_kind.setdefault(row.kind, {})
        sums[row.debit] = sums.get(row.debit, 0) - row.amount_micro
        sums[row.credit] = sums.get(row.credit, 0) + row.amount_micro
    lines: list[VoucherLine] = []
    number = 0
    for kind in sorted(by_kind):
        made = _voucher(number + 1, kind, by_kind[kind], chart)
        number += bool(made)
        lines += made
    return lines + _voucher(number + 1, "delivery", delivery_sums(delivered), chart)


def delivery_sums(given: Delivered) -> dict[str, int]:
    """
    Return what delivery adds to the accounts to show sales and cost in full: sums to zero. What the buyer paid beyond
    the provider's price (`spread`) stands on the house's default account already, and the fee on its own; both are
    taken off there.
    """
    spread = given.sales_micro - given.cost_micro - given.fee_micro
    return {
        "sales": given.sales_micro - given.sales_tax_micro,
        "output_vat": given.sales_tax_micro - given.unbilled_tax_micro,
        "output_vat_pending": given.unbilled_tax_micro,
        "cost": -(given.cost_micro - given.cost_tax_micro),
        "input_vat_pending": -given.cost_tax_micro,
        AccountKind.REVENUE.value: -(given.fee_micro - given.fee_tax_micro),
        AccountKind.VAT.value: -given.fee_tax_micro,
        "spread": -spread,
    }


def _voucher(
    number: int, summary: str, sums: Mapping[str, int], chart: Mapping[str, tuple[str, str]]
) -> list[VoucherLine]:
    by_account: dict[tuple[str, str], int] = {}
    for key, amount in sums.items():
        account = chart[key]
        by_account[account] = by_account.get(account, 0) + amount
    accounts = sorted(account for account, amount in by_account.items() if amount)
    amounts = fen_lines([by_account[account] for account in accounts])
    return [VoucherLine(number, summary, code, name, amount)
            for (code, name), amount in zip(accounts, amounts, strict=True) if amount]  # fmt: skip


def yonyou(lines: Iterable[VoucherLine], *, day: date) -> str:
    """Return vouchers as CSV for 用友."""
    heading = ("制单日期", "凭证类别", "凭证号", "附单据数", "摘要", "科目编码", "科目名称", "借方金额", "贷方金额")
    rows = [(f"{day:%Y-%m-%d}", "记", line.voucher, 0, line.summary, line.code, line.name, _debit(line), _credit(line))
            for line in lines]  # fmt: skip
    return _csv(heading, rows)


def kingdee(lines: Iterable[VoucherLine], *, day: date) -> str:
    """Return vouchers as CSV for 金蝶."""
    heading = ("凭证日期", "会计年度", "会计期间", "凭证字", "凭证号", "科目代码", "科目名称", "币别代码", "原币金额",
               "借方", "贷方", "摘要", "分录序号")  # fmt: skip
    rows = []
    number, entry = 0, 0
    for line in lines:
        entry = entry + 1 if line.voucher == number else 0
        number = line.voucher
        rows.append((f"{day:%Y-%m-%d}", day.year, day.month, "记", line.voucher, line.code, line.name, "RMB",
                     format_yuan(abs(line.amount_micro)), _debit(line), _credit(line), line.summary,
                     entry))  # fmt: skip
    return _csv(heading, rows)


def _debit(line: VoucherLine) -> str:
    return format_yuan(-line.amount_micro) if line.amount_micro < 0 else ""


def _credit(line: VoucherLine) -> str:
    return format_yuan(line.amount_micro) if line.amount_micro > 0 else ""


def _csv(heading: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(heading)
    writer.writerows(rows)
    return "\ufeff" + out.getvalue()
