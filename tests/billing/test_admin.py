"""The operator's console over the books."""

import pytest

from billing.models import BillingProfile
from tests.billing.given import charge_input, given_charges, given_deposit
from tests.given import given_organization, given_user

pytestmark = pytest.mark.django_db


def test_the_operator_looks_at_the_books_and_sets_how_organizations_are_billed(client):
    given_organization("operator")
    buyer = given_organization()
    given_deposit(buyer)
    given_charges(charge_input(buyer, given_organization("provider")))
    client.force_login(given_user(is_staff=True, is_superuser=True))
    for name in ("account", "transfer", "deposit", "charge", "invoice", "billingprofile"):
        assert client.get(f"/admin/billing/{name}/").status_code == 200
    assert client.get("/admin/billing/transfer/add/").status_code == 403
    form = {"organization": buyer.pk, "cycle": "monthly", "fee_thousandths": 20, "payment_days": 30}
    assert client.post("/admin/billing/billingprofile/add/", form).status_code == 302
    assert BillingProfile.objects.get(organization=buyer).cycle == "monthly"
