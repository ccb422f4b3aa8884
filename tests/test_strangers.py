"""A stranger's key on every address: whatever belongs to somebody else is not there, by any method, in any list."""

import pytest
from django.db import transaction
from django.urls import get_resolver

from billing.actions.invoices import issue_invoices
from billing.models import BundleOffer, Dispute, Invoice, InvoiceLine, StripePayment, SupplierInvoice
from core.ids import new_id
from exchange.actions.blocks import BlockRequest, place_blocks
from exchange.models import AuctionResult, BuyerExclusion, Command, DeliveryContract
from identity.models import ApiKey, Membership
from metering_ingest.models import Authorization, Budget, Claim, Discrepancy, DiscrepancyEntry, ServiceFinding
from providers.models import Capacity
from tests.billing.given import charge_input, given_charges
from tests.billing.payments import given_payments
from tests.billing.taxes import given_tax_invoice
from tests.given import (
    NOW,
    Api,
    advanced,
    given_api,
    given_capacity,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
    given_user,
)
from tests.identity.given import given_webhook_delivery
from tests.metering.given import given_meter

pytestmark = pytest.mark.django_db

#: What everybody may see: the catalogue, and markets and auctions without names.
PUBLIC = {
    "v1/grades/<str:slug_or_id>",
    "v1/accelerators/<str:accelerator>",
    "accelerators/<str:accelerator>",
    "v1/markets/<int:market_id>",
    "v1/markets/<int:market_id>/trades",
    "v1/markets/<int:market_id>/frames",
    "v1/markets/<int:market_id>/book",
    "v1/markets/<int:market_id>/candles",
    "v1/markets/<int:market_id>/indicative",
    "v1/markets/<int:market_id>/phases",
    "v1/markets/<int:market_id>/statistics",
    "v1/grades/<str:slug_or_id>/index",
    "v1/markets/<int:market_id>/calls",
    "v1/auctions/<int:auction_id>",
    "v1/auctions/<int:auction_id>/curves",
    "v1/auctions/<int:auction_id>/history",
    "v1/auctions/<int:auction_id>/book",
    "markets/<int:market_id>",
    "markets/<int:market_id>/live",
    "fairness/<str:slug>",
    "fairness/<str:slug>.csv",
    "rules/<str:version>",
}
#: Pages of everybody's things that a member's form asks for or sends to; a visitor is asked to sign in.
FOR_MEMBERS = {
    "markets/<int:market_id>/estimate",
    "markets/<int:market_id>/orders",
    "markets/<int:market_id>/cancel",
    "orders/<uuid:order_id>/cancel",
    "capacity/<int:capacity_id>/withdraw",
    "exclusions/<int:provider_id>/readmit",
    "blocks/<uuid:block_id>/withdraw",
    "organization/keys/<int:key_id>/revoke",
    "organization/members/<int:membership_id>/role",
    "organization/members/<int:membership_id>/remove",
    "payouts/accounts/<int:account_id>/close",
    "statements/<int:document_id>/tax-invoice",
    "webhooks/<int:webhook_id>/change",
    "reconciliation/<month:month>.pdf",
    "reconciliation/<month:month>.csv",
    "reconciliation/<month:month>/answer",
    "webhook-deliveries/<uuid:delivery_id>/replay",
}
METHODS = ("get", "post", "patch", "delete", "put")


def addresses(resolver=None, prefix=""):
    """Every address with a parameter, outside the admin and sign-in."""
    for pattern in (resolver or get_resolver()).url_patterns:
        address = prefix + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            if not address.startswith(("admin", "accounts")):
                yield from addresses(pattern, address)
        elif pattern.pattern.converters:
            yield address


@pytest.fixture
def owned():
    """One of everything, by the names of the addresses' parameters; all owned by others than the stranger."""
    given_organization("operator")
    market = given_market()
    seller, buyer = given_seller(market), given_money(given_organization("buyer"))
    given_orders(seller, {"market": market, "side": "sell", "lots": 300, "price": 20})
    [order] = given_orders(buyer, {"market": market, "side": "buy", "lots": 200, "price": 30})
    advanced(market)
    given_charges(charge_input(buyer, seller, scope=f"market:{market.pk}"))
    with transaction.atomic():
        issue_invoices(organization_id=buyer.pk, now=NOW)
        issue_invoices(organization_id=seller.pk, now=NOW)
    given_api(buyer)
    delivery = given_webhook_delivery(buyer)
    capacity = given_capacity()
    contract = DeliveryContract.objects.get()
    discrepancy = Discrepancy.objects.create(
        contract=contract, hour=NOW, token_class="output", provider_quantity=9, buyer_quantity=1,
        tolerance_thousandths=20, held_quantity=8, held_work_micro_st=8, opened_at=NOW, changed_at=NOW,
    )  # fmt: skip
    claim = Claim.objects.create(contract=contract, quantity_tokens=1, made_at=NOW)
    BuyerExclusion.objects.create(buyer=buyer, provider=seller, since=NOW)
    budget = Budget.objects.create(
        organization=buyer, subject="organization", period="day", unit="tokens", limit=1, created_at=NOW
    )
    authorization = Authorization.objects.create(
        id=new_id(), organization=buyer, key="k", tags={}, quantity_micro_st=1, created_at=NOW, expires_at=NOW
    )
    entry = DiscrepancyEntry.objects.create(discrepancy=discrepancy, kind="comment", at=NOW, attachment=b"x")
    call = given_market()
    with transaction.atomic():
        [block] = place_blocks(
            organization=buyer, requests=[BlockRequest("buy", 3_000_000, ((call.pk, 1_000),))], now=NOW
        )
    finding = ServiceFinding.objects.create(
        contract=contract, deployment_id=capacity.deployment_id, minutes=[], quantity_tokens=1, late_hours=[],
        late_work_micro_st=0, found_at=NOW, decided_from=NOW,
    )  # fmt: skip
    return {
        "finding_id": finding.pk,
        "block_id": block.pk,
        "organization_id": buyer.pk,
        "key_id": ApiKey.objects.get(organization=buyer).pk,
        "membership_id": Membership.objects.get(user=given_user(buyer)).pk,
        "deployment_id": capacity.deployment_id,
        "capacity_id": capacity.pk,
        "market_id": market.pk,
        "auction_id": AuctionResult.objects.get().pk,
        "order_id": order,
        "contract_id": contract.pk,
        "discrepancy_id": discrepancy.pk,
        "entry_id": entry.pk,
        "claim_id": claim.pk,
        "provider_id": seller.pk,
        "budget_id": budget.pk,
        "accelerator": capacity.deployment.accelerator.slug,
        "authorization_id": authorization.pk,
        "meter_id": given_meter(capacity.deployment).pk,
        "slug_or_id": market.grade.slug,
        "slug": market.grade.slug,
        "version": "2026-1",
        "payment_id": StripePayment.objects.create(
            organization=buyer, kind="checkout", amount_micro=10**7, created_at=NOW
        ).pk,
        **given_payments(buyer, seller),
        **given_tax_invoice(buyer),
        "dispute_id": Dispute.objects.create(
            line=InvoiceLine.objects.filter(invoice__side="buyer").first(), invoice=Invoice.objects.get(side="buyer"),
            amount_micro=10_000, held_micro=0, opened_at=NOW,
        ).pk,
        "webhook_id": delivery.endpoint_id,
        "delivery_id": delivery.pk,
        "invoice": Invoice.objects.get(side="buyer").pk,
        "day": "2026-11-20",
        "month": "2026-10",
        "offer_id": BundleOffer.objects.create(
            name="b", price_micro=1, worth_micro=1, valid_days=1, offered_at=NOW
        ).pk,
        "statement": Invoice.objects.get(side="provider").pk,
        "supplier_invoice_id": SupplierInvoice.objects.create(
            statement=Invoice.objects.get(side="provider"), number="1" * 20, issued_on=NOW, total_micro=1, tax_micro=0,
            differences=[{"field": "tax"}], document=b"<x/>", uploaded_at=NOW,
        ).pk,
    }


def filled(address, owned):
    """The address with the ids of what others own; a new kind of parameter must be added to `owned`."""
    document = owned["statement" if "statements/" in address else "invoice"]
    known = owned | {"invoice_id": document, "document_id": document}
    for name, value in known.items():
        for kind in ("int", "uuid", "str", "isodate", "month"):
            address = address.replace(f"<{kind}:{name}>", str(value))
    assert "<" not in address, f"{address}: say in `owned` what stands for its parameter"
    return "/" + address


def test_a_strangers_key_finds_nothing_of_anybody_else(owned):
    stranger = given_api(given_organization("both"))
    for address in addresses():
        if address in PUBLIC or not address.startswith("v1/"):
            continue
        path = filled(address, owned)
        for method in METHODS:
            answer = getattr(stranger, method)(path, {})
            allowed = {400, 404, 405} if method != "get" else {404, 405}
            assert answer.status_code in allowed, f"{method} {path}: {answer.status_code} {answer.content[:200]}"
        assert Api().get(path).status_code in (401, 405), path
        assert Api("ck_" + "x" * 43).get(path).status_code == 401, path


def test_a_strangers_browser_finds_nothing_of_anybody_else(client, owned):
    for address in addresses():
        if address in PUBLIC | FOR_MEMBERS or address.startswith("v1/"):
            continue
        path = filled(address, owned)
        client.logout()
        assert client.get(path).status_code == 302, path
        client.force_login(given_user(given_organization("both")))
        assert client.get(path).status_code == 404, path


def test_forms_ask_a_visitor_to_sign_in_and_let_a_stranger_change_nothing(client, owned):
    before = Command.objects.count()
    for address in sorted(FOR_MEMBERS):
        path = filled(address, owned)
        client.logout()
        assert {client.get(path).status_code, client.post(path).status_code} <= {302, 405}, path
        client.force_login(given_user(given_organization("both")))
        assert {client.get(path).status_code, client.post(path).status_code} <= {200, 302, 404, 405, 422}, path
    assert Command.objects.count() == before
    assert ApiKey.objects.get(pk=owned["key_id"]).revoked_at is None
    assert Capacity.objects.get(pk=owned["capacity_id"]).withdrawn_tokens == 0


def test_what_is_public_names_nobody(owned):
    for address in PUBLIC:
        query = "?after=0" if address.endswith("/frames") else ""
        answer = Api().get(filled(address, owned) + query)
        assert answer.status_code == 200, answer.content
        assert "Buyer" not in answer.content.decode() or not address.startswith("v1/")


def test_lists_hold_only_ones_own(owned):
    stranger = given_api(given_organization("both"))
    for path in (
        "orders", "trades", "positions", "contracts", "deliveries", "shortfalls", "claims", "unplaced", "exclusions",
        "meters", "manifests", "manifests/gaps", "aliases", "capacity", "certificates", "deployments",
        "invoices", "statements", "charges", "transfers", "events/rejected", "discrepancies",
        "webhooks", "webhook-events", "payouts", "bank-accounts", "stripe/payments", "deposits", "budgets",
        "authorizations", "service/minutes", "service/probes", "service/findings",
    ):  # fmt: skip
        answer = stranger.get(f"/v1/{path}")
        assert answer.status_code == 200, f"{path}: {answer.content[:200]}"
        assert answer.json()["items"] == [], path
