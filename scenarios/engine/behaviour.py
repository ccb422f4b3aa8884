"""How a simulated engine behaves: its speed, its cache, what goes wrong, and what it says of it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from typing import Any, Self

#: What may go wrong with a request: an answer of that status, no answer at all, a connection that breaks after
#: `die_after_tokens`, or a stream that stops there and stays open.
FAULTS = ("", "429", "500", "502", "503", "hang", "die", "stall")
#: What the engine says of the tokens it made: the truth, nothing, `usage_percent` of them, or what no meter can read.
USAGES = ("honest", "none", "percent", "garbage")


@dataclass(frozen=True)
class Behaviour:
    """
    :param model: the name it answers to. :param weights: another text gives other answers, as another model would.
    :param first_token_ms: before the first token, plus the time to read what is not in the cache.
    :param input_tokens_per_s: how fast it reads; 0 takes no time. :param tokens_per_s: of each answer; 0 takes none.
    :param answer_tokens: how long an answer is when no limit makes it shorter.
    :param cache_tokens: what the prefix cache holds; 0 switches it off. :param max_running: more wait; 0 is no limit.
    :param fault: what happens to every `fault_every`-th request of generation.
    :param usage: whether its usage is right. :param continuous: whether it knows `continuous_usage_stats`.
    """

    model: str = "sim-7b"
    weights: str = "sim-7b"
    first_token_ms: float = 20.0
    input_tokens_per_s: float = 0.0
    tokens_per_s: float = 30.0
    answer_tokens: int = 64
    context_tokens: int = 4_000_000
    cache_tokens: int = 1_000_000
    max_running: int = 0
    fault: str = ""
    fault_every: int = 1
    die_after_tokens: int = 5
    usage: str = "honest"
    usage_percent: int = 150
    continuous: bool = True

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ValueError(f"fault is one of {', '.join(map(repr, FAULTS))}, not {self.fault!r}")
        if self.usage not in USAGES:
            raise ValueError(f"usage is one of {', '.join(USAGES)}, not {self.usage!r}")
        if self.fault_every < 1:
            raise ValueError("fault_every counts from 1")

    def changed(self, changes: dict[str, Any]) -> Self:
        """:raises ValueError: for a name or a value that there is not."""
        known = {each.name: type(each.default) for each in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"there is no {name!r}; known are {', '.join(known)}")
            if not isinstance(value, (int, float) if known[name] is float else known[name]):
                raise ValueError(f"{name} is of type {known[name].__name__}, not {value!r}")
        return replace(self, **changes)


def add_options(parser: argparse.ArgumentParser) -> None:
    """An option for each field."""
    for each in fields(Behaviour):
        name = "--" + each.name.replace("_", "-")
        if isinstance(each.default, bool):
            parser.add_argument(name, default=each.default, action=argparse.BooleanOptionalAction)
        else:
            kind = type(each.default)
            parser.add_argument(name, type=kind, default=each.default, metavar=kind.__name__)


def from_options(options: argparse.Namespace) -> Behaviour:
    return Behaviour(**{each.name: getattr(options, each.name) for each in fields(Behaviour)})
