"""What no chip could have produced, and promises beyond hardware."""

from datetime import timedelta

import pytest
from ciyuan.standard_token import REFERENCE_7B
from hypothesis import given
from hypothesis import strategies as st

from core import clock
from metering_ingest import tasks
from metering_ingest.domain.plausibility import Reported, floor
from metering_ingest.models import ImplausibleHour
from providers.domain.roofline import Hardware, roofline
from providers.models import Deployment
from tests.given import NOW, Api, given_api, given_organization
from tests.metering.test_settlement import Delivery, mine

H100 = Hardware({"bf16": 989_000}, 80 * 2**30, 3_350 * 10**9)


def least(bands, hardware=H100, count=1):
    return floor(bands, card=REFERENCE_7B, total_params=7_000_000_000, hardware=hardware, count=count, precision="bf16")


def test_input_takes_its_arithmetic():
    """By hand: 2 × 7 × 10⁹ FLOP × 10⁹ tokens ÷ 989 × 10¹² FLOP/s = 14,155.7 s."""
    found = least({0: Reported(10**9, 0)})
    assert (found.bound, int(found.seconds)) == ("compute", 14_155)


def test_output_at_long_context_takes_its_keys_and_values():
    """By hand: over 131,072 positions × 131,072 bytes are 17.2 GB for each token: 5.13 ms at 3.35 TB/s."""
    found = least({3: Reported(0, 1_000_000)})
    assert found.bound == "memory"
    assert 5_128 < found.seconds < 7_000
    assert least({0: Reported(0, 1_000_000)}).seconds < 60, "short contexts move next to nothing"


def test_what_is_not_published_accuses_nobody():
    assert least({0: Reported(10**12, 10**12)}, Hardware({"int8": 1_000}, None, None)).seconds == 0


@given(st.integers(0, 3), st.integers(1, 10**7))
def test_the_floor_never_accuses_what_the_roofline_allows(band, seconds):
    """An hour at the roofline's own output rate, at context 2,048, takes at least as long as the floor says."""
    allowed = roofline(REFERENCE_7B, total_params=7_000_000_000, hardware=H100, count=1, precision="bf16")
    output = allowed.output_tokens_per_minute * seconds // 60
    assert least({0: Reported(0, output)}).seconds <= seconds
    assert least({band: Reported(0, 5)}, count=2).seconds <= least({band: Reported(0, 5)}).seconds


@pytest.mark.django_db
def test_an_impossible_hour_is_flagged_shown_and_unflagged(monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)
    delivery = Delivery()
    delivery.report(mine("fair", input_tokens=1_000_000, cached_input_tokens=0))
    assert tasks.flag_implausible() == 0
    before = mine("f", input_tokens=900_000_000, cached_input_tokens=0)["time"]
    delivery.report(mine("f", input_tokens=900_000_000, cached_input_tokens=0))
    assert tasks.flag_implausible() == tasks.flag_implausible() == 1
    row = ImplausibleHour.objects.get()
    assert (row.bound, row.hour, row.input_tokens) == ("compute", NOW - timedelta(hours=1), 901_000_000)
    assert 12_000 < row.floor_seconds < 13_000
    shown = given_api(delivery.provider).get("/v1/plausibility").json()
    assert [h["deployment"] for h in shown["hours"]] == [delivery.deployment.pk]
    operator = given_api(given_organization("operator"))
    assert len(operator.get("/v1/plausibility").json()["hours"]) == 1
    assert given_api(given_organization("provider")).get("/v1/plausibility").json() == {"hours": [], "promises": []}
    delivery.report(
        mine("v") | {"type": "ciyuan.usage.void", "data": {"refers_to": {"id": "f", "source": "gw", "time": before}}}
    )
    assert tasks.flag_implausible() == 0 and not ImplausibleHour.objects.exists()


@pytest.mark.django_db
def test_a_seller_that_promises_more_than_its_hardware_can_do_is_named():
    delivery = Delivery()
    bound = delivery.deployment.roofline().tokens_per_minute
    Deployment.objects.update(rated_tokens_per_minute=bound + 1)
    promises = given_api(delivery.provider).get("/v1/plausibility").json()["promises"]
    assert [(p["promised_tokens_per_minute"], p["roofline_tokens_per_minute"]) for p in promises] == [
        (bound + 1, bound)
    ]  # fmt: skip


@pytest.mark.django_db
def test_everybody_sees_each_accelerators_own_ratio_beside_the_standards(client):
    Delivery()
    shown = Api().get("/v1/accelerators/h100").json()
    assert (shown["work_units_per_byte"], shown["standard_work_units_per_byte"]) == ("118.1", "118.0")
    assert Api().get("/v1/accelerators/h101").status_code == 404
    page = client.get("/accelerators/h100").content.decode()
    assert "118.1" in page and ">118<" in page
    assert "/accelerators/h100" in client.get("/accelerators").content.decode()
    assert client.get("/accelerators/h101").status_code == 404
    units = Api().get("/v1/foreign-units").json()
    assert units["version"] == "FU-2026.1" and all(entry["derivation"] for entry in units["units"])
