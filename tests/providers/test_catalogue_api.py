"""Accelerators and model cards over HTTP."""

import pytest
from django.core.management import call_command

from providers.models import Accelerator, ModelCard
from tests.given import given_accelerator, given_api, given_model, given_organization

pytestmark = pytest.mark.django_db

CHIP = {
    "slug": "new-chip",
    "vendor": "Maker",
    "name": "One",
    "memory_bytes": 64 * 2**30,
    "bandwidth_bytes_per_second": 1_600_000_000_000,
    "gflops": {"bf16": 400_000},
    "source": "datasheet of the maker",
    "as_of": "2026-06-01",
    "unverified": ["gflops"],
}
CARD = {
    "slug": "tiny",
    "name": "Tiny",
    "active_params": 1_000_000_000,
    "active_weight_bytes": 2_000_000_000,
    "attention": [{"layers": 16, "width": 2048, "kv_bytes": 2048}],
    "total_params": 1_000_000_000,
    "source": "config.json",
    "as_of": "2026-06-01",
}


@pytest.fixture
def operator():
    return given_api(given_organization("operator"))


def test_everybody_reads_the_catalogue_in_pages(client):
    call_command("load_catalogue", verbosity=0)
    first = client.get("/v1/accelerators?limit=20").json()
    rest = client.get(f"/v1/accelerators?limit=20&cursor={first['next_cursor']}").json()
    slugs = [row["slug"] for row in first["items"] + rest["items"]]
    assert len(slugs) == len(set(slugs)) == 27 and rest["next_cursor"] is None
    by_slug = {row["slug"]: row for row in first["items"] + rest["items"]}
    h100, h20 = by_slug["nvidia-h100-80gb-sxm"], by_slug["nvidia-h20-96gb"]
    assert (h100["work_units_per_byte"], h100["standard_work_units_per_byte"]) == ("118.1", "118.0")
    assert h20["work_units_per_byte"] == "14.8" and h20["unverified"]
    assert by_slug["alibaba-hanguang-800"]["bandwidth_bytes_per_second"] is None
    assert len(client.get("/v1/models").json()["items"]) == 15


def test_the_operator_enters_and_corrects_an_accelerator(operator):
    made = operator.post("/v1/accelerators", CHIP)
    assert made.status_code == 201 and made.json()["work_units_per_byte"] == "100.0"
    corrected = operator.post("/v1/accelerators", {**CHIP, "memory_bytes": None, "unverified": []})
    assert corrected.json()["id"] == made.json()["id"]
    assert Accelerator.objects.get().memory_bytes is None


def test_the_operator_publishes_a_card_once_and_for_all(operator):
    made = operator.post("/v1/models", CARD)
    assert made.status_code == 201, made.content
    assert made.json()["standard_version"] == "ST-2026.1"
    assert operator.post("/v1/models", CARD).json()["id"] == made.json()["id"]
    other = operator.post("/v1/models", {**CARD, "active_params": 999_000_000})
    assert (other.status_code, other.json()["code"]) == (409, "model-card-frozen")


def test_a_repeated_key_enters_once(operator):
    for path, body in (("/v1/accelerators", CHIP), ("/v1/models", CARD)):
        assert operator.post(path, body, key=path).json() == operator.post(path, body, key=path).json()
    assert (Accelerator.objects.count(), ModelCard.objects.count()) == (1, 1)


def test_strangers_enter_nothing(client):
    given_accelerator(), given_model()
    provider = given_api(given_organization("provider"))
    for path, body in (("/v1/accelerators", CHIP), ("/v1/models", CARD)):
        assert client.post(path, body, content_type="application/json").status_code == 401
        assert provider.post(path, body).json()["code"] == "scope-missing"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/accelerators", {**CHIP, "gflops": {}}, "gflops"),
        ("/v1/accelerators", {**CHIP, "gflops": {"bf15": 1}}, "gflops"),
        ("/v1/accelerators", {**CHIP, "gflops": {"bf16": -1}}, "gflops.bf16"),
        ("/v1/accelerators", {**CHIP, "memory_bytes": 0}, "memory_bytes"),
        ("/v1/accelerators", {**CHIP, "bandwidth_bytes_per_second": 2**63}, "bandwidth_bytes_per_second"),
        ("/v1/accelerators", {**CHIP, "unverified": ["price"]}, "unverified"),
        ("/v1/accelerators", {**CHIP, "slug": "Über"}, "slug"),
        ("/v1/accelerators", {**CHIP, "colour": "red"}, "colour"),
        ("/v1/models", {**CARD, "active_params": 0}, "active_params"),
        ("/v1/models", {**CARD, "active_params": 10**16}, "active_params"),
        ("/v1/models", {**CARD, "total_params": 5}, "total_params"),
        ("/v1/models", {**CARD, "attention": [{"layers": 1, "width": 1}]}, "attention.0.kv_bytes"),
        ("/v1/models", {**CARD, "attention": "all"}, "attention"),
    ],
)
def test_wrong_figures_are_named(operator, path, body, field):
    answer = operator.post(path, body)
    assert answer.status_code == 400, answer.content
    assert answer.json()["field"] == field
