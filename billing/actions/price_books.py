"""Price books are published in versions that follow each other; none is ever changed."""

from datetime import datetime
from typing import Any

from billing.domain.list_book import LIST_BOOK, check_complete
from billing.domain.price_book_terms import read_book
from billing.domain.price_books import BadBook
from billing.models import PriceBook, PriceBookVersion
from core.errors import BadRequest, Conflict
from core.transactions import assert_in_transaction


class BadPriceBook(BadRequest):
    """Terms with a gap, an overlap or a figure that cannot be."""

    code = "bad-price-book"


class VersionOverlaps(Conflict):
    """The version would reach back, or before the last one."""

    code = "price-book-version-overlaps"


def publish_price_book(*, name: str, effective_from: datetime, terms: Any, now: datetime) -> PriceBookVersion:
    """
    Publish the next version of a book, in force from a time on; the first version makes the book. The book named
    `list` is the one that list usage is charged from: for whom it prices one class, it prices all of a request.

    :raises BadPriceBook: terms that leave a gap, overlap or are no terms; `field` names the place.
    :raises VersionOverlaps: it would be in force before now, or not after the last version.
    """
    assert_in_transaction()
    try:
        read = read_book(terms)
        if name == LIST_BOOK:
            check_complete(read)
    except BadBook as error:
        raise BadPriceBook(f"{error.field} {error.detail}.", field=error.field) from None
    if effective_from < now:
        raise VersionOverlaps("A version takes effect now or later: prices never reach back.", field="effective_from")
    PriceBook.objects.bulk_create([PriceBook(name=name)], ignore_conflicts=True)
    book = PriceBook.objects.select_for_update(no_key=True).get(name=name)
    last = book.versions.order_by("-number").first()
    if last is not None and effective_from <= last.effective_from:
        raise VersionOverlaps(
            f"Version {last.number} takes effect at {last.effective_from.isoformat()}; the next one does later.",
            field="effective_from",
        )
    return PriceBookVersion.objects.create(
        book=book, number=last.number + 1 if last else 1, effective_from=effective_from, terms=terms, published_at=now
    )
