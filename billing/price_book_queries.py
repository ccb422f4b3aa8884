"""Which price book is in force."""

from datetime import datetime

from billing.domain.list_book import LIST_BOOK
from billing.models import PriceBookVersion


def list_book_at(at: datetime) -> PriceBookVersion | None:
    """Return the version of the list book in force then; None where there was none."""
    rows = PriceBookVersion.objects.filter(book__name=LIST_BOOK, effective_from__lte=at)
    return rows.order_by("-effective_from").first()
