"""Trial balances and statements of accounts as rows of text, the same over HTTP, in commands and in CSV."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from billing.journal_queries import AccountTotal, StatementLine
from core.csv_files import as_csv
from core.money import format_yuan

TRIAL_COLUMNS = ("day", "account", "debit", "credit", "balance", "held")
STATEMENT_COLUMNS = (
    "booked_on", "booked_at", "id", "kind", "key", "counter_account", "change", "held_change", "balance", "held",
)  # fmt: skip


def trial_row(row: AccountTotal) -> dict[str, Any]:
    """Return one account of a trial balance, amounts in ¥."""
    return {
        "account": str(row.ref), "debit": format_yuan(row.debit_micro), "credit": format_yuan(row.credit_micro),
        "balance": format_yuan(row.posted_micro), "held": format_yuan(row.held_micro),
    }  # fmt: skip


def trial_csv(day: date, rows: Iterable[AccountTotal]) -> str:
    """Return a trial balance as CSV."""
    return as_csv(TRIAL_COLUMNS, ({"day": day.isoformat()} | trial_row(row) for row in rows))


def statement_row(line: StatementLine) -> dict[str, Any]:
    """Return one movement of an account's statement, amounts in ¥."""
    row = line.transfer
    other = row.credit if line.posted_micro < 0 or line.held_micro else row.debit
    return {
        "id": row.id, "booked_at": row.booked_at, "booked_on": row.booked_on.isoformat(), "kind": row.kind,
        "key": row.key, "counter_account": str(other), "change": format_yuan(line.posted_micro),
        "held_change": format_yuan(line.held_micro), "balance": format_yuan(line.balance_micro),
        "held": format_yuan(line.balance_held_micro),
    }  # fmt: skip
