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


def test_it_speaks_chinese(client, operator):
    from django.utils.translation import override

    from config.console_names import fields_of, shown_models

    with override("zh-hans"):
        for model in shown_models():
            texts = [model._meta.verbose_name, model._meta.verbose_name_plural]
            for field in fields_of(model):
                texts += [field.verbose_name, *([field.help_text] if field.help_text else [])]
            english = [str(text) for text in texts if str(text).isascii()]
            assert english == [], f"{model._meta.label}: config/console_texts.py names what is to be translated"
    given_market()
    chinese = client.get("/admin/exchange/market/", headers={"Accept-Language": "zh-hans"}).content.decode()
    assert "交割时段开始" in chinese and "停牌" in chinese and "交易所" in chinese and "输入以搜索" in chinese
    assert "Window start" not in chinese and ">Markets<" not in chinese
    plain = client.get("/admin/billing/billingprofile/add/", headers=EN).content.decode()
    assert "Fee (‰)" in plain and "Payment days" in plain


def test_what_stops_trading_takes_a_reason_that_everybody_reads(client, operator):
    market = given_market()
    path, chosen = "/admin/exchange/market/", {"action": "halt", "_selected_action": [market.pk]}
    refused = client.post(path, {**chosen, "reason": "  "}, headers=EN, follow=True).content.decode()
    market.refresh_from_db()
    assert "Say why" in refused and not market.halted
    client.post(path, {**chosen, "reason": "its meter is silent"}, headers=EN)
    market.refresh_from_db()
    assert market.halted and "its meter is silent" in client.get("/notices", headers=EN).content.decode()
