"""`ciyuan token …`: what a request is in standard tokens, and what a model's card is derived from."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from pathlib import Path

import click

from ciyuan.canonical import TokenizerMissing, canonical
from ciyuan.cli.base import Group, cli, fail, print_json, print_table
from ciyuan.explain import explain, format_st
from ciyuan.foreign_units import SAMPLE_TOKENS, SAMPLES, TABLE_VERSION, UnknownUnit, price_sides, table, unit
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


@token.command("units")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def units_command(as_json: bool) -> None:
    """List other vendors' units in standard tokens, each with its derivation."""
    units = table()
    if as_json:
        print_json({"version": TABLE_VERSION, "units": [entry.to_dict() for entry in units]})
        return
    print_table(
        ("unit", "standard tokens", "derivation"),
        [(entry.name, format_st(entry.to_micro_st(1)), entry.derivation) for entry in units],
        right=("standard tokens",),
    )


@token.command("convert")
@click.argument("quantity", type=click.IntRange(0))
@click.argument("name", metavar="UNIT")
@click.option("--price", metavar="YUAN", help="¥ for one of the unit; shown per standard token too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def convert_command(quantity: int, name: str, price: str | None, as_json: bool) -> None:
    """Convert so many of a foreign unit into standard tokens, with the derivation."""
    try:
        entry = unit(name)
    except UnknownUnit as error:
        fail(str(error))
    result: dict[str, object] = {
        **entry.to_dict(),
        "quantity": quantity,
        "result_micro_st": entry.to_micro_st(quantity),
    }
    if price is not None:
        try:
            nano = int(Decimal(price).scaleb(9))
        except InvalidOperation:
            fail("--price is ¥ as a decimal, such as 0.0000021")
        result["price_per_st"] = format(Decimal(entry.price_nano_per_st(nano)).scaleb(-9), "f")
    if as_json:
        print_json(result)
        return
    click.echo(f"{quantity:,} × {entry.title} = {format_st(entry.to_micro_st(quantity))} ST ({TABLE_VERSION})")
    click.echo(f"  {entry.derivation}")
    if price is not None:
        click.echo(f"  ¥{price} each is ¥{result['price_per_st']} per ST")


@token.command("compare")
@click.option("--price-per-million", required=True, metavar="YUAN", help="¥ for a million tokens of that tokenizer.")
@click.option("--file", "file", type=click.Path(path_type=Path), help="A text; the published samples without.")
@click.option("--tokens", type=click.IntRange(1), help="Tokens of the file; counted where the tokenizer is installed.")
@click.option("--tokenizer", default="deepseek-v4", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare_command(
    price_per_million: str, file: Path | None, tokens: int | None, tokenizer: str, as_json: bool
) -> None:
    """Show a price per token, thousand, million and MB of text side by side."""
    try:
        nano = int(Decimal(price_per_million).scaleb(3))
    except InvalidOperation:
        fail("--price-per-million is ¥ as a decimal, such as 2.00")
    texts: list[tuple[str, str, int]] = []
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            fail(f"{file}: {error}")
        try:
            texts.append((file.name, text, tokens or canonical(tokenizer).count(text)))
        except TokenizerMissing as error:
            fail(str(error))
    else:
        if tokenizer not in SAMPLE_TOKENS:
            fail(f"the samples were counted by {', '.join(SAMPLE_TOKENS)}; give --file and --tokens for others")
        texts = [(name, SAMPLES[name], count) for name, count in SAMPLE_TOKENS[tokenizer].items()]
    rows = []
    for name, text, count in texts:
        size = len(text.encode())
        sides = price_sides(price_nano=nano * count, tokens=count, utf8_bytes=size)
        rows.append(
            {
                "text": name, "tokens": count, "utf8_bytes": size, "per_token": _yuan(sides.per_token),
                "per_thousand": _yuan(sides.per_thousand), "per_million": _yuan(sides.per_million),
                "per_mb": _yuan(sides.per_mb or 0),
            }
        )  # fmt: skip
    if as_json:
        print_json(rows)
    else:
        print_table(tuple(rows[0]), [tuple(row.values()) for row in rows], right=tuple(rows[0])[1:])


def _yuan(nano: int) -> str:
    text = format(Decimal(nano).scaleb(-9), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


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
