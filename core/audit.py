"""What a check of the books finds when they do not agree."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference: which check, about what, and both values as text."""

    check: str
    subject: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.check}: {self.subject}: expected {self.expected}, found {self.found}"


Check = tuple[str, Callable[[], Iterator[Finding]]]
