"""Documents as people and programs get them: API, PDF in two languages, CSV."""

import csv
import io
import subprocess
from shutil import which

import pytest
from django.db import transaction

from billing.actions.invoices import issue_invoices
from billing.domain.charges import ChargeKind
from tests.billing.given import charge_input, given_charges
from tests.given import NOW, given_api, given_organization, given_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator():
    return given_organization("operator", name_zh="词元交易所")


@pytest.fixture
def buyer(operator):
    return given_organization("buyer", name="Lantern Search", name_zh="灯笼搜索")


@pytest.fixture
def provider(operator):
    return given_organization("provider", name="Kunlun Compute", name_zh="昆仑算力")


@pytest.fixture
def documents(buyer, provider):
    """An invoice and a statement over the same delivered and unused tokens."""
    labels = {"market": 7, "contract": 12, "lot": 1, "model": "=Qwen3-32B", "auction": 9,
              "standard_version": "ST-2026.1"}
    given_charges(
        charge_input(buyer, provider, labels=labels | {"deployment": 3}),
        charge_input(buyer, provider, source_key="contract:1:unused", kind=ChargeKind.UNUSED, tokens={}, labels=labels,
                     buyer_amount_micro=1_500_000_004, seller_amount_micro=1_500_000_004, fee_micro=30_000_000))
    with transaction.atomic():
        return issue_invoices(organization_id=buyer.pk, now=NOW)[0], issue_invoices(
            organization_id=provider.pk, now=NOW)[0]


def test_an_invoice_says_what_is_paid_for_and_at_what_price(documents, buyer):
    api = given_api(buyer)
    listed, = api.get("/v1/invoices").json()["items"]
    assert (listed["number"], listed["total"], listed["state"]) == (f"INV{NOW.year}-000001", "4500.00", "paid")
    assert (listed["charges"], listed["rounding"]) == ("4500.000004", "-0.000004")
    shown = api.get(f"/v1/invoices/{listed['id']}").json()
    first, second = shown["lines"]
    assert (first["price"], first["price_per_million"], first["amount"]) == ("0.003", "3000.00", "3000.00")
    assert (first["standard_tokens"], first["tokens"]["cached_input"]) == ("1000000", 500_000)
    assert (first["labels"]["contract"], first["labels"]["auction"]) == (12, 9)
    assert (second["kind"], second["amount_exact"], second["amount"]) == ("unused", "1500.000004", "1500.00")
    assert shown["taxes"] == [
        {"section": "supply", "vat_thousandths": 60, "gross": "4500.00", "net": "4245.28", "tax": "254.72"}]
    assert api.get("/v1/statements").json()["items"] == []
    charges = api.get(f"/v1/invoices/{listed['id']}/charges?line=1").json()["items"]
    assert [(charge["labels"]["deployment"], charge["seller_amount"]) for charge in charges] == [(3, None)]


def test_a_statement_says_what_to_invoice_and_what_is_paid(documents, provider):
    api = given_api(provider)
    shown = api.get(f"/v1/statements/{documents[1].pk}").json()
    assert (shown["total"], [tax["gross"] for tax in shown["taxes"]]) == ("4410.00", ["4500.00", "-90.00"])
    assert shown["lines"][-1]["section"] == "fee"


def test_documents_belong_to_their_organization(documents, buyer, provider):
    invoice, statement = documents
    stranger, operator = given_api(given_organization()), given_api(given_organization("operator"))
    for suffix in ("", ".pdf", ".csv", "/charges", "/charges.csv"):
        for asked in (stranger, given_api(provider)):
            assert asked.get(f"/v1/invoices/{invoice.pk}{suffix}").status_code == 404
        assert given_api(buyer).get(f"/v1/statements/{statement.pk}{suffix}").status_code == 404
        assert operator.get(f"/v1/invoices/{invoice.pk}{suffix}").status_code == 200
    assert stranger.get("/v1/invoices").json()["items"] == []
    assert stranger.get(f"/v1/invoices?organization={buyer.pk}").status_code == 404


@pytest.mark.parametrize("query", ["kind=x", "state=x", "limit=x", "cursor=x", "organization=x"])
def test_bad_filters_are_refused(buyer, query):
    answer = given_api(buyer).get(f"/v1/invoices?{query}")
    assert (answer.status_code, answer.json()["field"]) == (400, query.partition("=")[0])


def test_csv_adds_up_and_holds_no_formulas(documents, buyer):
    answer = given_api(buyer).get(f"/v1/invoices/{documents[0].pk}.csv")
    text = answer.content.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["amount"] for row in rows] == ["3000.00", "1500.00"]
    assert rows[0]["model"] == "'=Qwen3-32B" and rows[0]["cached_input_tokens"] == "500000"
    charges = given_api(buyer).get(f"/v1/invoices/{documents[0].pk}/charges.csv").content.decode("utf-8-sig")
    assert [row["deployment"] for row in csv.DictReader(io.StringIO(charges))] == ["3", ""]


def test_an_unchanged_document_is_not_sent_again(documents, buyer):
    api = given_api(buyer)
    for suffix in ("", ".csv", ".pdf"):
        tag = api.get(f"/v1/invoices/{documents[0].pk}{suffix}").headers["ETag"]
        assert api.get(f"/v1/invoices/{documents[0].pk}{suffix}", headers={"If-None-Match": tag}).status_code == 304


def pdf_text(content: bytes) -> str:
    if which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is missing")
    done = subprocess.run(["pdftotext", "-layout", "-", "-"], input=content, capture_output=True, check=True)
    return done.stdout.decode()


@pytest.mark.parametrize(("language", "words"), [
    ("zh", ["账单", "购买方", "灯笼搜索", "4,500.00", "肆仟伍佰元整", "0.003", "3,000.00", "缓存输入", "照付不议",
            "第 1 页"]),
    ("en", ["Invoice", "Lantern Search", "4,500.00", "肆仟伍佰元整", "0.003", "cached input", "take-or-pay",
            "page 1 of 1"]),
])
def test_the_pdf_reads_in_both_languages_and_is_the_same_each_time(documents, buyer, language, words):
    api = given_api(buyer)
    first, second = (api.get(f"/v1/invoices/{documents[0].pk}.pdf?language={language}") for _ in range(2))
    assert first.headers["Content-Type"] == "application/pdf" and first.content == second.content
    text = pdf_text(first.content)
    assert [word for word in words if word not in text] == []
    assert api.get(f"/v1/invoices/{documents[0].pk}.pdf?language=fr").json()["field"] == "language"


def test_a_signed_in_person_gets_the_files_of_the_own_organization(documents, buyer, client):
    invoice, statement = documents
    client.force_login(given_user(buyer))
    for suffix, kind in (("pdf", "application/pdf"), ("csv", "text/csv; charset=utf-8")):
        answer = client.get(f"/invoices/{invoice.pk}.{suffix}")
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind)
        assert client.get(f"/statements/{statement.pk}.{suffix}").status_code == 404
