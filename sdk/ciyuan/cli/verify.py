"""`ciyuan verify auction ID`: is the published price what the published book gives?"""

from __future__ import annotations

import click

from ciyuan.cli.base import Group, cli, fail, json_option, open_client, print_json
from ciyuan.verify import check, check_call


@cli.group("verify", cls=Group)
def verify() -> None:
    """Recompute what the exchange has published."""


@verify.command("auction")
@click.argument("auction_id", type=int, metavar="AUCTION")
@click.option("--seed-hash", help="The hash of the call's seed that you saw while the call was open.")
@json_option
def verify_auction(auction_id: int, seed_hash: str | None, as_json: bool) -> None:
    """
    Recompute an auction from its published, anonymised book, and the end of its call from the seed, with code of our
    own. Exit code 1 if either differs.
    """
    client = open_client()
    auction, book = client.auctions.get(auction_id), client.auctions.book(auction_id)
    try:
        verdict = check(auction.raw, book.raw)
        differences = verdict.differences
        if seed_hash is not None:
            differences += check_call({**auction.raw["call"], "seed_hash": None}, seen_hash=seed_hash)
    except (KeyError, TypeError, ValueError) as error:
        fail(f"auction {auction_id}: the published book cannot be read: {error!r}")
    price = None if verdict.price is None else format(verdict.price, "f")
    if as_json:
        print_json(
            {
                "auction": auction_id,
                "price": price,
                "volume": verdict.volume_tokens,
                "surplus": verdict.surplus_tokens,
                "rule": verdict.result.rule,
                "steps": verdict.result.steps,
                "differences": differences,
            }
        )
    else:
        for step in verdict.result.steps:
            click.echo(step)
    if differences:
        fail(f"auction {auction_id}: {'; '.join(differences)}")
    if not as_json:
        at = "no price" if price is None else f"¥{price} a token, {verdict.volume_tokens:,} tokens"
        click.echo(f"auction {auction_id}: {at}, rule {verdict.result.rule}: the published book gives the same")
