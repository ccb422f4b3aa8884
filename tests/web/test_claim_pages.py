"""Pages of claims, positions and exclusions: what each side sees and may do, once, and with its money."""

from datetime import timedelta

import pytest
from django.test import Client

from core import clock
from exchange.models import BuyerExclusion
from metering_ingest.models import Claim, ClaimRuling
from tests.exchange.test_after_the_gate import Sold
from tests.given import given_organization, given_user

pytestmark = pytest.mark.django_db


def as_member(organization, **fields):
    client = Client()
    client.force_login(given_user(organization, **fields))
    return client


@pytest.fixture
def sold(monkeypatch):
    world = Sold()
    moment = world.market.window_start + timedelta(minutes=30)
    monkeypatch.setattr(clock, "now", lambda: moment)
    return world


def claimed(client, sold, **fields):
    typed = {"key": "k1", "requests": "r-1\r\n r-2 \r\n\r\n", "quantity": "５，000", "note": "五百错误", **fields}
    return client.post(f"/contracts/{sold.contract.pk}/claim", typed)


def test_a_buyer_claims_and_the_provider_accepts(sold):
    buyer, provider = as_member(sold.buyer), as_member(sold.a)
    assert f"/contracts/{sold.contract.pk}/claim" in buyer.get(f"/contracts/{sold.contract.pk}").text
    assert f"/contracts/{sold.contract.pk}/claim" not in provider.get(f"/contracts/{sold.contract.pk}").text
    made = claimed(buyer, sold)
    claim = Claim.objects.get()
    assert made.url == claimed(buyer, sold).url == f"/claims/{claim.pk}"  # a double click is one claim
    assert claim.quantity_tokens == 5_000 and claim.requests.count() == 2
    assert "r-2" in buyer.get(f"/claims/{claim.pk}").text and "五百错误" in provider.get(f"/claims/{claim.pk}").text
    assert buyer.post(f"/claims/{claim.pk}", {"key": "k2"}).status_code == 404  # one does not accept one's own
    assert provider.post(f"/claims/{claim.pk}", {"key": "k3", "note": "agreed"}).status_code == 302
    assert ClaimRuling.objects.get().verdict == "accepted"
    assert provider.post(f"/claims/{claim.pk}", {"key": "k4"}).status_code == 302  # a stale tab changes nothing
    assert ClaimRuling.objects.count() == 1
    assert f"/claims/{claim.pk}" in buyer.get("/claims").text


def test_the_operator_rules_on_a_part(sold):
    claimed(as_member(sold.buyer), sold)
    claim, operator = Claim.objects.get(), as_member(given_organization("operator"))
    path = f"/claims/{claim.pk}"
    ruling = {"key": "o1", "verdict": "upheld", "quantity": "9000", "note": "the logs say so"}
    refused = operator.post(path, ruling)
    assert refused.status_code == 422 and "field-error" in refused.text
    assert operator.post(path, ruling | {"key": "o2", "quantity": "4,000"}).status_code == 302
    assert (ClaimRuling.objects.get().verdict, ClaimRuling.objects.get().quantity_tokens) == ("upheld", 4_000)


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"requests": "  "}, "requests"),
        ({"requests": "x" * 201}, "requests"),
        ({"requests": "r\nr"}, "requests"),
        ({"quantity": "0"}, "quantity"),
        ({"quantity": "many"}, "quantity"),
        ({"quantity": "61000"}, "quantity"),
    ],
)
def test_a_bad_claim_is_told_at_its_field_and_changes_nothing(sold, typed, field):
    answer = claimed(as_member(sold.buyer), sold, **typed)
    assert answer.status_code == 422 and not Claim.objects.exists()
    assert f'id="id_{field}_error"' in answer.text or 'role="alert"' in answer.text


def test_who_only_looks_may_not_claim(sold):
    viewer = as_member(sold.buyer, role="viewer")
    assert claimed(viewer, sold).status_code == 403
    assert claimed(as_member(sold.b), sold).status_code == 404


def test_positions_say_what_may_still_be_sold(sold):
    page = as_member(sold.b).get("/positions")
    assert page.status_code == 200 and f"/markets/{sold.market.pk}" in page.text and "40,000" in page.text
    assert as_member(given_organization("buyer")).get("/positions").status_code == 200


def test_a_buyer_excludes_and_readmits(sold):
    buyer = as_member(sold.buyer)
    assert buyer.post("/exclusions", {"key": "e1", "provider": sold.a.pk}).status_code == 302
    assert BuyerExclusion.objects.get().provider_id == sold.a.pk
    assert str(sold.a) in buyer.get("/exclusions").text
    assert buyer.post("/exclusions", {"key": "e2", "provider": sold.buyer.pk}).status_code == 422
    path = f"/exclusions/{sold.a.pk}/readmit"
    assert buyer.post(path, {"key": "e3"}).status_code == 302 == buyer.post(path, {"key": "e3"}).status_code
    assert buyer.post(path, {"key": "e4"}).status_code == 404
    assert not BuyerExclusion.objects.exists()
    assert as_member(sold.a).get("/exclusions").status_code == 404  # a provider has nobody to exclude
