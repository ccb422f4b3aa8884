"""The native way, each line as docs/METERING.md tells it. The other protocols' lines are run in test_real_clients."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ciyuan
import httpx
import pytest
from django.db import transaction

from core import clock
from identity.auth import forget_cached_keys
from metering_ingest.actions import attribution, partitions
from metering_ingest.models import UsageEvent
from tests.given import NOW, given_api, given_deployment, given_organization
from tests.metering import documented
from tests.metering.given import Door
from tests.metering.test_manifests import InProcess

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A meter's key, got by the documented requests; only the ids are this database's."""
    monkeypatch.setattr(clock, "now", lambda: NOW)
    forget_cached_keys()
    attribution.forget_cached_routes()
    partitions.forget_known_days()
    with transaction.atomic():
        deployment, buyer = given_deployment(), given_organization()
        owner = given_api(deployment.provider)
    secret = ""
    for path, body in documented.requests(documented.block(documented.TEXT, "curl $URL/v1/meters")):
        ids = {"deployment": deployment.pk, "buyer": buyer.pk}
        answer = owner.post(path, {name: ids.get(name, value) for name, value in body.items()})
        assert answer.status_code == 201, (path, answer.content)
        secret = answer.json().get("secret") or answer.json().get("key") or secret
    yield secret


def test_an_event_of_ours(key: str) -> None:
    event = documented.json_after(documented.section("Ours"), "POST /v1/events")
    answer = Door(key).post(event | {"time": NOW.isoformat()})
    assert answer.json()["results"] == [{"id": event["id"], "status": "accepted"}]
    row = UsageEvent.objects.get()
    assert (row.input_tokens, row.cached_tokens, row.output_tokens) == (712, 4096, 10)


def test_the_sdk(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ciyuan.Meter

    def in_process(**given: Any) -> ciyuan.Meter:
        http = httpx.Client(
            transport=InProcess(key), base_url=given["url"], headers={"Authorization": f"Bearer {given['api_key']}"}
        )
        return made(**given, http=http, background=False, now=lambda: NOW)

    monkeypatch.setattr(ciyuan, "Meter", in_process)
    monkeypatch.chdir(tmp_path)
    exec(documented.block(documented.section("The SDK"), "from ciyuan"), {"URL": "http://localhost", "KEY": key})
    with ciyuan.Meter(url="http://localhost", api_key=key, source="gw-1", spool="spool") as meter:
        meter.flush()
    row = UsageEvent.objects.get()
    assert (row.source, row.input_tokens, row.cached_tokens, row.output_tokens) == ("gw-1", 712, 4096, 10)
