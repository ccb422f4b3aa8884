"""Budgets: never overspent, however many ask at once; alerts once a share; reservations that end by themselves."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from core import clock
from metering_ingest import tasks
from metering_ingest.actions import authorizations
from metering_ingest.models import Authorization, BudgetAlert, BudgetWindow
from tests.given import NOW, Api, given_api, given_organization
from tests.metering.given import given_contract, given_meter, given_meter_key
from tests.metering.test_settlement import Delivery, mine


@pytest.fixture(autouse=True)
def _at_noon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    yield


def at(monkeypatch: pytest.MonkeyPatch, moment: Any) -> None:
    monkeypatch.setattr(clock, "now", lambda: moment)


def budget(api: Api, **fields: Any) -> dict[str, Any]:
    body = {"subject": "organization", "period": "day", "standard_tokens": 1_000, "hard": True} | fields
    answer = api.post("/v1/budgets", {name: value for name, value in body.items() if value is not None})
    assert answer.status_code == 201, answer.json()
    return answer.json()


def ask(api: Api, tokens: int = 100, **fields: Any) -> Any:
    return api.post("/v1/authorizations", {"standard_tokens": tokens, **fields})


@pytest.mark.django_db
def test_a_call_reserves_settles_and_gives_the_rest_back() -> None:
    api = given_api(given_organization())
    limit = budget(api)
    first = ask(api, 800)
    assert first.status_code == 201 and first.json()["state"] == "open"
    refused = ask(api, 201)
    assert (refused.status_code, refused.json()["code"], refused.json()["left"]) == (409, "budget-exceeded", "200")
    path = f"/v1/authorizations/{first.json()['id']}/settle"
    assert api.post(path, {"standard_tokens": "12.5"}).json()["used_standard_tokens"] == "12.5"
    assert api.post(path, {"standard_tokens": "12.5"}).status_code == 201, "the same again"
    assert api.post(path, {"standard_tokens": "13"}).json()["code"] == "authorization-settled"
    window = api.get(f"/v1/budgets/{limit['id']}").json()["windows"][0]
    assert (window["held"], window["settled"], window["left"]) == ("0", "12.5", "987.5")
    assert ask(api, 987).status_code == 201
    assert ask(api, 1).status_code == 409


@pytest.mark.django_db
def test_the_same_key_asks_once() -> None:
    api = given_api(given_organization())
    budget(api)
    body = {"standard_tokens": 600}
    first, again = api.post("/v1/authorizations", body, key="a"), api.post("/v1/authorizations", body, key="a")
    assert first.json() == again.json() and Authorization.objects.count() == 1
    assert api.post("/v1/authorizations", {"standard_tokens": 601}, key="a").status_code == 409


@pytest.mark.django_db
def test_what_nobody_settles_comes_back_and_late_truth_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    api = given_api(given_organization())
    limit = budget(api)
    one = ask(api, 1_000, lifetime_seconds=60).json()
    assert tasks.expire_authorizations() == 0
    at(monkeypatch, NOW + timedelta(seconds=60))
    assert tasks.expire_authorizations() == 1
    assert tasks.expire_authorizations() == 0
    assert api.get(f"/v1/authorizations/{one['id']}").json()["state"] == "expired"
    assert ask(api, 900).status_code == 201
    late = api.post(f"/v1/authorizations/{one['id']}/settle", {"standard_tokens": "400"})
    assert late.json()["state"] == "settled"
    window = api.get(f"/v1/budgets/{limit['id']}").json()["windows"][0]
    assert (window["settled"], window["overrun"], window["held"], window["left"]) == ("400", "400", "900", "0")


@pytest.mark.django_db
def test_keys_and_tags_have_their_own_and_all_must_have_room() -> None:
    api = given_api(given_organization())
    budget(api, standard_tokens=10_000)
    budget(api, subject="key", key="alice", standard_tokens=500)
    budget(api, subject="tag", tag="team", value="search", standard_tokens=300, period="month")
    assert ask(api, 501, key="alice").json()["left"] == "500"
    assert ask(api, 301, key="bob", tags={"team": "search"}).json()["left"] == "300"
    assert ask(api, 300, key="alice", tags={"team": "search"}).status_code == 201
    assert ask(api, 201, key="alice", tags={"team": "other"}).json()["left"] == "200"
    assert ask(api, 5_000, key="bob").status_code == 201
    held = sorted(BudgetWindow.objects.values_list("held", flat=True))
    assert held == [300 * 10**6, 300 * 10**6, 5_300 * 10**6], "a refusal holds nothing anywhere"


@pytest.mark.django_db
def test_a_soft_budget_only_alerts_once_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "metering_ingest.actions.budgets.publish_on_commit",
        lambda group, message: sent.append({"to": group, **message}),
    )
    buyer = given_organization()
    api = given_api(buyer)
    budget(api, hard=False, alert_thousandths=[500, 1_000])
    ask(api, 499)
    assert sent == []
    ask(api, 1)
    ask(api, 100)
    ask(api, 2_000)
    assert [(m["to"], m["share_thousandths"]) for m in sent] == [
        (f"organization.{buyer.pk}", 500), (f"organization.{buyer.pk}", 1_000),
    ]  # fmt: skip
    assert BudgetAlert.objects.count() == 2
    assert api.get("/v1/budgets").json()["items"][0]["windows"][0]["alerts"] == [500, 1_000]


@pytest.mark.django_db
def test_yuan_are_reserved_at_the_contracts_price_and_per_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = given_contract(lots=[(1_000, 3_000_000, 3_000_000), (1_000, 5_000_000, 5_000_000)])
    api = given_api(contract.buyer)
    budget(api, period="contract", standard_tokens=None, yuan="1.00")
    assert ask(api, 200, contract=contract.pk).json()["price"] == "0.005"
    assert ask(api, 1, contract=contract.pk).json()["left"] == "0.00"
    assert ask(api, 1).status_code == 400, "a budget in yuan needs a price"
    assert ask(api, 1, max_price="0.1").status_code == 201, "of no contract, so under no contract's budget"
    assert ask(api, 1, contract=given_contract().pk).status_code == 404


@pytest.mark.django_db
def test_the_meters_count_what_was_never_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Delivery(lots=[(10_000, 3_000_000, 3_000_000)])
    api = given_api(delivery.buyer)
    whole = budget(api, standard_tokens=1_000, alert_thousandths=[500])
    team = budget(api, subject="tag", tag="team", value="search", standard_tokens=1_000)
    money = budget(api, standard_tokens=None, yuan="100.00")
    delivery.report(mine("a", output_tokens=300, tags={"team": "search"}), mine("b", output_tokens=500))
    assert tasks.meter_budgets() == 3
    assert tasks.meter_budgets() == 0, "not again within five seconds"
    used = {
        b: float(api.get(f"/v1/budgets/{b}").json()["windows"][0]["metered"])
        for b in (whole["id"], team["id"], money["id"])
    }
    assert 500 < used[whole["id"]] < 900 and 150 < used[team["id"]] < 350
    assert used[money["id"]] == pytest.approx(used[whole["id"]] * 0.003, rel=1e-4)
    assert [a.share_thousandths for a in BudgetAlert.objects.filter(window__budget=whole["id"])] == [500]
    assert ask(api, 999, max_price="0.003").status_code == 409, "what was metered is not left"


@pytest.mark.django_db
def test_a_gateways_meter_key_may_ask() -> None:
    buyer = given_organization()
    budget(given_api(buyer))
    gateway = Api(given_meter_key(given_meter(organization=buyer)))
    made = ask(gateway, 100, key="alice")
    assert made.status_code == 201
    assert gateway.post(f"/v1/authorizations/{made.json()['id']}/settle", {"standard_tokens": "1"}).status_code == 201
    assert gateway.get("/v1/budgets").status_code == 403


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "field"),
    [({"subject": "planet"}, "subject"), ({"period": "year"}, "period"), ({"yuan": "1.00"}, "standard_tokens"),
     ({"standard_tokens": None}, "standard_tokens"), ({"subject": "key"}, "key"), ({"key": "x"}, "key"),
     ({"subject": "tag", "tag": "team"}, "tag"), ({"alert_thousandths": [0]}, "alert_thousandths"),
     ({"standard_tokens": 10**13}, "standard_tokens"), ({"colour": 1}, "colour")],
)  # fmt: skip
def test_a_budget_that_limits_nothing_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    api = given_api(given_organization())
    body = {"subject": "organization", "period": "day", "standard_tokens": 10} | change
    answer = api.post("/v1/budgets", {name: value for name, value in body.items() if value is not None})
    assert (answer.status_code, answer.json()["field"]) == (400, field)


@pytest.mark.django_db
def test_a_budget_is_changed_and_closed_by_its_owner_alone() -> None:
    api, stranger = given_api(given_organization()), given_api(given_organization())
    row = budget(api)
    assert api.post("/v1/budgets", {"subject": "organization", "period": "day", "standard_tokens": 5}).json()[
        "code"] == "budget-exists"  # fmt: skip
    assert stranger.get(f"/v1/budgets/{row['id']}").status_code == 404
    assert stranger.patch(f"/v1/budgets/{row['id']}", {"hard": False}).status_code == 404
    ask(api, 1_000)
    assert api.patch(f"/v1/budgets/{row['id']}", {"standard_tokens": 10}).json()["limit"] == "10"
    assert ask(api, 1).status_code == 409
    assert api.patch(f"/v1/budgets/{row['id']}", {"standard_tokens": 1_001}).status_code == 200
    assert ask(api, 1).status_code == 201
    assert api.patch(f"/v1/budgets/{row['id']}", {"yuan": "1.00"}).status_code == 400
    assert api.delete(f"/v1/budgets/{row['id']}").json()["closed_at"]
    assert ask(api, 10**6).status_code == 201


@pytest.mark.django_db
def test_the_database_refuses_an_overspent_budget() -> None:
    api = given_api(given_organization())
    budget(api)
    ask(api, 1_000)
    with pytest.raises(IntegrityError), transaction.atomic():
        BudgetWindow.objects.update(held=1_000 * 10**6 + 1)


@pytest.mark.django_db(transaction=True)
def test_a_hundred_at_once_never_overspend_by_one_token(race: Any) -> None:
    buyer = given_organization()
    api = given_api(buyer)
    row = budget(api, standard_tokens=1_037)
    budget(api, subject="key", key="alice", standard_tokens=600)

    def one(number: int) -> int:
        key = "alice" if number % 2 else "bob"
        return ask(Api(api.secret), 25, key=key).status_code

    answers = race(*(lambda n=n: one(n) for n in range(100)))
    assert set(answers) == {201, 409}
    assert answers.count(201) == 1_037 // 25
    window = api.get(f"/v1/budgets/{row['id']}").json()["windows"][0]
    assert (window["held"], window["left"]) == (str(41 * 25), str(1_037 - 41 * 25))
    by_key = Authorization.objects.filter(key="alice").count()
    assert by_key <= 600 // 25
    ids = list(Authorization.objects.values_list("pk", flat=True))

    def settle(authorization: Any) -> Any:
        with transaction.atomic():
            return authorizations.settle_authorization(authorization_id=authorization, used_micro_st=10**6, now=NOW)

    def sweep() -> Any:
        with transaction.atomic():
            return authorizations.expire_due(now=NOW + timedelta(hours=1))

    ended = race(*(lambda a=a: settle(a) for a in ids), sweep, sweep)
    assert not [e for e in ended if isinstance(e, Exception)], ended
    states = Authorization.objects.values_list("state", flat=True)
    window = api.get(f"/v1/budgets/{row['id']}").json()["windows"][0]
    assert (window["held"], window["settled"]) == ("0", str(len(ids))), list(states)
    connection.close()
