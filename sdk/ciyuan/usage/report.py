"""Takes a vendor's report apart: reads its numbers strictly, and splits them into classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ciyuan.usage.classes import MAX_COUNT, MODALITIES, Usage, UsageError


class Report:
    """Reads numbers out of a vendor's report, and remembers which it has read."""

    def __init__(self, data: Any, where: str = "", read: set[str] | None = None) -> None:
        if not isinstance(data, Mapping):
            raise UsageError(
                "not_an_object", where or "usage", f"{where or 'usage'} must be an object, not {data!r:.60}"
            )
        self.data = data
        self.where = where
        self.read: set[str] = set() if read is None else read

    def path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def has(self, key: str) -> bool:
        return self.data.get(key) is not None

    def number(self, *keys: str, default: int | None = 0) -> int:
        """The first of `keys` that is there. :raises UsageError: when it is no whole number or below zero."""
        for key in keys:
            self.read.add(self.path(key))
        for key in keys:
            value = self.data.get(key)
            if value is None:
                continue
            path = self.path(key)
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int):
                raise UsageError("not_a_count", path, f"{path} must be a whole number, not {value!r}")
            if value < 0:
                raise UsageError("negative", path, f"{path} is {value}: a count is never below zero")
            if value > MAX_COUNT:
                raise UsageError("too_large", path, f"{path} is {value}: more than any request has")
            return value
        if default is None:
            path = self.path(keys[0])
            raise UsageError("missing", path, f"{path} is missing")
        return default

    def inside(self, *keys: str) -> Report:
        """The object under the first of `keys`; an empty one where there is none."""
        for key in keys:
            if self.data.get(key) is not None:
                return Report(self.data[key], self.path(key), self.read)
        return Report({}, self.path(keys[0]), self.read)

    def by_modality(self, *keys: str) -> dict[str, int]:
        """Gemini's lists of {modality, tokenCount}."""
        out: dict[str, int] = {}
        for key in keys:
            rows = self.data.get(key)
            if rows is None:
                continue
            if not isinstance(rows, list):
                raise UsageError(
                    "not_a_list", self.path(key), f"{self.path(key)} must be a list of modality and token count"
                )
            for i, row in enumerate(rows):
                item = Report(row, f"{self.path(key)}[{i}]", self.read)
                modality = str(item.data.get("modality", "")).lower().rpartition(".")[2]
                modality = {"document": "image"}.get(modality, modality)
                if modality not in MODALITIES:
                    raise UsageError(
                        "unknown_modality", item.path("modality"), f"{item.path('modality')} {modality!r} is not known"
                    )
                out[modality] = out.get(modality, 0) + item.number("tokenCount", "token_count")
            break
        return out

    def unread(self) -> Iterator[str]:
        """Paths of token counts above zero that nothing has read."""
        for key, value in self.data.items():
            path = self.path(str(key))
            if isinstance(value, Mapping):
                yield from Report(value, path, self.read).unread()
            elif (
                isinstance(value, int)
                and not isinstance(value, bool)
                and value > 0
                and path not in self.read
                and str(key).lower().endswith(("tokens", "tokencount", "requests"))
            ):
                yield path


def less(total: int, parts: Mapping[str, int], of: str) -> int:
    """What is left of `total` beside its disjoint parts. :raises UsageError: when they are more than it."""
    rest = total - sum(parts.values())
    if rest < 0:
        named = " + ".join(f"{name} {n}" for name, n in parts.items() if n)
        raise UsageError(
            "negative_leaf",
            max(parts, key=lambda name: parts[name]),
            f"{named} is more than {of} {total}, which includes it: {rest} would be left",
        )
    return rest


def check_total(report: Report, keys: tuple[str, ...], parts: Mapping[str, int]) -> None:
    if not any(report.has(key) for key in keys):
        return
    total = report.number(*keys)
    if total != sum(parts.values()):
        named = " + ".join(f"{name} {n}" for name, n in parts.items())
        path = report.path(next(key for key in keys if report.has(key)))
        raise UsageError("total_mismatch", path, f"{path} is {total}, but {named} = {sum(parts.values())}")


class Classes:
    """Collects a usage while it is being taken apart."""

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}
        self.counts: dict[str, int] = {"requests": 1}
        self.assumed: list[str] = []

    def add(self, token_class: str, n: int) -> None:
        if n:
            self.tokens[token_class] = self.tokens.get(token_class, 0) + n

    def input(
        self,
        modality: Mapping[str, int],
        caches: Mapping[str, int],
        known: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """
        Split input tokens by modality over the caches.

        :param modality: tokens by modality, cached ones included.
        :param caches: tokens by cache, of whatever modality.
        :param known: tokens by cache and modality, where the vendor says so.
        """
        left = dict(modality)
        for cache, n in caches.items():
            for m, exact in (known or {}).get(cache, {}).items():
                taken = min(exact, n)
                if exact > n or exact > left.get(m, 0):
                    raise UsageError(
                        "negative_leaf",
                        f"{cache}.{m}",
                        f"{exact} {m} tokens of {cache} are more than there are ({min(n, left.get(m, 0))})",
                    )
                self.add(f"input.{m}.{cache}", taken)
                left[m] -= taken
                n -= taken
            if n and sum(1 for v in left.values() if v) > 1:
                self.assumed.append(f"{cache}: text first, then image, audio, video")
            for m in MODALITIES:
                taken = min(n, left.get(m, 0))
                self.add(f"input.{m}.{cache}", taken)
                left[m] = left.get(m, 0) - taken
                n -= taken
        for m, n in left.items():
            self.add(f"input.{m}", n)

    def done(self, report: Report) -> Usage:
        return Usage(
            self.tokens, {k: v for k, v in self.counts.items() if v}, tuple(self.assumed), tuple(report.unread())
        )
