"""Months close once, by two persons; late usage names its month; reports and vouchers add up to the ledger."""

import csv
import io
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from billing.actions.charges import push_charges
from billing.actions.invoices import issue_invoices
from billing.actions.periods import close_period, figures, propose_close
from billing.domain.accounts import AccountKind
from billing.domain.periods import booked_month, may_close_from
from billing.domain.vouchers import DEFAULT_CHART, Delivered, Movement, delivery_sums, vouchers
from billing.journal_queries import trial_balance
from billing.models import Charge, Invoice, PeriodAccrual, PeriodClose
from billing.period_queries import chart, moved
from billing.reports import reports
from core.periods import shanghai_date
from core.transactions import durable
from tests.billing.given import WINDOW, charge_input, given_charges, given_deposit, pay
from tests.billing.payments import clean_books
from tests.given import NOW, given_api, given_organization

pytestmark = pytest.mark.django_db
MONTH = date(2026, 11, 1)
LATER = may_close_from(MONTH)


class Cast:
    def __init__(self):
        self.operator = given_organization("operator", name_zh="词元交易所")
        self.buyer, self.provider = given_organization(), given_organization("provider")
        given_deposit(self.buyer, 500_000_000)
        self.charge("1")

    def charge(self, number, settled=True, now=NOW, **fields):
        names = {"source_key": f"c:{number}", "scope": f"market:{number}"}
        given_charges(charge_input(self.buyer, self.provider, **names, **fields), settled=settled, now=now)

    def issue(self, now=NOW):
        with transaction.atomic():
            return [*issue_invoices(organization_id=self.buyer.pk, now=now),
                    *issue_invoices(organization_id=self.provider.pk, now=now)]

    def closed(self, now=LATER):
        durable(lambda: propose_close(month=MONTH, by="user:1", now=now, actor=None))
        return durable(lambda: close_period(month=MONTH, by="user:2", now=now, actor=None))


def test_two_persons_close_a_month_from_the_fourth_on(monkeypatch):
    cast = Cast()
    one, two = given_api(cast.operator), given_api(cast.operator)
    body = {"month": "2026-11"}
    assert given_api(cast.buyer).post("/v1/periods", body).status_code == 403
    assert one.post("/v1/periods/close", body).json()["code"] == "period-not-proposed"
    assert one.post("/v1/periods", body).json()["code"] == "period-not-over"
    monkeypatch.setattr("core.clock.now", lambda: LATER)
    assert one.post("/v1/periods", {"month": "2026-12"}).json()["code"] == "period-not-over"
    assert one.post("/v1/periods", {"month": "2026-13"}).status_code == 400
    assert one.post("/v1/periods", body).json()["closed_at"] is None
    assert one.post("/v1/periods/close", body).json()["code"] == "period-needs-another-person"
    closed = two.post("/v1/periods/close", body).json()
    assert closed["figures"]["charges"] == "1" and closed["figures"]["sales"] == "3000.000000"
    accrued = {row["side"]: row["gross"] for row in closed["accruals"]}
    assert accrued == {"buyer": "3000.000000", "provider": "2940.000000"}
    assert one.post("/v1/periods/close", body).json() == closed == two.get("/v1/periods").json()["items"][0]
    assert clean_books()


def test_usage_of_a_closed_month_goes_to_the_next_invoice_and_names_its_month():
    cast = Cast()
    cast.issue()
    cast.closed()
    cast.charge("2", now=LATER)
    late = Charge.objects.get(source_key="c:2")
    assert late.booked_month == date(2026, 12, 1)
    invoice, *_ = cast.issue(LATER)
    assert invoice.lines.get().labels["late_month"] == "2026-11"
    assert figures(MONTH)["charges"] == 1 and figures(date(2026, 12, 1))["charges"] == 1
    first = Invoice.objects.filter(side="buyer").earliest("id")
    refused = given_api(cast.operator).post(f"/v1/invoices/{first.pk}/withdraw", {"reason": "x"})
    assert refused.json()["why"] == "period"
    page = given_api(cast.buyer).get(f"/v1/invoices/{invoice.pk}.pdf")
    assert page.status_code == 200 and clean_books()


@pytest.mark.django_db(transaction=True)
def test_a_month_closed_twice_at_once_while_charges_come_is_closed_once(race):
    cast = Cast()
    durable(lambda: propose_close(month=MONTH, by="user:1", now=LATER, actor=None))

    def close(by):
        return durable(lambda: close_period(month=MONTH, by=by, now=LATER, actor=None))

    def charge(number):
        item = charge_input(cast.buyer, cast.provider, source_key=f"r:{number}", scope="list:1")
        source = pay(item)  # out of a market's escrow, which is filled first

        def work():
            from billing.actions.ledger import post_all
            from billing.domain.accounts import bank, escrow
            from billing.domain.postings import Posting, Stage

            post_all([Posting(f"f:{number}", "test", Stage.POSTED, bank(), escrow("list:1"), 3 * 10**9)], now=LATER)
            return push_charges([item], source, now=LATER)

        return durable(work)

    charges = [lambda n=n: charge(n) for n in range(8)]
    results = race(*charges[:4], lambda: close("user:2"), lambda: close("user:3"), *charges[4:])
    assert [one for one in results if isinstance(one, Exception)] == []
    row = PeriodClose.objects.get()
    in_month = Charge.objects.filter(booked_month=MONTH).count()
    assert row.figures["charges"] == in_month and Charge.objects.count() == 9
    assert sum(PeriodAccrual.objects.filter(side="buyer").values_list("charges", flat=True)) == in_month
    assert clean_books()


def test_reports_of_any_day_sum_to_the_ledger_and_vouchers_balance():
    cast = Cast()
    cast.issue()
    day = shanghai_date(NOW)
    for when in (day, day - timedelta(days=1), day + timedelta(days=40)):
        for name, section in reports(when).items():
            assert section["total_micro"] == section["ledger_micro"], (name, when)
    api = given_api(cast.operator)
    shown = api.get(f"/v1/finance-reports?day={day}").json()
    assert shown["revenue"]["rows"][0]["sales"] == "3000.000000" and shown["revenue"]["total"] == "60.000000"
    assert shown["contract_liabilities"]["total"] == "500.000000"
    assert shown["payables"]["rows"][0]["without_tax_invoice"] == "2940.000000"
    assert shown["vat"]["rows"][0]["output_documented"] == "169.810000"
    assert given_api(cast.buyer).get("/v1/finance-reports").status_code == 403
    assert api.get("/v1/finance-reports?day=x").json()["field"] == "day"
    assert api.post("/v1/chart-of-accounts", {"key": "nope", "code": "1", "name": "x"}).json()["field"] == "key"
    assert api.post("/v1/chart-of-accounts", {"key": "sales", "code": "600101", "name": "词元收入"}).status_code == 200
    for program, debit, credit in (("yonyou", "借方金额", "贷方金额"), ("kingdee", "借方", "贷方")):
        content = api.get(f"/v1/vouchers.csv?month=2026-11&program={program}").content.decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(content)))
        sums = [sum(Decimal(row[name] or 0) for row in rows) for name in (debit, credit)]
        assert sums[0] == sums[1] > 0 and "词元收入" in content and "2026-11-30" in content
    assert api.get("/v1/vouchers.csv?program=x").json()["field"] == "program"


def test_vouchers_move_what_the_ledger_moved():
    cast = Cast()
    cast.issue()
    by_kind = {}
    for row in trial_balance(date(2026, 11, 30)):
        by_kind[row.ref.kind.value] = by_kind.get(row.ref.kind.value, 0) + row.posted_micro
    own = {key: (key, key) for key in DEFAULT_CHART}
    lines = vouchers(moved(MONTH), Delivered(0, 0, 0, 0, 0, 0, 0), own)
    for kind, amount in by_kind.items():
        assert abs(sum(line.amount_micro for line in lines if line.code == kind) - amount) <= 10_000 * len(lines)
    assert chart()["sales"] == DEFAULT_CHART["sales"]
    assert set(AccountKind) <= set(DEFAULT_CHART)


def test_a_buyer_confirms_the_statement_that_it_read():
    cast = Cast()
    cast.issue()
    theirs, stranger = given_api(cast.buyer), given_api(given_organization())
    path = "/v1/reconciliation-statement"
    shown = theirs.get(f"{path}?month=2026-11").json()
    assert [row["kind"] for row in shown["rows"]] == ["opening", "invoice", "payment", "closing"]
    assert shown["rows"][-1] == shown["rows"][-1] | {"billed": "3000.00", "paid_in": "500.00", "balance": "-2500.00"}
    text = theirs.get(f"{path}.csv?month=2026-11").content.decode("utf-8-sig")
    assert Invoice.objects.get(side="buyer").number in text
    assert stranger.get(f"{path}?organization={cast.buyer.pk}").status_code == 404
    for language in ("zh", "en"):
        pdf = theirs.get(f"{path}.pdf?month=2026-11&language={language}")
        assert pdf.content.startswith(b"%PDF") and pdf["Content-Type"] == "application/pdf"
    assert theirs.get(f"{path}.pdf?language=fr").json()["field"] == "language"
    assert theirs.get(f"{path}?month=9999-12").json()["field"] == "month"
    answer = {"month": "2026-10", "digest": "x", "agrees": True}
    assert theirs.post(path, answer).status_code == 409
    october = theirs.get(f"{path}?month=2026-10").json()["digest"]
    assert theirs.post(path, answer | {"digest": october, "agrees": False}).json()["field"] == "comment"
    done = theirs.post(path, answer | {"digest": october}).json()
    assert done["answered"]["agrees"] is True
    assert theirs.post(path, answer | {"month": "2999-01", "digest": october}).json()["code"] == "period-not-over"


def test_a_charge_counts_in_its_own_month_or_the_first_open_one():
    assert booked_month(WINDOW, last_closed=None) == MONTH
    assert booked_month(WINDOW, last_closed=date(2026, 10, 1)) == MONTH
    assert booked_month(WINDOW, last_closed=MONTH) == date(2026, 12, 1)


kinds = st.sampled_from([kind.value for kind in AccountKind])
movements = st.builds(Movement, st.sampled_from("abc"), kinds, kinds, st.integers(1, 10**12))
amounts = st.integers(-10**12, 10**12)


@given(st.lists(movements, max_size=20), st.builds(Delivered, *[amounts] * 7))
def test_every_voucher_balances_to_the_fen(given_movements, delivered):
    assert sum(delivery_sums(delivered).values()) == 0
    sums = {}
    for line in vouchers(given_movements, delivered, DEFAULT_CHART):
        assert line.amount_micro % 10_000 == 0
        sums[line.voucher] = sums.get(line.voucher, 0) + line.amount_micro
    assert set(sums.values()) <= {0}
