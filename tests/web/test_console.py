"""The operator's console: today at a glance, and that what is changed by hand stands in the audit log."""

import pytest

from identity.models import AuditEntry
from tests.given import given_market, given_organization, given_user

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}


@pytest.fixture
def operator(client):
    user = given_user(given_organization("operator"), is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


def test_it_opens_with_today_at_a_glance(client, operator):
    given_market()
    page = client.get("/admin/", headers=EN).content.decode()
    for text in ("Today at a glance", "Calls open", "Default account", "Events set aside", "Next calls to close"):
        assert text in page, text


def test_every_list_opens_and_searches(client, operator):
    from django.contrib import admin

    given_market()
    for model, registered in admin.site._registry.items():
        if model._meta.app_label in ("identity", "providers", "billing", "exchange", "metering_ingest"):
            path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
            assert client.get(path, headers=EN).status_code == 200, path
            if registered.search_fields:
                assert client.get(path, {"q": "x'%"}, headers=EN).status_code == 200, path


def test_a_change_by_hand_is_in_the_audit_log_with_before_and_after(client, operator):
    buyer = given_organization("buyer", name="Lantern")
    path = f"/admin/identity/organization/{buyer.pk}/change/"
    fields = {
        "name": "Lantern", "name_zh": "灯笼", "control_group": "", "status": "suspended", "credit_limit_micro": "5",
        "vat_rate_thousandths": "60", "allows_overage_micro": "0",
        "memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0",
    }  # fmt: skip
    assert client.post(path, fields, headers=EN).status_code == 302
    entry = AuditEntry.objects.get(verb="organization.change")
    assert entry.user_id == operator.pk and entry.subject == f"organization:{buyer.pk}"
    assert entry.before == {"name_zh": "", "status": "active", "credit_limit_micro": "0"}
    assert entry.after == {"name_zh": "灯笼", "status": "suspended", "credit_limit_micro": "5"}


def test_a_person_without_staff_rights_is_kept_out(client):
    client.force_login(given_user(given_organization("buyer")))
    assert client.get("/admin/").status_code == 302


def test_passwords_never_reach_the_log(client, operator):
    added = {"email": "li@example.com", "name": "Li", "password1": "correct horse 9", "password2": "correct horse 9",
             "memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}  # fmt: skip
    assert client.post("/admin/identity/user/add/", added, headers=EN).status_code == 302
    entry = AuditEntry.objects.get(verb="user.add")
    assert "password" not in str(entry.after) and "correct" not in str(entry.after)
