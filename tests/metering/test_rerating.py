"""A settled period rated again gives the same bytes; whatever was changed beneath or above is named."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from metering_ingest.rerating import latest, rerate
from tests.given import NOW
from tests.metering.test_settlement import DUE, Delivery, mine

pytestmark = pytest.mark.django_db


@pytest.fixture
def settled() -> Delivery:
    """A settled market with a later revision."""
    delivery = Delivery(take_or_pay=800)
    delivery.report(mine(output_tokens=5_000))
    delivery.settle()
    delivery.report(mine("late", output_tokens=7_000), now=DUE)
    assert delivery.settle(DUE + timedelta(minutes=1)) == 1
    return delivery


def command(**days: str) -> str:
    out = StringIO()
    call_command("rerate", stdout=out, **days)
    return out.getvalue()


def test_the_same_bytes_each_time(settled: Delivery) -> None:
    first = rerate(latest())
    assert (first.settlements, first.findings) == (2, [])
    assert first.lines > 2
    assert rerate(latest()) == first
    day = NOW.date().isoformat()
    assert f"rated 2 settlements again, {first.lines} lines: the same bytes (sha256 {first.sha256})" in command()
    assert command(first=day, last=day) == command()
    assert "rated 0 settlements" in command(first="2026-01-01", last="2026-01-02")
    call_command("audit")


@pytest.mark.parametrize(("sql", "place"), [
    ("UPDATE usage_rollup SET work_micro_st = work_micro_st + 1 WHERE token_class = 4", "work"),
    ("UPDATE usage_rollup SET quantity = quantity + 1 WHERE token_class = 4", "tokens of deployment"),
    ("UPDATE exchange_contractlot SET buyer_price_nano = buyer_price_nano + 1", "lots"),
    ("UPDATE metering_ingest_contractsettlement SET lines = jsonb_set(lines, '{0,fee_micro}', '7')", "line 1"),
    ("UPDATE metering_ingest_contractsettlement SET lines = lines - 0", "line 1"),
    ("UPDATE billing_charge SET seller_amount_micro = seller_amount_micro + 1 WHERE revision = 1", "charges"),
])  # fmt: skip
def test_the_first_difference_is_named(settled: Delivery, sql: str, place: str, monkeypatch: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(sql)
        cursor.execute("SET LOCAL session_replication_role = origin")
    found = rerate(latest()).findings
    assert any(f": {place}" in finding.subject for finding in found), found
    with pytest.raises(CommandError, match="rate differently now"):
        command()
