"""`ciyuan quote`: what a request or a workload would cost."""

from __future__ import annotations

import click

from ciyuan.cli.base import cli, fail, json_option, open_client, print_json, print_table


@cli.command("quote")
@click.option("--grade", metavar="SLUG", help="The grade; or name a model.")
@click.option("--model", metavar="NAME", help="A model that one grade serves.")
@click.option("--class", "service_class", type=click.Choice(["realtime", "batch"]), help="With --model.")
@click.option("--input", "input_tokens", type=int, required=True, help="Input tokens of one request.")
@click.option("--cached", "cached_tokens", type=int, default=0, show_default=True, help="Of them, from a cache.")
@click.option("--output", "output_tokens", type=int, required=True, help="Output tokens of one request.")
@click.option("--requests", type=int, default=1, show_default=True, help="How many such requests.")
@click.option("--window", nargs=2, metavar="START END", help="When it is to run; now by default.")
@json_option
def quote(
    grade: str | None,
    model: str | None,
    service_class: str | None,
    input_tokens: int,
    cached_tokens: int,
    output_tokens: int,
    requests: int,
    window: tuple[str, str] | None,
    as_json: bool,
) -> None:
    """Say what requests cost: at list, at the book now, in the next off-peak auction."""
    if (grade is None) == (model is None):
        fail("give either --grade SLUG or --model NAME")
    found = open_client().quotes.get(
        grade=grade,
        model=model,
        service_class=service_class,
        input_tokens=input_tokens,
        cached_tokens=cached_tokens,
        output_tokens=output_tokens,
        requests=requests,
        window=window,
    )
    if as_json:
        print_json(found.raw)
        return
    click.echo(f"{found.requests:,} requests to {found.grade} are {found.standard_tokens:,} standard tokens")
    rows = []
    for name, price in (("list", found.list), ("book now", found.book), ("next auction", found.off_peak)):
        cells = ("no such price now", "", "", "") if price is None else (
            f"¥{price.amount:,}", f"¥{price.raw['price_per_million']}", price.basis, price.calculation)  # fmt: skip
        rows.append((name, *cells))
    print_table(("price", "amount", "per million", "basis", "calculation"), rows, right=("amount", "per million"))
    for sentence in found.raw["needs_confirmation"]:
        click.echo(sentence, err=True)
