"""A past period's usage rated by a price book, without touching anything: what it would have cost."""

from collections.abc import Iterator

from django.db import connection

from billing.domain.price_books import Bill, Book, Use, rate
from core.periods import Period
from metering_ingest.domain.classes import CODES, NAMES

#: Counts that no book prices by themselves: requests are not sold, rejected drafts are never billed.
NOT_PRICED = (CODES["requests"], CODES["output.rejected_draft"])

_USES = """
    SELECT c.provider_id, g.slug, m.slug, r.token_class, g.service_class, r.hour, r.length_band, sum(r.quantity)::bigint
    FROM usage_rollup r
    JOIN exchange_deliverycontract c ON c.id = r.contract_id
    JOIN metering_ingest_meter t ON t.id = r.meter_id AND t.role = 'provider' AND t.organization_id = c.provider_id
    JOIN providers_grade g ON g.id = c.grade_id JOIN providers_modelcard m ON m.id = g.model_card_id
    WHERE c.buyer_id = %s AND r.hour >= %s AND r.hour < %s AND r.token_class <> ALL(%s) AND r.quantity > 0
    GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7
"""


def uses_of(buyer_id: int, period: Period) -> Iterator[Use]:
    """Yield what a buyer used in the hours of a period, by provider, grade, class, hour and length band."""
    with connection.cursor() as cursor:
        cursor.execute(_USES, [buyer_id, period.start, period.end, list(NOT_PRICED)])
        for provider, grade, model, code, tier, hour, band, tokens in cursor.fetchall():
            yield Use(provider, grade, model, NAMES[code], tier, hour, band, tokens)


def what_if(book: Book, *, buyer_id: int, period: Period) -> Bill:
    """
    Return what a buyer's usage in a period costs by a book.

    :raises Unpriced: for usage that no rule of the book fits.
    """
    return rate(book, uses_of(buyer_id, period))
