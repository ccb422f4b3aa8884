"""The unmodified clients that people already run, against the running server."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest

from config.instance import ROOT, Instance
from tests.metering import documented

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("real_clients")]  # one instance for all of them

PREPARE = """
import django; django.setup()
from django.db import transaction
from metering_ingest.actions.meters import register_alias
from tests.given import given_deployment, given_organization
from tests.metering.given import NOW, given_meter, given_meter_key
with transaction.atomic():
    meter = given_meter(given_deployment())
    register_alias(provider=meter.organization, subject="cust-1", buyer=given_organization(), now=NOW)
print(given_meter_key(meter))
"""


class Server:
    """A web process with a meter's key."""

    def __init__(self, instance: Instance, secret: str) -> None:
        self.url, self.secret, self.database = instance.base_url, secret, instance.postgres.url()
        self.given = {"URL": self.url, "KEY": secret}

    def stored(self, id_: str) -> tuple[Any, ...] | None:
        with psycopg.connect(self.database) as connection:
            return connection.execute(
                "SELECT input_tokens, cached_tokens, output_tokens, reasoning_tokens FROM usage_event"
                " WHERE id = %s OR id LIKE %s", [id_, f"{id_}:%"],
            ).fetchone()  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    instance = Instance(
        var=tmp_path_factory.mktemp("clients"), matching_workers=0, workers=0, beat=False,
        settings={"CIYUAN_MATCHING_WORKERS": "1"},
    )  # fmt: skip
    try:
        instance.start(wait=False)
        made = subprocess.run(
            [sys.executable, "-c", PREPARE], cwd=ROOT, env=instance.environment(), capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        for _ in range(300):
            try:
                httpx.get(f"{instance.base_url}/healthz", timeout=5)
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield Server(instance, made.stdout.split()[-1])
    finally:
        instance.stop()
        instance.remove()


def test_openmeter(server: Server) -> None:
    openmeter = pytest.importorskip("openmeter")
    client = eval(documented.span("openmeter.Client"), {"openmeter": openmeter, **server.given})
    event = {
        "specversion": "1.0", "type": "tokens", "id": "om-1", "source": "app", "subject": "cust-1",
        "time": datetime.now(UTC).isoformat(),
        "data": {"model": "m", "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }  # fmt: skip
    client.events.ingest_event(event)
    client.events.ingest_events([event, event | {"id": "om-2"}])
    assert server.stored("om-1") == server.stored("om-2") == (11, 0, 7, 0)


def test_lago(server: Server) -> None:
    lago_python_client = pytest.importorskip("lago_python_client")
    from lago_python_client.models import BatchEvent, Event

    given = {"lago_python_client": lago_python_client, **server.given}
    client = eval(documented.span("lago_python_client.Client"), given)
    properties = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    now = str(int(datetime.now(UTC).timestamp()))
    event = Event(transaction_id="lago-1", external_subscription_id="cust-1", code="tokens", timestamp=now,
                  properties=properties)  # fmt: skip
    answered = client.events.create(event)
    assert answered is not None and answered.transaction_id == "lago-1"
    second = Event(transaction_id="lago-2", external_subscription_id="cust-1", code="tokens", timestamp=now,
                   properties=properties)  # fmt: skip
    client.events.batch_create(BatchEvent(events=[event, second]))
    assert server.stored("lago-1") == server.stored("lago-2") == (11, 0, 7, 0)


def test_opentelemetry(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    lines = documented.block(documented.section("OpenTelemetry"), "OTEL_")
    for name, value in documented.variables(lines, url=server.url, key=server.secret).items():
        monkeypatch.setenv(name, value.replace(" ", "%20"))
    exporter = OTLPSpanExporter(compression=Compression.Gzip)
    provider = TracerProvider(resource=Resource.create({"service.name": "chat-app"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("t").start_as_current_span("chat m") as span:
        span.set_attributes({
            "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.cache_read.input_tokens": 60, "ciyuan.subject": "cust-1",
        })  # fmt: skip
        trace = f"{span.get_span_context().trace_id:032x}"
    assert server.stored(trace) == (40, 60, 20, 0)


def test_opentelemetry_metrics(server: Server) -> None:
    """Metrics come added up, without the requests that work is counted by: taken without an error, and told why not."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader

    answers = []

    class Told(OTLPMetricExporter):
        def export(self, *arguments: Any, **options: Any) -> MetricExportResult:
            answers.append(super().export(*arguments, **options))
            return answers[-1]

    exporter = Told(endpoint=f"{server.url}/v1/metrics", headers={"Authorization": f"Bearer {server.secret}"})
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=60_000)
    provider = MeterProvider(metric_readers=[reader])
    tokens = provider.get_meter("t").create_histogram("gen_ai.client.token.usage", unit="{token}")
    tokens.record(100, {"gen_ai.token.type": "input", "gen_ai.request.model": "m"})
    provider.force_flush()
    provider.shutdown()
    assert answers and set(answers) == {MetricExportResult.SUCCESS}


LITELLM = """
import asyncio, json, litellm
from litellm.integrations.generic_api.generic_api_callback import GenericAPILogger

async def main():
    litellm.callbacks = [GenericAPILogger()]
    for _ in range(3):
        answer = await litellm.acompletion(
            model="openai/gpt-4o-mini", messages=[{"role": "user", "content": "a prompt that nobody reads"}],
            mock_response="an answer that nobody reads", user="cust-1", api_key="none")
        usage = answer.usage
        print(json.dumps([answer.id, usage.prompt_tokens, usage.completion_tokens]), flush=True)
    await asyncio.sleep(4)

asyncio.run(main())
"""


@pytest.mark.litellm
def test_litellm(server: Server) -> None:
    """Its own logger, as `GENERIC_LOGGER_ENDPOINT` sets it up; the model's answer is the only thing made up."""
    from config.environments import litellm_python

    environment = {
        **os.environ, "DEFAULT_FLUSH_INTERVAL_SECONDS": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        **documented.variables(documented.span("GENERIC_LOGGER_ENDPOINT"), url=server.url, key=server.secret),
        **documented.variables(documented.span("GENERIC_LOGGER_HEADERS"), url=server.url, key=server.secret),
    }  # fmt: skip
    ran = subprocess.run(
        [litellm_python(), "-c", LITELLM], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    calls = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("[")]
    assert len(calls) == 3, ran.stderr
    for id_, prompt, completion in calls:
        assert server.stored(id_) == (prompt, 0, completion, 0)
    with psycopg.connect(server.database) as connection:
        kept = connection.execute("SELECT count(*) FROM usage_event e WHERE e::text LIKE '%nobody reads%'").fetchone()
    assert kept == (0,), "a prompt or an answer was stored"
