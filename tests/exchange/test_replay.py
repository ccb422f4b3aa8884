"""The journal alone gives the same book, trades and holds again; the audit notices what does not."""

import json

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from exchange.actions import facts, market_state
from exchange.domain.frames import pack, unpack
from exchange.domain.numbering import entry_id
from exchange.models import BookSnapshot, JournalEntry, Market, MarketFrame
from tests.exchange.checking import findings
from tests.given import (
    advanced,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def busy(monkeypatch):
    """A continuous market with some trading, hashed and kept often."""
    monkeypatch.setattr(facts, "HASH_EVERY", 5)
    monkeypatch.setattr(facts, "SNAPSHOT_EVERY", 10)
    market = given_market(given_grade(mode="exchange"))
    seller, buyer = given_seller(market), given_money(given_organization("buyer"))
    market = advanced(market, market.call_closes_at)
    for step in range(8):
        orders = [{"market": market, "side": "sell", "lots": 2, "price": 30 + step % 3}]
        given_orders(seller, *orders, now=market.call_closes_at)
        given_orders(buyer, {"market": market, "side": "buy", "lots": 1 + step, "price": 29 + step % 4},
                     now=market.call_closes_at)
        market = advanced(market, market.call_closes_at)
    assert BookSnapshot.objects.exists()
    return market


def test_both_ways_give_the_same(busy, capsys):
    call_command("replay", str(busy.pk))
    line = json.loads(capsys.readouterr().out)
    assert line["same"] and line["state_hash"] == line["state_hash_from_snapshot"]
    assert line["trades"] > 3 and line["entries_after_snapshot"] < line["entries"]
    assert findings() == []


def test_a_worker_behind_catches_up(busy):
    """The state that a worker builds from nothing is the one that the others have."""
    market_state.forget_books()
    with transaction.atomic():
        fresh = market_state.state_of(Market.objects.get(pk=busy.pk))
    call = JournalEntry.objects.exclude(state_hash=None).order_by("-id").first()
    assert fresh.sequence == busy.last_sequence
    assert call.sequence <= fresh.sequence


def test_a_changed_trade_is_found(busy, capsys):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE exchange_trade DISABLE TRIGGER ALL")
        cursor.execute("UPDATE exchange_trade SET price_nano = price_nano + 100000 WHERE id % 2 = 0")
        cursor.execute("ALTER TABLE exchange_trade ENABLE TRIGGER ALL")
    assert {finding.check for finding in findings()} >= {"trades-replay", "escrow-is-owed"}
    with pytest.raises(CommandError):
        call_command("replay", str(busy.pk))


def test_published_frames_that_say_something_else_are_found(busy):
    last = MarketFrame.objects.filter(id__lte=entry_id(busy.pk, busy.last_sequence)).order_by("-id")[0]
    frame = unpack(bytes(last.content))
    changed = msgspec.structs.replace(frame, statistics=msgspec.structs.replace(frame.statistics, trades=99))
    MarketFrame.objects.filter(pk=last.pk).update(content=pack(changed))
    assert {finding.check for finding in findings()} == {"statistics-are-trades"}
    lost = msgspec.structs.replace(frame, rows=[*frame.rows, (9_999, 0, 30, 1)])
    MarketFrame.objects.filter(pk=last.pk).update(content=pack(lost), book=None)
    [finding] = findings()
    assert finding.check == "frames-replay" and "order 9999" in finding.subject
    MarketFrame.objects.filter(pk=last.pk).delete()
    assert {finding.check for finding in findings()} >= {"frames-replay"}


def test_facts_cannot_be_changed(busy):
    for table in ("command", "journalentry", "trade"):
        with pytest.raises(Exception, match="facts"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM exchange_{table}")
