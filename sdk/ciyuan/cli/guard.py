"""`ciyuan guard`: the provider's reverse proxy in front of its engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ciyuan.cli.base import cli, fail
from ciyuan.cli.serving import ADDRESS, run_until_told


@cli.command("guard")
@click.option("--engine", required=True, metavar="URL", help="The engine, such as http://127.0.0.1:8000/v1.")
@click.option("--deployment", required=True, type=int, metavar="ID", help="The deployment that it serves.")
@click.option("--grade", required=True, metavar="SLUG", help="The deployment's grade.")
@click.option(
    "--folder", required=True, type=click.Path(path_type=Path), help="Where usage waits; of this guard alone."
)
@click.option("--source", metavar="NAME", help="The meter's log; guard-<deployment> by default.")
@click.option("--listen", type=ADDRESS, default="0.0.0.0:8080", show_default=True, help="For buyers.")
@click.option("--status", type=ADDRESS, default="127.0.0.1:9464", show_default=True, help="/metrics, /healthz.")
@click.option("--engine-model", metavar="NAME", help="The engine's name for the model; the exchange's by default.")
@click.option("--signing-key", type=click.Path(path_type=Path), metavar="FILE", help="The meter's Ed25519 key (hex).")
@click.option("--tolerance", default=60, show_default=True, help="Seconds that clocks may be apart.")
@click.option("--overrun", default=60, show_default=True, help="Seconds that an answer may outlast its window.")
@click.option("--beyond-quantity", is_flag=True, help="Serve on when the contract is used up: overage at list price.")
@click.option("--tokenizer", metavar="NAME", help="Counts where the engine reports nothing (ciyuan[tokenizers]).")
@click.option("--no-continuous", is_flag=True, help="Do not ask the engine for its count with each chunk.")
@click.option("--llama-cpp", is_flag=True, help="The engine is llama.cpp's server: take its count from its timings.")
@click.option("--most-streams", default=4096, show_default=True, help="Requests at once.")
@click.pass_context
def guard(
    ctx: click.Context, /, listen: tuple[str, int], status: tuple[str, int], source: str | None, tolerance: int,
    overrun: int, no_continuous: bool,
    **options: Any,
) -> None:  # fmt: skip
    """
    Let contracts' buyers in to an engine, and meter what they get.

    The meter's key is read from CIYUAN_API_KEY, the engine's from CIYUAN_ENGINE_KEY.
    """
    try:
        from ciyuan.guard.serving import serving
        from ciyuan.guard.settings import GuardSettings
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed; pip install 'ciyuan[guard]'")
    settings = GuardSettings(
        url=ctx.obj["url"], meter_key=None, engine_key=os.environ.get("CIYUAN_ENGINE_KEY"),
        source=source or f"guard-{options['deployment']}", host=listen[0], port=listen[1], status_host=status[0],
        status_port=status[1], tolerance_seconds=tolerance, overrun_seconds=overrun, continuous=not no_continuous,
        **options,
    )  # fmt: skip
    run_until_told(
        serving(settings),
        lambda guard: f"guard of deployment {settings.deployment} at {guard.url}, figures at {guard.status_url}",
    )
