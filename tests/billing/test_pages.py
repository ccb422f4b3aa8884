"""Billing's pages: what a member sees of documents and account, and a stranger does not."""

import pytest
from django.db import transaction

from billing.actions.invoices import issue_invoices
from billing.models import Invoice
from tests.billing.given import charge_input, given_charges, given_deposit
from tests.given import NOW, given_organization, given_user

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}


@pytest.fixture
def traded():
    given_organization("operator")
    buyer, provider = given_organization("buyer", name="Lantern"), given_organization("provider", name="Kunlun")
    given_charges(charge_input(buyer, provider))
    with transaction.atomic():
        issue_invoices(organization_id=buyer.pk, now=NOW)
        issue_invoices(organization_id=provider.pk, now=NOW)
    return buyer, provider


def signed_in(client, organization):
    client.force_login(given_user(organization))
    return client


def test_a_buyer_reads_an_invoice_line_by_line(client, traded):
    buyer, _ = traded
    invoice = Invoice.objects.get(organization=buyer)
    signed_in(client, buyer)
    listed = client.get("/invoices", headers=EN).content.decode()
    assert invoice.number in listed and "¥3,000.00" in listed
    page = client.get(f"/invoices/{invoice.pk}", headers=EN).content.decode()
    assert "Used tokens" in page and "¥0.003" in page and "1,000,000" in page and "¥169.81" in page


def test_a_provider_reads_its_statement(client, traded):
    _, provider = traded
    statement = Invoice.objects.get(organization=provider)
    signed_in(client, provider)
    page = client.get(f"/statements/{statement.pk}", headers=EN).content.decode()
    assert "Platform fee" in page and statement.number in page


def test_a_stranger_sees_none_of_it(client, traded):
    buyer, provider = traded
    signed_in(client, given_organization("both"))
    assert client.get(f"/invoices/{Invoice.objects.get(organization=buyer).pk}").status_code == 404
    assert client.get(f"/statements/{Invoice.objects.get(organization=provider).pk}").status_code == 404
    assert "INV" not in client.get("/invoices").content.decode()


def test_pages_ask_visitors_to_sign_in(client):
    for path in ("/invoices", "/invoices/1", "/statements", "/account"):
        answer = client.get(path)
        assert answer.status_code == 302 and answer.url.startswith("/accounts/login/")


def test_the_account_shows_its_transfers(client):
    given_organization("operator")
    buyer = given_organization("buyer")
    given_deposit(buyer, 12_340_000)
    page = signed_in(client, buyer).get("/account", headers=EN).content.decode()
    assert page.count("¥12.34") == 2


def test_pages_take_few_queries(client, traded, django_assert_max_num_queries):
    buyer, _ = traded
    signed_in(client, buyer)
    for path in ("/invoices", f"/invoices/{Invoice.objects.get(organization=buyer).pk}", "/account"):
        with django_assert_max_num_queries(14):
            client.get(path)
