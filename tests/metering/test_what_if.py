"""A past period rated by another book: from the rollups, exactly, and nothing is changed."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from billing.actions.price_books import publish_price_book
from billing.models import Charge
from tests.given import NOW
from tests.metering.test_settlement import Delivery, mine

pytestmark = pytest.mark.django_db


def test_a_settled_day_by_another_book() -> None:
    delivery = Delivery()
    delivery.report(mine(output_tokens=5_000), mine("e-2", output_tokens=9_000))
    delivery.settle()
    price = {"steps": [{"price": "0.00001"}]}
    rules = [{"class": name, **price} for name in ("input.text", "input.text.cache_read", "output.text")]
    with transaction.atomic():
        publish_price_book(name="dear", effective_from=NOW, terms={"rules": rules, "minimum": "1.00"}, now=NOW)
        publish_price_book(
            name="dear", effective_from=NOW + timedelta(days=1), terms={"rules": rules[:1]}, now=NOW)  # fmt: skip
    charged = list(Charge.objects.values_list("pk", "buyer_amount_micro"))

    def run(**options: object) -> str:
        out = StringIO()
        call_command("what_if", book="dear", buyer=delivery.buyer.pk, first="2026-11-20", last="2026-11-20", stdout=out,
                     **options)  # fmt: skip
        return out.getvalue()

    said = run(book_version=1)
    assert "output.text realtime: 14,000 tokens, ¥0.14" in said
    assert "to the minimum: ¥0.858" in said  # 120 + 80 + 14,000 tokens cost ¥0.142
    assert "total by dear version 1: ¥1.00" in said
    with pytest.raises(CommandError, match=r"No rule prices input\.text\.cache_read|No rule prices output\.text"):
        run()
    assert list(Charge.objects.values_list("pk", "buyer_amount_micro")) == charged
