"""Clients that nobody here wrote, unmodified, with the gateway as their upstream; what they count, the meters count."""

import asyncio
import json
import os
import subprocess

import pytest

from tests.gateway.given import MODEL, PROMPT, given_gateway

pytestmark = [pytest.mark.litellm, pytest.mark.processes]

LITELLM = """
import asyncio, json, sys, litellm

url, model, prompt = sys.argv[1:]
ask = {"model": f"openai/{model}", "api_base": url, "api_key": "anything",
       "messages": [{"role": "user", "content": prompt}]}

def told(usage, **more):
    print(json.dumps({"input": usage.prompt_tokens, "output": usage.completion_tokens, **more}), flush=True)

async def main():
    answer = await litellm.acompletion(**ask, max_tokens=9)
    told(answer.usage, text=len(answer.choices[0].message.content))
    chunks = [c async for c in await litellm.acompletion(**ask, stream=True, stream_options={"include_usage": True})]
    told(chunks[-1].usage, chunks=len(chunks))
    answer = await litellm.acompletion(**ask, stop=["nothing"], user="u-1", temperature=0)
    told(answer.usage)
    try:
        await litellm.acompletion(**{**ask, "model": "openai/nobody-has-this"}, num_retries=0)
    except litellm.NotFoundError as error:
        print(json.dumps({"refused": error.status_code}), flush=True)

asyncio.run(main())
"""

OTEL = """
import json, sys, openai
from opentelemetry import trace
from opentelemetry.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

url, model, prompt = sys.argv[1:]
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
OpenAIInstrumentor().instrument(tracer_provider=provider)
client = openai.OpenAI(base_url=url, api_key="anything", max_retries=0)
ask = {"model": model, "messages": [{"role": "user", "content": prompt}]}
client.chat.completions.create(**ask, max_tokens=9)
for _ in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
    pass
try:
    client.chat.completions.create(**{**ask, "model": "nobody-has-this"})
except openai.NotFoundError as error:
    pass
for span in spans.get_finished_spans():
    a = span.attributes
    print(json.dumps({
        "input": a.get("gen_ai.usage.input_tokens", a.get("gen_ai.usage.prompt_tokens")),
        "output": a.get("gen_ai.usage.output_tokens", a.get("gen_ai.usage.completion_tokens")),
        "model": a.get("gen_ai.response.model"), "ok": span.status.is_ok or span.status.is_unset,
    }))
"""


async def ran(python, program, url):
    """The lines of JSON that a client's program prints."""
    environment = {
        **os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "TRACELOOP_TRACE_CONTENT": "false",
        "OTEL_SDK_DISABLED": "false",
    }  # fmt: skip
    done = await asyncio.to_thread(
        subprocess.run, [python, "-c", program, f"{url}/v1", MODEL, PROMPT], env=environment, capture_output=True,
        text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def counted(events):
    return sorted((event["data"]["input_tokens"], event["data"]["output_tokens"]) for event in events)


async def test_litellm_has_the_gateway_as_its_upstream(tmp_path):
    from config.environments import litellm_python

    python = await asyncio.to_thread(litellm_python)
    async with given_gateway(tmp_path) as world:
        *answers, refused = await ran(python, LITELLM, world.running.url)
        assert refused == {"refused": 404}
        assert len(answers) == 3 and answers[0]["output"] == 9 and answers[1]["chunks"] > 5
        mine, theirs = await world.events(3), await world.events(3, "guard-1")
    assert counted(mine) == counted(theirs) == sorted((one["input"], one["output"]) for one in answers)


async def test_opentelemetry_sees_the_gateways_answers_as_it_sees_openais(tmp_path):
    from config.environments import otel_python

    python = await asyncio.to_thread(otel_python)
    async with given_gateway(tmp_path) as world:
        *answers, refused = await ran(python, OTEL, world.running.url)
        assert not refused["ok"] and [one["ok"] for one in answers] == [True, True]
        assert {one["model"] for one in answers} == {MODEL}
        mine, theirs = await world.events(2), await world.events(2, "guard-1")
    assert counted(mine) == counted(theirs) == sorted((one["input"], one["output"]) for one in answers)
