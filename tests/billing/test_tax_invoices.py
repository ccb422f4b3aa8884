"""Tax invoices: what documents say, to the fen; once for each; taken back by red ones that are waited for."""

import base64
import io
import zipfile
from datetime import timedelta

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from billing.actions.invoices import issue_invoices
from billing.actions.tax_invoices import request_tax_invoice
from billing.actions.withdrawals import withdraw_invoice
from billing.domain.charges import ChargeKind
from billing.domain.tax_invoices import Taxed, TaxTotal, is_tax_number, tax_lines, unit_price
from billing.models import Invoice, InvoiceTitle, RedInvoice, TaxInvoice
from billing.queries import account_balance, balance
from billing.tasks import request_monthly_tax_invoices
from core.money import fen_lines, format_yuan, vat_of_gross
from core.transactions import durable
from identity.models import WebhookEvent
from tests.billing.given import charge_input, given_charges
from tests.billing.payments import clean_books
from tests.given import NOW, given_api, given_organization
from tests.identity.given import given_webhook

pytestmark = pytest.mark.django_db
CODE = "91350100M000100Y43"  # the standard's own example
LAST_DAY = "2026-11-20"


class Cast:
    """An operator, a buyer with a title and an invoice of ¥3,000, and its provider."""

    def __init__(self):
        self.operator = given_organization("operator", name_zh="词元交易所")
        self.buyer, self.provider = given_organization(name_zh="灯笼搜索"), given_organization("provider")
        self.api, self.theirs = given_api(self.operator), given_api(self.buyer)
        self.charge = charge_input(self.buyer, self.provider)
        given_charges(self.charge)
        self.issue()
        self.invoice = Invoice.objects.get(side="buyer")

    def issue(self, now=NOW):
        with transaction.atomic():
            issue_invoices(organization_id=self.buyer.pk, now=now)
            issue_invoices(organization_id=self.provider.pk, now=now)

    def revise(self, number, tenths):
        part = {name: getattr(self.charge, name) * tenths // 10 for name in (
            "quantity_micro_st", "buyer_amount_micro", "seller_amount_micro", "fee_micro")}
        given_charges(charge_input(self.buyer, self.provider, revision=number, tokens={}, **part))
        self.issue()
        return Invoice.objects.filter(side="buyer").latest("id")

    def title(self, **changes):
        body = {"name": "灯笼搜索有限公司", "tax_number": CODE, "bank_name": "招商银行"} | changes
        return self.theirs.post("/v1/invoice-titles", body)

    def ask(self, *invoices, title=None, **changes):
        title = title or self.title().json()["id"]
        invoices = [row.pk for row in invoices or [self.invoice]]
        return self.theirs.post("/v1/tax-invoices", {"title": title, "kind": "81", "invoices": invoices} | changes)

    def answer(self, *rows):
        heading = "发票流水号,数电发票号码,开票日期,价税合计,税额,失败原因\n"
        text = heading + "".join(",".join(row) + "\n" for row in rows)
        return self.api.post("/v1/tax-invoice-answers", {"content": text}).json()

    def issued(self, number="2" * 20):
        asked = self.ask().json()
        assert self.answer((asked["reference"], number, LAST_DAY, asked["total"], asked["tax"], ""))["issued"] == 1
        return TaxInvoice.objects.get(pk=asked["id"])


def test_a_request_goes_to_the_platform_and_comes_back_with_its_number():
    cast = Cast()
    given_webhook(cast.buyer)
    asked = cast.ask()
    assert asked.status_code == 201, asked.content
    body = asked.json()
    assert (body["state"], body["net"], body["tax"], body["total"]) == ("requested", "2830.19", "169.81", "3000.00")
    assert body["remark"] == f"账单：{cast.invoice.number}" and body["title"]["tax_number"] == CODE
    [line] = body["lines"]
    assert line["item"].startswith("*信息技术服务*") and line["unit"] == "百万词元"
    assert (line["quantity"], line["price"], line["net"], line["tax"]) == ("1", "2830.19", "2830.19", "169.81")
    export = cast.api.post("/v1/tax-invoice-exports").json()
    assert (export["tax_invoices"], export["reds"]) == (1, 0)
    assert cast.api.post("/v1/tax-invoice-exports").json()["code"] == "tax-invoice-state"
    path = f"/v1/tax-invoice-exports/{export['id']}.xlsx"
    content = cast.api.get(path).content
    assert content == cast.api.get(path).content and cast.theirs.get(path).status_code == 404
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        sheets = "".join(book.read(name).decode() for name in book.namelist() if "worksheets/sheet" in name)
        assert all(text in sheets for text in (body["reference"], CODE, "增值税专用发票", "2830.19", "0.06"))
    row = (body["reference"], "2" * 20, LAST_DAY, "3,000.00".replace(",", ""), "169.81", "")
    assert cast.answer(row) == {"issued": 1, "red": 0, "refused": 0, "repeated": 0, "rejected": []}
    assert cast.answer(row)["repeated"] == 1
    shown = cast.theirs.get(f"/v1/tax-invoices/{body['id']}").json()
    assert (shown["state"], shown["number"], shown["issued_on"]) == ("issued", "2" * 20, LAST_DAY)
    for form, wrong, right in (("pdf", b"x", b"%PDF-1.7 x"), ("xml", b"<a>1</a>", b"<a>" + b"2" * 20 + b"</a>")):
        send = [cast.api.post(f"/v1/tax-invoices/{body['id']}/files", {
            "format": form, "content": base64.b64encode(content).decode()}) for content in (wrong, right, right)]
        assert [answer.status_code for answer in send] == [400, 200, 200]
        assert cast.theirs.get(f"/v1/tax-invoices/{body['id']}.{form}").content == right
    assert [event.type for event in WebhookEvent.objects.all()] == ["tax_invoice.issued"]
    assert clean_books()


def test_an_answer_that_does_not_fit_is_told_line_by_line():
    cast = Cast()
    asked = cast.ask().json()
    name, total, tax = asked["reference"], asked["total"], asked["tax"]
    answer = cast.answer(
        (name, "123", LAST_DAY, total, tax, ""), (name, "3" * 20, "soon", total, tax, ""),
        (name, "3" * 20, LAST_DAY, "2999.99", tax, ""), (name, "3" * 20, LAST_DAY, total, "0", ""),
        ("TI99999999", "3" * 20, LAST_DAY, total, tax, ""), ("x", "3" * 20, LAST_DAY, total, tax, ""),
        (name, "3" * 20, "2027-01-01", total, tax, ""))  # fmt: skip
    assert [entry["number"] for entry in answer["rejected"]] == [2, 3, 4, 5, 6, 7, 8] and answer["issued"] == 0
    assert cast.api.post("/v1/tax-invoice-answers", {"content": "nonsense"}).json()["code"] == "bad-tax-answers"
    cast.api.post("/v1/tax-invoice-exports")
    assert cast.answer((name, "", "", "", "", "抬头有误"))["refused"] == 1
    assert cast.theirs.get(f"/v1/tax-invoices/{asked['id']}").json()["refusal"] == "抬头有误"
    assert cast.api.post("/v1/tax-invoice-exports").json()["tax_invoices"] == 1  # it goes out again
    assert cast.theirs.post(f"/v1/tax-invoices/{asked['id']}/cancel").json()["code"] == "tax-invoice-state"
    assert cast.api.post(f"/v1/tax-invoices/{asked['id']}/cancel").json()["state"] == "cancelled"
    assert "cancelled" in cast.answer((name, "3" * 20, LAST_DAY, total, tax, ""))["rejected"][0]["detail"]
    assert cast.ask().status_code == 201 and clean_books()


def test_what_cannot_be_asked_for_is_refused_by_name():
    cast = Cast()
    other = given_organization()
    theirs = given_api(other).post("/v1/invoice-titles", {"name": "x"}).json()["id"]
    assert cast.ask(title=theirs).status_code == 404
    assert cast.title(tax_number="91350100M000100Y44").json()["field"] == "tax_number"
    assert cast.title(tax_number="", monthly_kind="81").json()["code"] == "bad-invoice-title"
    person = cast.title(name="张三", tax_number="").json()["id"]
    assert cast.ask(title=person).json()["field"] == "kind"
    statement = Invoice.objects.get(side="provider")
    assert cast.ask(statement).json()["field"] == "invoices"
    assert cast.ask(kind="83").status_code == 400
    assert cast.ask(title=person, kind="82").status_code == 201
    assert cast.ask().json()["code"] == "tax-invoice-exists"
    assert cast.theirs.delete(f"/v1/invoice-titles/{person}").json()["removed_at"]
    assert given_api(other).delete(f"/v1/invoice-titles/{person}").status_code == 404
    assert cast.theirs.get("/v1/tax-invoices?state=issued").json()["items"] == []
    assert given_api(other).get("/v1/tax-invoices").json()["items"] == []


def test_a_credit_note_after_the_tax_invoice_waits_for_its_red_one():
    cast = Cast()
    tax_invoice = cast.issued()
    note = cast.revise(1, -3)
    red = RedInvoice.objects.get()
    assert note.kind == "credit_note" and (red.note, red.total_micro) == (note, note.total_micro)
    tax_invoice.refresh_from_db()
    assert tax_invoice.state == "red_pending"
    [shown] = cast.api.get("/v1/red-invoices?waiting=1").json()["items"]
    assert (shown["note"], shown["corrects"], shown["total"]) == (note.number, "2" * 20, "-900.00")
    export = cast.api.post("/v1/tax-invoice-exports").json()
    assert (export["tax_invoices"], export["reds"]) == (0, 1)
    assert cast.answer((shown["reference"], "4" * 20, LAST_DAY, "-899.99", shown["tax"], ""))["rejected"]
    path = f"/v1/red-invoices/{shown['id']}/number"
    body = {"number": "2" * 20, "issued_on": LAST_DAY}
    assert cast.theirs.post(path, body).status_code == 404
    assert cast.api.post(path, body).json()["code"] == "tax-invoice-used"
    assert cast.answer((shown["reference"], "4" * 20, LAST_DAY, shown["total"], shown["tax"], ""))["red"] == 1
    assert cast.api.get("/v1/red-invoices?waiting=1").json()["items"] == []
    tax_invoice.refresh_from_db()
    assert tax_invoice.state == "issued" and clean_books()


def test_wholly_reversed_a_tax_invoice_frees_its_documents_with_their_notes():
    cast = Cast()
    tax_invoice = cast.issued()
    note = cast.revise(1, -3)
    path = f"/v1/tax-invoices/{tax_invoice.pk}/reverse"
    assert cast.theirs.post(path, {"reason": "抬头"}).status_code == 404
    red = cast.api.post(path, {"reason": "抬头有误"}).json()
    assert red["total"] == "-2100.00" and cast.api.post(path, {"reason": "x"}).json()["id"] == red["id"]
    for number, waiting in enumerate(RedInvoice.objects.order_by("id")):
        assert cast.ask().json()["code"] == "tax-invoice-exists"
        body = {"number": f"{7:019d}{number}", "issued_on": LAST_DAY}
        assert cast.api.post(f"/v1/red-invoices/{waiting.pk}/number", body).status_code == 200
    tax_invoice.refresh_from_db()
    assert tax_invoice.state == "reversed"
    again = cast.ask().json()
    assert again["total"] == "2100.00" and again["invoices"] == [cast.invoice.number, note.number]
    assert cast.ask(note).json()["field"] == "invoices"
    assert clean_books()


def test_an_invoice_is_withdrawn_only_while_no_tax_invoice_exists():
    cast = Cast()
    path = f"/v1/invoices/{cast.invoice.pk}/withdraw"
    asked = cast.ask().json()
    assert cast.theirs.post(path, {"reason": "x"}).status_code == 404
    assert cast.api.post(path, {"reason": "抬头"}).json()["why"] == "tax-invoice"
    cast.theirs.post(f"/v1/tax-invoices/{asked['id']}/cancel")
    before = balance(cast.buyer.pk)
    for _ in range(2):
        assert cast.api.post(path, {"reason": "wrong title"}).json()["state"] == "withdrawn"
    assert cast.ask().json()["field"] == "invoices"
    assert clean_books()
    cast.issue()
    again = Invoice.objects.filter(side="buyer").latest("id")
    assert again.number != cast.invoice.number and again.total_micro == cast.invoice.total_micro
    assert balance(cast.buyer.pk) == before
    note = cast.revise(1, -3)
    assert note.refers_to == again
    assert cast.api.post(f"/v1/invoices/{again.pk}/withdraw", {"reason": "x"}).json()["why"] == "noted"
    assert clean_books()


def test_a_withdrawal_mirrors_the_rounding_line():
    cast = Cast()
    odd = charge_input(cast.buyer, cast.provider, source_key="odd", scope="market:2", quantity_micro_st=333_333_333_333,
                       buyer_price_nano=1_234_567, seller_price_nano=1_234_567)  # fmt: skip
    given_charges(odd)
    cast.issue()
    from billing.domain.accounts import rounding

    row = Invoice.objects.filter(side="buyer").latest("id")
    assert row.rounding_micro
    rounded = account_balance(rounding()).posted_micro
    durable(lambda: withdraw_invoice(invoice_id=row.pk, reason="x", now=NOW, actor=None))
    assert account_balance(rounding()).posted_micro == rounded - row.rounding_micro
    cast.issue()
    assert account_balance(rounding()).posted_micro == rounded and clean_books()


def test_by_month_they_are_asked_for_by_themselves_once(monkeypatch):
    cast = Cast()
    cast.title(monthly_kind="82")
    assert cast.title(monthly_kind="81").json()["code"] == "invoice-title-monthly"
    monkeypatch.setattr("billing.tasks.clock.now", lambda: NOW + timedelta(days=5))
    assert request_monthly_tax_invoices() == 0  # the month is not over
    monkeypatch.setattr("billing.tasks.clock.now", lambda: NOW + timedelta(days=12))
    assert (request_monthly_tax_invoices(), request_monthly_tax_invoices()) == (1, 0)
    assert TaxInvoice.objects.get().total_micro == 3_000_000_000 and clean_books()


def test_what_is_not_taxed_stands_on_no_tax_invoice():
    cast = Cast()
    penalty = charge_input(
        cast.buyer, cast.provider, source_key="p", kind=ChargeKind.PENALTY, scope="market:1", quantity_micro_st=0,
        buyer_amount_micro=-50_000_000, seller_amount_micro=-50_000_000, fee_micro=0, tokens={})  # fmt: skip
    from billing.domain.accounts import available
    from billing.domain.principal import pay_loss

    given_charges(penalty, postings=pay_loss(
        key="p", kind="penalty", provider_id=cast.provider.pk, to=available(cast.buyer.pk), amount_micro=50_000_000))
    cast.issue()
    penalty_note = Invoice.objects.filter(side="buyer").latest("id")
    assert penalty_note.total_micro == -50_000_000
    assert "taxable" in cast.ask(penalty_note).json()["detail"]
    assert cast.ask().json()["total"] == "3000.00" and clean_books()


@pytest.mark.django_db(transaction=True)
def test_two_requests_and_a_withdrawal_at_once_leave_one_of_them(race):
    cast = Cast()
    title = InvoiceTitle.objects.create(organization=cast.buyer, name="x", tax_number=CODE, created_at=NOW)

    def ask():
        return durable(lambda: request_tax_invoice(
            title=title, kind="81", invoice_ids=[cast.invoice.pk], by="key:1", now=NOW))

    def withdraw():
        return durable(lambda: withdraw_invoice(invoice_id=cast.invoice.pk, reason="x", now=NOW, actor=None))

    results = race(ask, withdraw, ask, ask, withdraw, ask)
    withdrawn = cast.invoice.states.filter(state="withdrawn").count()
    assert TaxInvoice.objects.count() + withdrawn == 1
    assert all(getattr(one, "code", "invoice-not-withdrawable") for one in results)
    assert clean_books()


@given(st.lists(st.tuples(st.integers(-10**9, 10**11), st.sampled_from([0, 30, 60]), st.sampled_from("abc"),
                          st.integers(0, 10**15)), min_size=1, max_size=12))  # fmt: skip
def test_lines_add_up_to_what_documents_say(parts):
    lines, totals = [], []
    for rate in {part[1] for part in parts}:
        mine = [part for part in parts if part[1] == rate]
        fen = fen_lines([part[0] for part in mine])
        if rate and sum(fen) < 0:
            return
        split = vat_of_gross(max(sum(fen), 0), rate)
        totals.append(TaxTotal(rate, split.net_micro, split.tax_micro))
        lines += [Taxed(rate, part[2], part[3], gross) for part, gross in zip(mine, fen, strict=True)]
    made = tax_lines(lines, totals)
    for total in totals:
        of_rate = [line for line in made if line.vat_thousandths == total.vat_thousandths]
        if total.vat_thousandths:
            assert sum(line.net_micro for line in of_rate) == total.net_micro
            assert sum(line.tax_micro for line in of_rate) == total.tax_micro
        assert all(line.net_micro >= 0 and line.tax_micro >= 0 and line.net_micro % 10_000 == 0 for line in of_rate)


def test_tax_numbers_and_unit_prices():
    assert is_tax_number(CODE) and is_tax_number("1" * 15) and not is_tax_number("91350100M000100Y4O")
    assert unit_price(2_830_190_000, 3 * 10**12) == "943.396666667" and unit_price(1, 0) == ""
    assert format_yuan(2_830_190_000) == "2830.19"
