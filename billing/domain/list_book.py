"""
The one price book that list usage is charged from: the book named `list`. Any other book is there for what-ifs.

Where it prices a class of a provider, grade, model and tier, it prices all that a request of text has: else a request
would cost half of what it should, and nobody would know which half.
"""

from datetime import datetime

from billing.domain.price_books import BadBook, Book, Rule, Use
from core.periods import SHANGHAI

LIST_BOOK = "list"
#: Each request has these; what else it may have (searches, images, storage) is charged where a rule prices it.
NEEDED_CLASSES = ("input.text", "input.text.cache_read", "output.text", "output.reasoning")
_ANY_TIME = datetime(2026, 1, 1, tzinfo=SHANGHAI)


def check_complete(book: Book) -> None:
    """Raise BadBook for the first rule whose provider, grade, model and tier lack a class that every request has."""
    for number, rule in enumerate(book.rules):
        for name in NEEDED_CLASSES:
            if not any(other.fits(_any_use(rule, name)) for other in book.rules):
                raise BadBook(
                    f"rules.{number}",
                    f"leaves a gap: it prices {rule.token_class} of {_about(rule)}, and no rule prices {name} of it",
                )


def _any_use(rule: Rule, name: str) -> Use:
    provider = -1 if rule.provider is None else rule.provider  # nobody's number: only a rule for any provider fits
    return Use(provider, rule.grade, rule.model, name, rule.tier, _ANY_TIME, 0, 0)


def _about(rule: Rule) -> str:
    parts = (
        f"provider {rule.provider}" if rule.provider is not None else "",
        f"grade {rule.grade}" if rule.grade else "",
        f"model {rule.model}" if rule.model else "",
    )
    return " and ".join(part for part in parts if part) + f"{' in ' if any(parts) else ''}tier {rule.tier}"
