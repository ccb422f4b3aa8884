"""FOCUS 1.2 files: every charge of a document, sums that are its total, and the Foundation's own validator."""

import csv
import io
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal

import duckdb
import pytest
from django.core.management import call_command
from django.db import transaction

from billing.actions.invoices import issue_invoices
from billing.documents.focus import focus_csv, focus_parquet
from billing.domain.charges import ChargeKind
from billing.domain.focus import COLUMNS
from billing.models import Charge, Invoice
from core.periods import Period
from tests.billing.given import WINDOW, charge_input, given_charges
from tests.given import NOW, given_api, given_organization

pytestmark = pytest.mark.django_db
EVER = Period(NOW - timedelta(days=40), NOW + timedelta(days=40))


@pytest.fixture
def buyer():
    """A buyer with invoices of every kind of charge that billing knows, a correction among them."""
    given_organization("operator", name="Ciyuan")
    buyer, provider = given_organization(name="Lantern Search", name_zh="灯笼搜索"), given_organization("provider")
    odd = {"quantity_micro_st": 333_333_333_333, "buyer_price_nano": 1_234_567, "seller_price_nano": 1_234_567}
    given_charges(
        charge_input(buyer, provider, **odd),
        charge_input(
            buyer,
            provider,
            source_key="contract:1:lot:1:unused",
            kind=ChargeKind.UNUSED,
            tokens={},
            buyer_amount_micro=70_000_000,
            seller_amount_micro=70_000_000,
            fee_micro=0,
        ),
        charge_input(
            buyer,
            provider,
            source_key="contract:1:lot:1:undelivered",
            kind=ChargeKind.UNDELIVERED,
            tokens={},
            buyer_amount_micro=0,
            seller_amount_micro=0,
            fee_micro=0,
        ),
        charge_input(buyer, provider, source_key="contract:1:overage", kind=ChargeKind.OVERAGE, **odd),
        charge_input(
            buyer,
            provider,
            source_key="contract:1:penalty",
            kind=ChargeKind.PENALTY,
            tokens={},
            quantity_micro_st=0,
            buyer_amount_micro=-5_000_000,
            seller_amount_micro=0,
            fee_micro=0,
        ),
    )
    issue(buyer)
    later = charge_input(
        buyer,
        provider,
        revision=1,
        buyer_amount_micro=-1_000_003,
        seller_amount_micro=-1_000_003,
        fee_micro=0,
        quantity_micro_st=-810_000_000,
        tokens={"input": -5_000},
    )
    given_charges(later, now=NOW + timedelta(hours=1))
    issue(buyer, NOW + timedelta(hours=1))
    return buyer


def issue(organization, now=NOW):
    with transaction.atomic():
        return issue_invoices(organization_id=organization.pk, now=now)


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_rows_of_a_document_add_up_to_its_total(buyer):
    rows = rows_of("".join(focus_csv(buyer.pk, EVER)))
    assert tuple(rows[0]) == COLUMNS
    assert len([row for row in rows if row["x_ChargeKind"] != "rounding"]) == Charge.objects.count() == 6
    billed = defaultdict(Decimal)
    for row in rows:
        billed[row["InvoiceId"]] += Decimal(row["BilledCost"])
        if row["ContractedUnitPrice"]:
            product = Decimal(row["PricingQuantity"]) * Decimal(row["ContractedUnitPrice"])
            assert product == Decimal(row["ContractedCost"])
        assert row["ChargeDescription"].isascii() and row["BillingAccountName"] == "Lantern Search"
    totals = {row.number: Decimal(row.total_micro).scaleb(-6) for row in Invoice.objects.filter(organization=buyer)}
    assert billed == totals and len(totals) == 2
    assert [row["ChargeClass"] for row in rows if row["InvoiceId"].startswith("CRN")] == ["Correction"] * 2
    assert rows[0]["BillingPeriodStart"] == "2026-10-31T16:00:00Z"  # November in Shanghai
    assert rows[0]["ChargePeriodEnd"] == WINDOW.end.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_the_same_file_again_and_the_same_table_as_parquet(buyer, tmp_path):
    text = "".join(focus_csv(buyer.pk, EVER))
    assert text == "".join(focus_csv(buyer.pk, EVER))
    content = focus_parquet(buyer.pk, EVER)
    assert content == focus_parquet(buyer.pk, EVER)
    file = tmp_path / "focus.parquet"
    file.write_bytes(content)
    found = duckdb.sql(f"SELECT sum(BilledCost), count(*), min(BillingPeriodStart)::text FROM '{file}'").fetchall()[0]
    assert found[:2] == (sum(Decimal(row["BilledCost"]) for row in rows_of(text)), len(rows_of(text)))


def test_over_http_and_by_command(buyer, tmp_path, monkeypatch):
    monkeypatch.setattr("core.clock.now", lambda: NOW + timedelta(hours=2))
    own, stranger = given_api(buyer), given_api(given_organization())
    answer = own.get("/v1/exports/focus.csv?first=2026-11-01&last=2026-11-30")
    assert b"".join(answer.streaming_content).decode() == "".join(focus_csv(buyer.pk, EVER))
    assert own.get("/v1/exports/focus.parquet").content == focus_parquet(buyer.pk, EVER)
    assert len(rows_of(b"".join(stranger.get("/v1/exports/focus.csv").streaming_content).decode())) == 0
    assert stranger.get(f"/v1/exports/focus.csv?organization={buyer.pk}").status_code == 404
    for bad, field in (("first=x", "first"), ("last=2026-10-08", "last"), ("first=2020-01-01", "first")):
        answer = own.get(f"/v1/exports/focus.csv?{bad}")
        assert (answer.status_code, answer.json()["field"]) == (400, field)
    file = tmp_path / "focus.csv"
    call_command("export_focus", organization=buyer.pk, first="2026-11-01", last="2026-11-30", out=file, verbosity=0)
    assert file.read_text() == "".join(focus_csv(buyer.pk, EVER))


@pytest.mark.focus
def test_the_validator_of_the_finops_foundation_finds_nothing(buyer, tmp_path):
    from config.check_focus import failures

    file = tmp_path / "focus.csv"
    file.write_text("".join(focus_csv(buyer.pk, EVER)))
    found, printed = failures(file)
    assert found == [], printed
    broken = tmp_path / "broken.csv"
    broken.write_text(file.read_text().replace(",CNY,", ",Yuan,"))
    found, printed = failures(broken)
    assert any("BillingCurrency" in rule for rule in found), printed


def test_the_sdk_has_the_export():
    from ciyuan import Client

    assert callable(Client("ck_" + "x" * 43, "http://127.0.0.1:1").exports.focus)
