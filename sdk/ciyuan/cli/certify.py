"""`ciyuan certify`: measure a deployment by the reference workload, and have it certified."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import Any

import click

from ciyuan.certify import Endpoint, measure
from ciyuan.cli.base import cli, json_option, open_client, print_json
from ciyuan.reference_workload import VERSION, reference_workload


@cli.command("certify")
@click.argument("deployment", type=int)
@click.option("--endpoint", metavar="URL", help="Another address of it than the registered one.")
@click.option("--model", metavar="NAME", help="The endpoint's name for the model; the exchange's by default.")
@click.option(
    "--times", type=click.IntRange(1, 64), default=1, show_default=True, help="As many requests, for large ones."
)
@click.option("--no-ignore-eos", is_flag=True, help="For endpoints that refuse a parameter they do not know.")
@click.option("--dry-run", is_flag=True, help="Measure and print the report; send nothing.")
@json_option
def certify(
    deployment: int, endpoint: str | None, model: str | None, times: int, no_ignore_eos: bool, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """
    Run the reference workload (short, long, cached, batch) on DEPLOYMENT through its endpoint.

    Its certificate lasts 30 days; 90% of the certified rate may be published. CIYUAN_ENDPOINT_KEY holds the endpoint's
    key or access token. Serve nothing else meanwhile: what others take is missing in the certificate.
    """
    client = open_client()
    mine = client.deployments.get(deployment)
    grade = client.grades.get(mine.grade_slug)
    parts = reference_workload(
        max_context_tokens=grade.raw["max_context_tokens"], max_output_tokens=grade.raw["max_output_tokens"],
        times=times,
    )  # fmt: skip
    where = Endpoint(
        endpoint or mine.endpoint, model or grade.model, key=os.environ.get("CIYUAN_ENDPOINT_KEY"),
        ignore_eos=not no_ignore_eos,
    )  # fmt: skip
    runs = asyncio.run(measure(where, parts, tell=lambda line: click.echo(line, err=True)))
    report: dict[str, Any] = {
        "deployment": deployment, "workload": VERSION, "model": grade.model, "engine": mine.engine,
        "precision": mine.precision, "accelerator": mine.accelerator, "accelerator_count": mine.accelerator_count,
        "measured_at": datetime.now(UTC).isoformat(), "runs": runs,
    }  # fmt: skip
    if dry_run:
        print_json(report)
        return
    done = client.certificates.record(**report)
    if as_json:
        print_json(done.raw)
        return
    spread = f"{done.accelerator_ns_per_st_low / 1e3:,.1f}–{done.accelerator_ns_per_st_high / 1e3:,.1f}"
    click.echo(f"deployment {deployment} is certified until {done.valid_until:%Y-%m-%d}")
    click.echo(f"  {done.tokens_per_minute:,} standard tokens a minute; capacity may promise"
               f" {done.limit_tokens_per_minute:,}")  # fmt: skip
    click.echo(f"  {done.input_tokens_per_minute:,} input and {done.output_tokens_per_minute:,} output tokens a minute")
    click.echo(f"  first token {done.ttft_p50_ms:,} ms (p95 {done.ttft_p95_ms:,}), then"
               f" {done.token_p50_us / 1e3:,.1f} ms a token (p95 {done.token_p95_us / 1e3:,.1f})")  # fmt: skip
    click.echo(f"  {done.accelerator_ns_per_st / 1e3:,.1f} µs of an accelerator a standard token ({spread})")
