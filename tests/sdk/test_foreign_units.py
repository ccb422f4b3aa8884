"""Foreign units, canonical counts, and one price in all the ways it is quoted."""

import json
import socket
import sys
from pathlib import Path

import pytest
from ciyuan.canonical import PINNED, Canonical, TokenizerMissing, canonical
from ciyuan.cli import main
from ciyuan.foreign_units import SAMPLE_TOKENS, SAMPLES, UnknownUnit, price_sides, table, unit
from ciyuan.named_cards import card_names, named_card
from ciyuan.standard_token import WORK_UNITS_PER_ST, work


def test_every_entry_says_how_it_was_derived():
    names = [entry.name for entry in table()]
    assert len(set(names)) == len(names) >= len(card_names()) + 4
    for entry in table():
        assert entry.micro_st > 0 and entry.per > 0
        assert any(character.isdigit() for character in entry.derivation)


def test_an_accelerator_hour_is_its_achieved_arithmetic():
    """By hand: 989 × 10¹² × 0.4 × 3,600 ÷ 98,374,125,632 = 14,476,977.47 standard tokens."""
    assert unit("hour:h100-sxm").to_micro_st(1) == 989 * 10**12 * 4 // 10 * 3_600 * 10**6 // WORK_UNITS_PER_ST
    assert round(unit("hour:h100-sxm").to_micro_st(1) / 10**6) == 14_476_977


def test_a_models_token_is_its_share_of_a_request():
    entry = unit("token:Qwen3-32B")
    assert entry.to_micro_st(5_000) == work(named_card("Qwen3-32B"), 4_000, 0, 1_000).total_micro_st
    # ¥2 per million tokens of a model whose token is 1.466 ST is ¥1.364 per million ST.
    assert entry.price_nano_per_st(2_000) == round(2_000 * 5_000 * 10**6 / entry.micro_st)


def test_a_unit_that_is_unknown_names_those_like_it():
    with pytest.raises(UnknownUnit, match="hour:h100-sxm"):
        unit("hour:h100")


def test_one_price_in_all_the_ways_it_is_quoted():
    sides = price_sides(price_nano=72_000, tokens=36, micro_st=48_000_000, utf8_bytes=168)
    assert (sides.per_token, sides.per_thousand, sides.per_million) == (2_000, 2_000_000, 2_000_000_000)
    assert sides.per_standard_token == 1_500 and sides.per_mb == 428_571_429
    assert price_sides(price_nano=1, tokens=1).per_mb is None
    with pytest.raises(ValueError, match="tokens"):
        price_sides(price_nano=1, tokens=0)


def test_the_same_price_per_token_is_another_price_per_megabyte():
    """36 tokens for one tokenizer are 168 for another: at ¥2 a million, ¥0.43 and ¥2.00 for a MB of the same text."""
    size = len(SAMPLES["zh"].encode())
    per_mb = {
        name: price_sides(price_nano=2_000 * counts["zh"], tokens=counts["zh"], utf8_bytes=size).per_mb
        for name, counts in SAMPLE_TOKENS.items()
    }
    assert per_mb == {"deepseek-v4": 428_571_429, "utf-8-bytes": 2_000_000_000}
    for counts in SAMPLE_TOKENS.values():
        assert counts.keys() == SAMPLES.keys()


def test_a_canonical_count_says_which_vocabulary_counted_and_how_long_the_text_was():
    by_words = Canonical("words", "ab" * 32, lambda text: [hash(word) for word in text.split()])
    assert by_words.usage("a b c", "词元 d") == {
        "input_tokens": 3, "cached_input_tokens": 0, "output_tokens": 2, "input_bytes": 5, "output_bytes": 8,
        "tokenizer": f"words@sha256:{'ab' * 32}",
    }  # fmt: skip
    assert by_words.usage_of_ids([1, 2], [3])["output_tokens"] == 1


def test_another_vocabulary_than_the_pinned_one_is_refused(tmp_path, monkeypatch):
    package = tmp_path / PINNED["deepseek-v4"].module
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tokenizer.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, PINNED["deepseek-v4"].module, raising=False)
    with pytest.raises(TokenizerMissing, match="another vocabulary"):
        canonical("deepseek-v4")
    with pytest.raises(TokenizerMissing, match="known are deepseek-v4, qwen"):
        canonical("gpt-9")


COUNTED = {**SAMPLE_TOKENS, "qwen": {"zh": 41, "en": 32}, "mistral-tekken": {"zh": 52, "en": 32}}


@pytest.mark.parametrize("name", PINNED)
def test_the_pinned_vocabulary_counts_the_samples_without_a_network(name, monkeypatch):
    pinned = PINNED[name]
    pytest.importorskip(pinned.module, reason=f"the optional extra ciyuan[{pinned.extra}] is not installed")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    counter = canonical(name)
    assert {sample: counter.count(text) for sample, text in SAMPLES.items()} == COUNTED[name]
    assert counter.usage("<|im_end|>", "")["tokenizer"] == f"{name}@sha256:{pinned.sha256}"
    assert counter.count("") == 0 < counter.count("<|im_end|>")


def refuse(*_):
    raise AssertionError("a vocabulary is at hand or missing, never fetched")


def test_a_vocabulary_whose_package_is_missing_names_its_extra(monkeypatch):
    monkeypatch.setattr("ciyuan.canonical.find_spec", lambda name: None)
    for name, pinned in PINNED.items():
        with pytest.raises(TokenizerMissing, match=rf"ciyuan\[{pinned.extra}\]"):
            canonical(name)


@pytest.fixture
def ciyuan(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_the_command_line_converts_and_compares(ciyuan, tmp_path: Path):
    _, out, _ = ciyuan("token", "convert", "1000000", "token:Qwen3-32B", "--price", "0.000002", "--json")
    assert json.loads(out)["price_per_st"] == "0.000001364"
    _, out, _ = ciyuan("token", "units", "--json")
    assert json.loads(out)["version"] == "FU-2026.1"
    text = tmp_path / "text.txt"
    text.write_text("词元" * 10, encoding="utf-8")
    _, out, _ = ciyuan(
        "token", "compare", "--price-per-million", "2.00", "--file", str(text), "--tokens", "20", "--json"
    )
    assert json.loads(out)[0] | {"text": ""} == {
        "text": "", "tokens": 20, "utf8_bytes": 60, "per_token": "0.000002", "per_thousand": "0.002",
        "per_million": "2", "per_mb": "0.666666667",
    }  # fmt: skip
    assert ciyuan("token", "convert", "1", "nothing")[0] == 1
    assert ciyuan("token", "compare", "--price-per-million", "x")[2].startswith("ciyuan: --price-per-million")
