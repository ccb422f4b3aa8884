"""Grades: their terms are frozen, how they are run is not."""

import pytest
from django.db import IntegrityError, transaction

from core.trading_calendar import DEFAULT_SCHEDULE
from providers import queries
from providers.actions.grades import change_grade
from providers.models import Grade
from tests.given import NOW, given_api, given_grade, given_model, given_organization

pytestmark = pytest.mark.django_db

TERMS = {
    "slug": "reference-7b-batch-cn",
    "name": "Reference, batch",
    "name_zh": "参考模型 批量",
    "model": "reference-7b",
    "precisions": ["fp8", "bf16"],
    "service_class": "batch",
    "region": "cn",
    "max_context_tokens": 32768,
    "max_output_tokens": 8192,
    "tick": "0.0001",
    "min_order": 10000,
    "reference_price": "0.003",
}


@pytest.fixture
def operator():
    given_model()
    return given_api(given_organization("operator"))


def test_the_operator_publishes_a_grade_and_everybody_reads_it(operator, client):
    answer = operator.post("/v1/grades", TERMS)
    assert answer.status_code == 201, answer.content
    shown = answer.json()
    assert shown["precisions"] == ["bf16", "fp8"]
    assert (shown["tick"], shown["reference_price_per_million"]) == ("0.0001", "3000.00")
    assert shown["window_schedule"] == DEFAULT_SCHEDULE.to_json()

    listed = client.get("/v1/grades").json()["items"]
    assert [grade["slug"] for grade in listed] == ["reference-7b-batch-cn"]
    for name in (shown["slug"], shown["id"]):
        detail = client.get(f"/v1/grades/{name}").json()
        assert detail["id"] == shown["id"] and detail["windows_today"]
    assert client.get("/v1/grades/nothing").status_code == 404


def test_a_repeated_key_publishes_once(operator):
    first = operator.post("/v1/grades", TERMS, key="once")
    again = operator.post("/v1/grades", TERMS, key="once")
    assert again.json() == first.json() and again.headers["Idempotent-Replayed"] == "true"
    assert Grade.objects.count() == 1
    assert operator.post("/v1/grades", {**TERMS, "name": "B"}, key="once").json()["code"] == "idempotency-key-reused"


def test_the_same_terms_again_are_the_same_grade_and_others_are_refused(operator):
    first = operator.post("/v1/grades", TERMS).json()
    assert operator.post("/v1/grades", TERMS).json()["id"] == first["id"]
    other = operator.post("/v1/grades", {**TERMS, "take_or_pay_thousandths": 500})
    assert (other.status_code, other.json()["code"]) == (409, "grade-exists")
    assert other.json()["field"] == "take_or_pay_thousandths"


def test_a_stranger_publishes_nothing(client):
    given_model()
    assert client.post("/v1/grades", TERMS, content_type="application/json").status_code == 401
    for kind in ("buyer", "provider"):
        api = given_api(given_organization(kind))
        assert api.post("/v1/grades", TERMS).status_code == 403
        assert api.patch("/v1/grades/1", {"mode": "exchange"}).status_code == 403


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"model": "gpt-9"}, "model"),
        ({"precisions": ["bf17"]}, "precisions"),
        ({"region": "China"}, "region"),
        ({"max_output_tokens": 40_000}, "max_output_tokens"),
        ({"take_or_pay_thousandths": 1_001}, "take_or_pay_thousandths"),
        ({"tick": "0"}, "tick"),
        ({"tick": 0.1}, "tick"),
        ({"min_order": 1_500}, "min_order_tokens"),
        ({"reference_price": "0.00305"}, "reference_price"),
        ({"call_closes_before_seconds": 90_000}, "call_opens_before_seconds"),
        ({"window_schedule": {"every_minutes": 7, "kind": "short"}}, "window_schedule.every_minutes"),
        ({"service_class": "instant"}, "service_class"),
        ({"max_context_tokens": 10**20}, "max_context_tokens"),
    ],
)
def test_wrong_terms_are_named(operator, change, field):
    answer = operator.post("/v1/grades", {**TERMS, **change})
    assert answer.status_code == 400, answer.content
    assert answer.json()["field"] == field
    assert not Grade.objects.exists()


def test_how_a_grade_is_run_may_change(operator):
    grade = given_grade()
    changes = {"mode": "exchange", "window_schedule": {"every_minutes": 3, "kind": "short"}, "reference_price": None}
    answer = operator.patch(f"/v1/grades/{grade.pk}", changes)
    assert answer.status_code == 200, answer.content
    assert answer.json()["mode"] == "exchange"
    grade.refresh_from_db()
    assert (grade.reference_price_nano, len(grade.schedule().workday)) == (None, 480)
    assert operator.patch(f"/v1/grades/{grade.pk}", {"tick": "0.1"}).json()["field"] == "tick"
    assert queries.grades_to_schedule() == [grade]
    operator.patch(f"/v1/grades/{grade.pk}", {"status": "retired"})
    assert queries.grades_to_schedule() == []


def test_the_database_refuses_to_change_terms():
    grade = given_grade()
    with pytest.raises(IntegrityError, match="frozen"), transaction.atomic():
        Grade.objects.filter(pk=grade.pk).update(take_or_pay_thousandths=1)
    with pytest.raises(IntegrityError, match="frozen"), transaction.atomic():
        type(grade.model_card).objects.update(active_params=1)
    with transaction.atomic():
        change_grade(grade_id=grade.pk, changes={"name": "Another name"}, now=NOW)
