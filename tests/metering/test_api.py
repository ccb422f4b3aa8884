"""Meters, aliases, usage and rejected events over the API: works, stranger refused, bad input, repeated key."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core.management import call_command

from core import clock
from identity.auth import forget_cached_keys
from metering_ingest.actions import attribution, partitions
from metering_ingest.models import RejectedEvent, UsageRollup
from tests.given import NOW, given_api, given_deployment, given_organization
from tests.metering.conftest import event
from tests.metering.given import Door, given_contract, given_meter, given_meter_key


@pytest.fixture(autouse=True)
def _at_noon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    forget_cached_keys()
    attribution.forget_cached_routes()
    partitions.forget_known_days()
    yield


@pytest.mark.django_db
def test_a_provider_opens_a_meter_and_gets_its_key_once() -> None:
    deployment = given_deployment()
    api = given_api(deployment.provider)
    body = {"name": "gw-1", "role": "provider", "deployment": deployment.pk}
    first = api.post("/v1/meters", body, key="k1")
    assert first.status_code == 201, first.json()
    assert first.json()["secret"].startswith("ck_")
    again = api.post("/v1/meters", body, key="k1")
    assert again.json() == first.json() | {"secret": None}
    assert api.post("/v1/meters", body | {"name": "other"}, key="k1").status_code == 409
    assert api.post("/v1/meters", body).json()["code"] == "meter-name-taken"
    assert [m["id"] for m in api.get("/v1/meters").json()["items"]] == [first.json()["id"]]
    closed = api.delete(f"/v1/meters/{first.json()['id']}")
    assert closed.status_code == 200 and closed.json()["closed_at"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "field"),
    [({"deployment": None}, "deployment"), ({"deployment": 10**9}, "deployment"), ({"role": "x"}, "role"),
     ({"public_key": "00"}, "public_key"), ({"colour": 1}, "colour"), ({"role": "buyer"}, "deployment")],
)  # fmt: skip
def test_a_meter_that_does_not_fit_is_refused_by_field(change: dict, field: str) -> None:
    deployment = given_deployment()
    body = {"name": "gw-1", "role": "provider", "deployment": deployment.pk} | change
    answer = given_api(deployment.provider).post("/v1/meters", body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


@pytest.mark.django_db
def test_another_organizations_meter_is_not_there() -> None:
    meter, stranger = given_meter(), given_api(given_organization())
    assert stranger.get(f"/v1/meters/{meter.pk}").status_code == 404
    assert stranger.delete(f"/v1/meters/{meter.pk}").status_code == 404
    assert stranger.get("/v1/meters").json()["items"] == []
    foreign = {"name": "mine", "role": "engine", "deployment": meter.deployment_id}
    assert given_api(given_organization("provider")).post("/v1/meters", foreign).status_code == 400


@pytest.mark.django_db
def test_a_subject_stands_for_one_buyer_for_good() -> None:
    provider, one, other = given_organization("provider"), given_organization(), given_organization()
    api = given_api(provider)
    made = api.post("/v1/aliases", {"subject": "acme", "buyer": one.pk})
    assert made.status_code == 201
    assert api.post("/v1/aliases", {"subject": "acme", "buyer": one.pk}).json()["id"] == made.json()["id"]
    assert api.post("/v1/aliases", {"subject": "acme", "buyer": other.pk}).json()["code"] == "subject-taken"
    assert api.post("/v1/aliases", {"subject": "x", "buyer": provider.pk}).json()["code"] == "not-a-buyer"
    assert [a["subject"] for a in given_api(one).get("/v1/aliases").json()["items"]] == ["acme"]
    assert given_api(other).get("/v1/aliases").json()["items"] == []


@pytest.mark.django_db(transaction=True)
def test_rejected_events_are_listed_and_replayed_once_their_cause_is_mended(capsys: pytest.CaptureFixture[str]) -> None:
    deployment = given_deployment()
    contract = given_contract(deployment)
    meter = given_meter(deployment)
    door, api = Door(given_meter_key(meter)), given_api(deployment.provider)
    at = (NOW - timedelta(minutes=30)).isoformat()
    sent = [
        event("e-1", subject="acme", time=at),
        event("e-2", subject="acme", time=at),
        event("bad", output_tokens=-1),
    ]
    assert door.post(sent).json()["rejected"] == 3
    listed = api.get("/v1/events/rejected").json()["items"]
    assert {(row["event_id"], row["code"]) for row in listed} == {
        ("e-1", "unknown-subject"), ("e-2", "unknown-subject"), ("bad", "negative-count"),
    }  # fmt: skip
    assert given_api(contract.buyer).get("/v1/events/rejected").json()["items"] == []
    api.post("/v1/aliases", {"subject": "acme", "buyer": contract.buyer_id})
    attribution.forget_cached_routes()
    one = next(row["id"] for row in listed if row["event_id"] == "e-1")
    assert api.post("/v1/events/rejected/replay", {"ids": [one]}).json()["accepted"] == 1
    answer = api.post("/v1/events/rejected/replay").json()
    assert (answer["accepted"], answer["rejected"], answer["remaining"]) == (1, 1, 1)
    assert door.post(sent[:1]).json()["duplicate"] == 1
    assert RejectedEvent.objects.filter(resolved_at__isnull=True).count() == 1

    usage = given_api(contract.buyer).get("/v1/usage?group_by=class,contract")
    by_class = {row["class"]: row["quantity"] for row in usage.json()["items"]}
    assert by_class == {"requests": 2, "input.text": 120, "input.text.cache_read": 80, "output.text": 40}
    assert {row["contract"] for row in usage.json()["items"]} == {contract.pk}
    assert api.get("/v1/usage?group_by=model").json()["items"][0]["events"] == 2
    assert api.get(f"/v1/usage?deployment={deployment.pk + 1}&group_by=class").json()["items"] == []
    csv = api.get("/v1/usage?group_by=class&format=csv").content.decode()
    assert csv.splitlines()[0].startswith("class,quantity,standard_tokens,events,cost,")
    assert len(csv.splitlines()) == 5
    assert given_api(given_organization()).get("/v1/usage").json()["items"] == []

    call_command("audit")
    assert capsys.readouterr().out.strip().endswith("audit: clean")
    UsageRollup.objects.filter(token_class=4).update(quantity=41)
    with pytest.raises(SystemExit):
        call_command("audit")
    assert "rollups-are-events" in capsys.readouterr().out


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query",
    ["group_by=colour", "from=yesterday", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "contract=x"],
)
def test_a_wrong_question_about_usage_is_refused(query: str) -> None:
    answer = given_api(given_organization()).get(f"/v1/usage?{query}")
    assert answer.status_code == 400 and answer.json()["field"]
