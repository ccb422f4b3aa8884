"""Metering's pages: usage and set-aside events, each organization its own."""

import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from metering_ingest.models import Budget, Discrepancy, DiscrepancyEntry
from tests.given import NOW, given_deployment, given_organization, given_user
from tests.metering.given import given_contract

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}


@pytest.mark.parametrize(
    "path", ["/usage", "/usage?days=31", "/usage?days=7&by=contract&sort=-cost", "/usage/rejected", "/capacity"]
)
def test_a_member_opens_them_and_a_visitor_is_asked_to_sign_in(client, path):
    assert client.get(path).status_code == 302
    client.force_login(given_user(given_deployment().provider))
    page = client.get(path, headers=EN)
    assert page.status_code == 200


def test_nobody_sees_anothers_deployments(client):
    from tests.given import given_capacity

    capacity = given_capacity()
    client.force_login(given_user(given_organization("provider")))
    assert capacity.deployment.name not in client.get("/capacity", headers=EN).content.decode()
    client.force_login(given_user(capacity.deployment.provider))
    assert capacity.deployment.name in client.get("/capacity", headers=EN).content.decode()


def given_discrepancy():
    contract = given_contract()
    return Discrepancy.objects.create(
        contract=contract, hour=NOW, token_class="output", provider_quantity=1_000, buyer_quantity=400,
        tolerance_thousandths=20, held_quantity=600, held_work_micro_st=600_000_000, opened_at=NOW, changed_at=NOW,
    )  # fmt: skip


def form_key(page):
    return re.search(rb'name="key" value="([^"]+)"', page.content)[1].decode()


def test_both_sides_say_something_and_the_operator_decides(client):
    row = given_discrepancy()
    path = f"/discrepancies/{row.pk}"
    buyer, provider = given_user(row.contract.buyer), given_user(row.contract.provider)
    client.force_login(buyer)
    assert f'href="{path}"' in client.get("/discrepancies?state=open", headers=EN).content.decode()
    page = client.get(path, headers=EN)
    assert b"The operator" not in page.content and b"multipart/form-data" in page.content
    assert b'name="accepted_quantity"' not in page.content
    log = SimpleUploadedFile("gateway.log", b"400 tokens", content_type="text/plain")
    sent = {"key": form_key(page), "text": "We counted <400>.", "attachment": log}
    assert client.post(path, sent).status_code == 302
    empty = client.post(path, {"key": "another", "text": " "}, headers=EN)
    assert empty.status_code == 422 and "Write something" in empty.content.decode()
    assert client.post(f"{path}?decide", {"key": "x", "accepted_quantity": 0, "reason": "no"}).status_code == 403
    client.force_login(provider)
    page = client.get(path, headers=EN).content.decode()
    assert "We counted &lt;400&gt;." in page and "gateway.log" in page and "Buyer" in page
    entry = DiscrepancyEntry.objects.get()
    saved = client.get(f"{path}/entries/{entry.pk}")
    assert saved.content == b"400 tokens" and saved["Content-Disposition"].startswith("attachment")
    client.force_login(given_user(given_organization("operator")))
    page = client.get(path, headers=EN)
    assert b'name="accepted_quantity"' in page.content
    wrong = client.post(f"{path}?decide", {"key": "k1", "accepted_quantity": 2_000, "reason": "r"}, headers=EN)
    assert wrong.status_code == 422 and "1,000 tokens" in wrong.content.decode()
    decision = {"key": "k2", "accepted_quantity": 500, "reason": "The logs say so."}
    assert client.post(f"{path}?decide", decision).status_code == 302
    row.refresh_from_db()
    assert (row.state, row.accepted_quantity) == ("decided", 500)
    client.force_login(buyer)
    assert "The logs say so." in client.get(path, headers=EN).content.decode()


def test_budgets_are_set_changed_and_closed(client):
    organization = given_organization()
    client.force_login(given_user(organization))
    page = client.get("/budgets", headers=EN)
    sent = {
        "key": form_key(page), "subject": "key", "value": "alice", "period": "day", "tokens": "1.5M", "hard": "on",
        "alerts": "50, 80",
    }  # fmt: skip
    made = client.post("/budgets", sent)
    row = Budget.objects.get()
    assert made["Location"] == f"/budgets/{row.pk}" and client.post("/budgets", sent)["Location"] == made["Location"]
    assert (row.value, row.limit, row.hard, row.alert_thousandths) == ("alice", 15 * 10**11, True, [500, 800])
    again = client.post("/budgets", sent | {"key": "k2"}, headers=EN)
    assert again.status_code == 422 and "limited already" in again.content.decode()
    for wrong, said in (
        ({"yuan": "5"}, "two limits"), ({"tokens": ""}, "two limits"), ({"alerts": "0"}, "percentages"),
        ({"value": ""}, "Name the key"), ({"tokens": "x"}, "Write a number"),
    ):  # fmt: skip
        answer = client.post("/budgets", sent | {"key": "k3"} | wrong, headers=EN)
        assert answer.status_code == 422 and said in answer.content.decode(), wrong
    assert "1,500,000" in client.get("/budgets", headers=EN).content.decode()
    path = f"/budgets/{row.pk}"
    assert client.post(path, {"key": "k4", "limit": "2000000", "alerts": "90"}).status_code == 302
    row.refresh_from_db()
    assert (row.limit, row.hard, row.alert_thousandths) == (2 * 10**12, False, [900])
    client.force_login(given_user(given_organization()))
    assert client.get(path).status_code == 404 and client.post(f"{path}?close").status_code == 404
    client.force_login(given_user(organization, role="viewer"))
    assert client.get(path).status_code == 200 and client.post(f"{path}?close").status_code == 403
    client.force_login(given_user(organization))
    assert client.post(f"{path}?close").status_code == 302
    row.refresh_from_db()
    assert row.closed_at is not None


@pytest.mark.parametrize(("path", "title"), [("/discrepancies", "计量差异"), ("/budgets", "预算")])
def test_they_are_in_chinese_too(client, path, title):
    assert client.get(path).status_code == 302
    client.force_login(given_user(given_organization()))
    page = client.get(path, headers={"Accept-Language": "zh-hans"}).content.decode()
    assert f"<h1>{title}</h1>" in page
