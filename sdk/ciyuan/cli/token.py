"""`ciyuan token …`: what a request is in standard tokens, and what a model's card is derived from."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ciyuan.cli.base import Group, cli, fail, print_json, print_table
from ciyuan.explain import explain, format_st
from ciyuan.model_cards import UnknownArchitecture, derive
from ciyuan.named_cards import UnknownModel, card_names, named_card, named_derivation
from ciyuan.standard_token import REFERENCE_7B, ModelCard, StandardTokenError, work


@cli.group("token", cls=Group)
def token() -> None:
    """The standard token: explain a sum, list model cards, derive one from a config.json."""


@token.command("explain")
@click.option("--model", metavar="NAME", help="A card by name (see `ciyuan token cards`).")
@click.option("--card", "card_file", metavar="FILE.json", type=click.Path(path_type=Path), help="A card in a file.")
@click.option("--input", "input_tokens", type=int, default=0, show_default=True, help="All input tokens.")
@click.option("--cached", "cached_tokens", type=int, default=0, show_default=True, help="Of them, read from a cache.")
@click.option(
    "--cached-share", type=int, default=100, show_default=True, help="What a cached token costs, in thousandths."
)
@click.option("--output", "output_tokens", type=int, default=0, show_default=True, help="Visible and reasoning tokens.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain_command(
    model: str | None,
    card_file: Path | None,
    input_tokens: int,
    cached_tokens: int,
    cached_share: int,
    output_tokens: int,
    as_json: bool,
) -> None:
    """Show a request's standard tokens as a sum, line by line."""
    if (model is None) == (card_file is None):
        fail("give either --model NAME or --card FILE.json")
    card = _named(model) if model is not None else _from_file(card_file or Path())
    try:
        explanation = explain(card, input_tokens, cached_tokens, output_tokens, cached_share)
    except StandardTokenError as error:
        options = {
            "input_tokens": "--input",
            "cached_input_tokens": "--cached",
            "output_tokens": "--output",
            "cached_share_thousandths": "--cached-share",
        }
        fail(f"{options.get(error.field, error.field)}: {error.detail}")
    if as_json:
        print_json(explanation.to_dict())
    else:
        click.echo(explanation.to_text())


@token.command("cards")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cards_command(as_json: bool) -> None:
    """List the cards that are known by name."""
    cards = [named_card(name) for name in card_names()]
    if as_json:
        print_json([card.to_dict() for card in cards])
        return
    print_table(
        ("name", "active parameters", "active bytes", "attention layers", "ST per output token at 2,048"),
        [
            (
                card.name,
                f"{card.active_params:,}",
                f"{card.active_weight_bytes:,}",
                " + ".join(f"{g.layers}" + (f" (last {g.span:,})" if g.span else "") for g in card.attention),
                format_st(work(card, 2_047, 0, 1).output_micro_st),
            )
            for card in cards
        ],
        right=("active parameters", "active bytes", "ST per output token at 2,048"),
    )


@token.command("card")
@click.option("--model", metavar="NAME", help="A card by name.")
@click.option(
    "--config", "config_file", metavar="config.json", type=click.Path(path_type=Path), help="A published config."
)
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON, as --card of `explain` reads it.")
def card_command(model: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show how a card follows from a model's published config.json, weight by weight."""
    if (model is None) == (config_file is None):
        fail("give either --model NAME or --config config.json")
    if model is not None and _named(model) is REFERENCE_7B:
        fail("reference-7b is defined by ST-2026.1 itself and has no config.json; `ciyuan token explain` shows it")
    try:
        config = {} if config_file is None else _read_json(config_file)
        if not isinstance(config, dict):
            fail(f"{config_file}: a config.json is an object")
        derivation = named_derivation(model) if model is not None else derive(config, name=str(config_file))
    except (UnknownArchitecture, StandardTokenError) as error:
        fail(f"{config_file}: {error.field}: {error.detail}")
    if as_json:
        print_json(derivation.card.to_dict())
    else:
        click.echo(derivation.to_text())


def _named(name: str) -> ModelCard:
    try:
        return named_card(name)
    except UnknownModel as error:
        fail(str(error))


def _from_file(path: Path) -> ModelCard:
    try:
        return ModelCard.from_dict(_read_json(path), name=path.stem)
    except StandardTokenError as error:
        fail(f"{path}: {error.detail}")


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"{path}: {(error.strerror or str(error)).lower()}")
    except UnicodeDecodeError:
        fail(f"{path}: not UTF-8 text")
    except json.JSONDecodeError as error:
        fail(f"{path}: line {error.lineno}, column {error.colno}: {error.msg}")
