"""
Months are closed: proposed by one person, closed by another, from the 4th of the next month on (Asia/Shanghai).

Whoever writes charges holds a shared advisory lock; closing takes it exclusively, so that every charge either counts in
the month or knows that it is closed and counts in the next, whose invoice names its month.
"""

from datetime import date, datetime
from typing import Any

from django.db import connection

from billing import period_queries
from billing.domain.periods import following, last_day, may_close_from
from billing.domain.vouchers import DEFAULT_CHART
from billing.models import ChartAccount, PeriodAccrual, PeriodClose, StatementConfirmation
from core.errors import BadRequest, Conflict, NotFound
from core.money import round_half_up
from core.periods import shanghai_date
from core.transactions import assert_in_transaction
from identity.access import Actor
from identity.actions import audit
from identity.queries import operator_organization

PERIOD_LOCK = 0x4D6F6E74


class PeriodNotOver(Conflict):
    """Too early, or an earlier month is open."""

    code = "period-not-over"


class PeriodNeedsAnother(Conflict):
    """Who proposed a close does not close."""

    code = "period-needs-another-person"


class PeriodNotProposed(NotFound):
    """Nobody has proposed to close that month."""

    code = "period-not-proposed"


def open_months() -> date | None:
    """Return the last closed month, and keep every month from being closed until commit: for writers of charges."""
    assert_in_transaction()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [PERIOD_LOCK])
    return period_queries.last_closed_month()


def propose_close(*, month: date, by: str, now: datetime, actor: Actor | None) -> PeriodClose:
    """
    Propose to close a month. Proposed or closed already, it stays so.

    :raises PeriodNotOver: before the 4th of the next month, or an earlier month that has charges is open.
    """
    _lock()
    row = PeriodClose.objects.filter(month=month).first()
    if row is not None:
        return row
    if now < may_close_from(month):
        day = shanghai_date(may_close_from(month))
        raise PeriodNotOver(f"{month:%Y-%m} can be closed from {day} on; usage may come late until then.",
                            field="month")  # fmt: skip
    last, first = period_queries.last_closed_month(), period_queries.first_month()
    due = following(last) if last else first
    if due is not None and due < month:
        raise PeriodNotOver(f"Months are closed in order; the next is {due:%Y-%m}.", field="month")
    if last is not None and month <= last:
        raise PeriodNotOver(f"Months up to {last:%Y-%m} are closed.", field="month")
    audit.record(actor=actor, verb="period.propose", subject=f"period:{month:%Y-%m}", now=now)
    return PeriodClose.objects.create(month=month, proposed_by=by, proposed_at=now)


def close_period(*, month: date, by: str, now: datetime, actor: Actor | None) -> PeriodClose:
    """
    Close a proposed month: accrue what was delivered and stands on no document, and freeze its figures. Closed already,
    the first result stands, whoever asks.

    :raises PeriodNotProposed: nobody proposed it.
    :raises PeriodNeedsAnother: whoever proposed it closes it.
    """
    _lock()
    row = PeriodClose.objects.filter(month=month).first()
    if row is None:
        raise PeriodNotProposed(f"Nobody has proposed to close {month:%Y-%m}.")
    if row.closed_at is not None:
        return row
    if by == row.proposed_by:
        raise PeriodNeedsAnother("Whoever proposed the close does not close it: somebody else must.")
    accruals = [
        PeriodAccrual(
            close=row, organization_id=organization, side=side, vat_thousandths=rate, charges=count, gross_micro=gross,
            tax_micro=round_half_up(gross * rate, 1_000 + rate),
        )
        for organization, side, rate, count, gross in period_queries.waiting_by(month)
    ]  # fmt: skip
    PeriodAccrual.objects.bulk_create(accruals)
    row.figures, row.closed_by, row.closed_at = figures(month), by, now
    row.save(update_fields=["figures", "closed_by", "closed_at"])
    audit.record(actor=actor, verb="period.close", subject=f"period:{month:%Y-%m}", now=now, after=row.figures)
    return row


def figures(month: date) -> dict[str, Any]:
    """Return what a month comes to, in micro-yuan: what closing freezes."""
    count, sums = period_queries.delivered(
        month, fee_vat_thousandths=operator_organization().vat_rate_thousandths)  # fmt: skip
    return {"charges": count, **sums._asdict()}


def _lock() -> None:
    assert_in_transaction()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [PERIOD_LOCK])


def set_chart_account(*, key: str, code: str, name: str, now: datetime, actor: Actor | None) -> ChartAccount:
    """
    Say to which account of the operator's chart one of ours is mapped.

    :raises BadRequest: a key that the export does not know.
    """
    assert_in_transaction()
    if key not in DEFAULT_CHART:
        raise BadRequest(f"key is one of {', '.join(sorted(DEFAULT_CHART))}.", field="key")
    row, _ = ChartAccount.objects.update_or_create(key=key, defaults={"code": code, "name": name})
    audit.record(actor=actor, verb="chart.set", subject=f"chart:{key}", now=now, after={"code": code, "name": name})
    return row


def answer_statement(
    *, organization_id: int, month: date, digest: str, current: str, agrees: bool, comment: str, by: str, now: datetime
) -> StatementConfirmation:
    """
    Confirm a month's reconciliation statement, or say what is wrong with it. The same statement again: the first one's.

    :raises PeriodNotOver: the month is not over.
    :raises Conflict: the statement has changed since it was read (`digest` is not the `current` one).
    """
    assert_in_transaction()
    if shanghai_date(now) <= last_day(month):
        raise PeriodNotOver(f"{month:%Y-%m} is not over; its statement still changes.", field="month")
    if digest != current:
        raise Conflict("The statement has changed since you read it; read it again.", field="digest")
    if not agrees and not comment.strip():
        raise BadRequest("Say what is wrong with the statement.", field="comment")
    row, _ = StatementConfirmation.objects.get_or_create(
        organization_id=organization_id, month=month, digest=digest,
        defaults={"agrees": agrees, "comment": comment.strip()[:500], "by": by, "at": now},
    )  # fmt: skip
    return row
