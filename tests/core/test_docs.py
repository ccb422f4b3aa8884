"""What the guides name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|json|md|html|toml))`")


@pytest.mark.parametrize(
    "guide",
    [
        "README.md", "docs/ARCHITECTURE.md", "docs/API.md", "docs/MARKET_DATA.md", "docs/METERING.md",
        "docs/RECIPES.md", "docs/GLOSSARY.md",
    ],
)
def test_every_file_that_a_guide_names_exists(guide):
    named = set(FILE.findall((ROOT / guide).read_text()))
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_every_term_is_in_both_languages_and_once():
    rows = re.findall(r"^\| (?!Term|---)(.+?) \| (.+?) \| (.+?) \|$", (ROOT / "docs/GLOSSARY.md").read_text(), re.M)
    terms = [term for term, _zh, _meaning in rows]
    assert len(terms) > 100
    assert sorted({term for term in terms if terms.count(term) > 1}) == []
    assert [term for term, zh, meaning in rows if not re.search(r"[\u4e00-\u9fff]|API", zh) or not meaning] == []
