"""A market's journal leaves by the command as records and as CSV and comes back whole: the same book, hash for hash."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from exchange.actions.controls import halt_market, resume_market
from exchange.actions.journals import read_journal
from exchange.actions.replay import replay_market
from exchange.models import JournalEntry
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
SECOND = timedelta(seconds=1)


@pytest.fixture
def market():
    """A market with orders of many kinds, a collar's call, a halt, an expiry, and some orders still open."""
    market = given_market(
        given_grade(mode="exchange", dynamic_collar_thousandths=200, static_collar_thousandths=500)
    )
    seller, buyer = given_seller(market), given_money(given_organization("buyer", control_group="G"))
    sell, buy = {"market": market, "side": "sell"}, {"market": market, "side": "buy"}
    given_orders(seller, {**sell, "lots": 9, "price": 30}, {**sell, "lots": 20, "price": 40, "display_tokens": 5_000})
    given_orders(buyer, {**buy, "lots": 4, "price": 31}, {**buy, "lots": 3, "type": "market"})
    market = advanced(market, market.call_closes_at)
    now = market.call_closes_at + SECOND
    expires = {"time_in_force": "gtd", "expires_at": now + 5 * SECOND}
    given_orders(buyer, {**buy, "lots": 2, "price": 20, **expires}, {**buy, "lots": 6, "price": 30}, now=now)
    given_orders(
        buyer, {**buy, "lots": 5, "type": "stop_limit", "price": 45, "stop_price_nano": 3_800_000}, now=now
    )
    given_orders(buyer, {**buy, "lots": 8, "price": 10, "all_or_none": True}, now=now)
    given_orders(buyer, {**buy, "lots": 8, "price": 11, "min_quantity_tokens": 2_000}, now=now)
    market = advanced(market, now)
    with transaction.atomic():
        halt_market(market_id=market.pk, reason="drill", now=now + SECOND)
    advanced(market, now + SECOND)
    with transaction.atomic():
        resume_market(market_id=market.pk, reason="drill", now=now + 2 * SECOND)
    advanced(market, now + 2 * SECOND)
    given_orders(buyer, {**buy, "lots": 12, "price": 45}, now=now + 10 * SECOND)
    market = advanced(market, now + 10 * SECOND)
    assert set(JournalEntry.objects.values_list("kind", flat=True)) >= {1, 2, 4, 20, 21, 22, 23, 24, 25}
    return market


@pytest.mark.parametrize("form", [[], ["--csv"]])
def test_there_and_back(market, tmp_path, capsys, form):
    path = tmp_path / "journal"
    call_command("market_journal", "export", str(market.pk), "--output", str(path), *form)
    written = json.loads(capsys.readouterr().out)
    assert written["entries"] == market.last_sequence == written["commands"]
    replayed = replay_market(market)
    assert written["state_hash"] == replayed.state_hash
    call_command("market_journal", "import", str(path))
    read = json.loads(capsys.readouterr().out)
    assert read["same_as_market"] is True
    assert (read["state_hash"], read["commands"]) == (replayed.state_hash, written["commands"])
    assert read["open_orders"] == len(replayed.state.book.orders) > 0


def test_both_forms_say_the_same(market, tmp_path):
    one, other = tmp_path / "records", tmp_path / "csv"
    call_command("market_journal", "export", str(market.pk), "--output", str(one))
    call_command("market_journal", "export", str(market.pk), "--output", str(other), "--csv")
    assert read_journal(one.read_bytes()) == read_journal(other.read_bytes())


def test_a_changed_file_is_found_and_nonsense_refused(market, tmp_path, capsys):
    path = tmp_path / "journal"
    call_command("market_journal", "export", str(market.pk), "--output", str(path), "--csv")
    text = path.read_text()
    path.write_text(text.replace(",4000,", ",5000,") if ",4000," in text else text.replace(",40,", ",41,"))
    assert path.read_text() != text
    with pytest.raises(CommandError, match="not the journal"):
        call_command("market_journal", "import", str(path))
    for nonsense in (b"", b"# {}\n", b"CYJ1", b"# no json\nx"):
        path.write_bytes(nonsense)
        with pytest.raises(CommandError):
            call_command("market_journal", "import", str(path))
    with pytest.raises(CommandError, match="no market"):
        call_command("market_journal", "export", "999999")
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("market_journal", "import", str(tmp_path / "nowhere"))
