"""The simulated market on the real book shows what real order books show, and its report can be read."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.simulator.__main__ import markdown, pictures
from benchmarks.simulator.agents import Setting, simulate
from benchmarks.simulator.measures import facts

SEED = 20261122


def test_a_seed_gives_the_same_market_and_a_report_with_plots():
    setting = Setting(seconds=1_200)
    seen = simulate(setting, SEED)
    assert seen == simulate(setting, SEED)
    assert len(seen.signs) > 100 and seen.trades >= len(seen.signs) // 2
    drawn = pictures(seen)
    for text in drawn.values():
        assert ET.fromstring(text).findall(".//{http://www.w3.org/2000/svg}path")
    text = markdown(seen, facts(seen), list(drawn), setting, SEED)
    assert all(name in text for name in drawn) and "excess kurtosis" in text


@pytest.mark.proof
@pytest.mark.parametrize("seed", [SEED, 1])
def test_its_flow_shows_the_stylised_facts(seed):
    found = facts(simulate(Setting(), seed))
    assert [(fact.name, fact.measured, fact.expected) for fact in found if not fact.holds] == []
