"""`ciyuan gateway`: one OpenAI-compatible address for all that one bought."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from ciyuan.cli.base import DECIMAL, cli, fail
from ciyuan.cli.serving import ADDRESS, run_until_told


@cli.command("gateway")
@click.option(
    "--folder", required=True, type=click.Path(path_type=Path), help="Where usage waits; of this gateway alone."
)
@click.option("--source", default="gateway-1", show_default=True, metavar="NAME", help="The name of its meter's log.")
@click.option("--listen", type=ADDRESS, default="127.0.0.1:8090", show_default=True, help="For its callers.")
@click.option("--callers", type=click.Path(path_type=Path), metavar="FILE", help="Who may call (docs/DELIVERY.md).")
@click.option(
    "--signing-key", type=click.Path(path_type=Path), metavar="FILE",
    help="The meter's Ed25519 key (hex): signs what is reported of providers' service.",
)  # fmt: skip
@click.option("--overage", type=DECIMAL, metavar="YUAN", help="Most to spend beyond contracts; else what is allowed.")
@click.option("--no-caps", is_flag=True, help="Do not ask the exchange's budgets before each call.")
@click.option(
    "--without-exchange", type=click.Choice(["serve", "refuse"]), default="serve", show_default=True,
    help="What to do when budgets cannot be asked.",
)  # fmt: skip
@click.option("--first-token-timeout", default=30.0, show_default=True, help="Seconds until another provider is asked.")
@click.option("--most-wait", default=10.0, show_default=True, help="Seconds that a call waits for rate.")
@click.pass_context
def gateway(
    ctx: click.Context, /, listen: tuple[str, int], overage: Decimal | None, no_caps: bool, **options: Any
) -> None:  # fmt: skip
    """
    Serve OpenAI's API from one's contracts: http://127.0.0.1:8090/v1.

    CIYUAN_API_KEY holds a key that may trade and read, CIYUAN_METER_KEY that of a meter with role buyer; without the
    latter nothing is reported.
    """
    try:
        from ciyuan.gateway.serving import serving
        from ciyuan.gateway.settings import GatewaySettings
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed; pip install 'ciyuan[gateway]'")
    host, port = listen
    if options["callers"] is None and host not in ("127.0.0.1", "localhost", "::1"):
        raise click.UsageError("beyond this machine, --callers says who may call")
    settings = GatewaySettings(
        url=ctx.obj["url"], api_key=os.environ.get("CIYUAN_API_KEY"), meter_key=os.environ.get("CIYUAN_METER_KEY"),
        host=host, port=port, overage_yuan=overage, ask_caps=not no_caps, **options,
    )  # fmt: skip
    run_until_told(
        serving(settings), lambda gateway: f"gateway at {gateway.url}/v1, its state at {gateway.url}/healthz"
    )
