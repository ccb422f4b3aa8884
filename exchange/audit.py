"""What must always hold in the exchange, recomputed from the insert-only rows. Run by `manage.py audit`."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.db.models import Count, Sum

from core.audit import Check, Finding
from core.money import LOT_TOKENS, format_yuan
from exchange import order_queries
from exchange.actions.market_state import MarketState
from exchange.actions.replay import replay_market, stored_trades_digest
from exchange.domain.commands import unpack
from exchange.domain.facts import TradeRow
from exchange.domain.frames import FrameGap
from exchange.domain.public_book import whole
from exchange.frame_queries import public_market
from exchange.models import CommandQueue, Market


def _rows(sql: str, params: list[Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def positions_are_trades() -> Iterator[Finding]:
    """Each position is what its member bought less what it sold, and a market's positions sum to zero."""
    for market_id, total in _rows(
        "SELECT market_id, sum(position_tokens) FROM exchange_marketposition GROUP BY 1"
        " HAVING sum(position_tokens) <> 0 ORDER BY 1"
    ):
        yield Finding("positions-sum-to-zero", f"market {market_id}", "0", str(total))
    for market_id, member_id, traded, stored in _rows("""
        WITH side (market_id, member_id, tokens) AS (
            SELECT id >> 32, buyer_id, quantity_tokens FROM exchange_trade
            UNION ALL SELECT id >> 32, seller_id, -quantity_tokens FROM exchange_trade
        ), traded AS (SELECT market_id, member_id, sum(tokens) AS tokens FROM side GROUP BY 1, 2)
        SELECT coalesce(t.market_id, p.market_id), coalesce(t.member_id, p.organization_id),
               coalesce(t.tokens, 0), coalesce(p.position_tokens, 0)
        FROM traded t FULL JOIN exchange_marketposition p
             ON p.market_id = t.market_id AND p.organization_id = t.member_id
        WHERE coalesce(t.tokens, 0) <> coalesce(p.position_tokens, 0) ORDER BY 1, 2
    """):
        yield Finding(
            "positions-are-trades", f"organization {member_id} in market {market_id}", str(traded), str(stored)
        )


def escrow_is_what_sellers_are_owed() -> Iterator[Finding]:
    """Escrow is the value of trades until the gate, of the sellers' lots after it, and nothing once settled."""
    for market_id, phase, expected_nano, found in _rows("""
        WITH traded AS (
            SELECT id >> 32 AS market_id,
                   sum(CASE aggressor WHEN 3 THEN -1 ELSE 1 END * quantity_tokens::numeric * price_nano) AS nano
            FROM exchange_trade GROUP BY 1
        ), replaced AS (
            SELECT lot_id, sum(quantity_tokens) AS tokens FROM exchange_replacement GROUP BY 1
        ), owed AS (
            SELECT c.market_id,
                   sum((l.quantity_tokens - coalesce(r.tokens, 0))::numeric * l.seller_price_nano) AS nano
            FROM exchange_contractlot l JOIN exchange_deliverycontract c ON c.id = l.contract_id
                 LEFT JOIN replaced r ON r.lot_id = l.id GROUP BY 1
        ), escrow AS (
            SELECT substr(scope, 8)::bigint AS market_id, posted_micro FROM billing_account
            WHERE kind = 'escrow' AND scope LIKE 'market:%'
        )
        SELECT m.id, m.phase,
               CASE WHEN m.phase = 'settled' THEN 0
                    WHEN m.gate_closed_at IS NULL THEN coalesce(t.nano, 0) ELSE coalesce(o.nano, 0) END AS expected,
               coalesce(e.posted_micro, 0)
        FROM exchange_market m LEFT JOIN traded t ON t.market_id = m.id LEFT JOIN owed o ON o.market_id = m.id
             LEFT JOIN escrow e ON e.market_id = m.id
        ORDER BY m.id
    """):
        expected = int(expected_nano) // 1_000
        partly_settled = phase == Market.Phase.DELIVERING and found < expected
        if found != expected and not partly_settled:
            yield Finding(
                "escrow-is-owed", f"market {market_id} ({phase})", format_yuan(expected), format_yuan(found)
            )


def annulled_auctions_are_reversed() -> Iterator[Finding]:
    """Each trade of an annulled auction has one mirror, and nothing else has one."""
    for market_id, number, buyer_id, seller_id, trades, mirrors in _rows("""
        WITH reversed AS (
            SELECT market_id, auction_sequence, sequence FROM exchange_annulment WHERE sequence > 0
        ), made AS (
            SELECT a.market_id, a.sequence, t.buyer_id, t.seller_id, t.buy_order_id, t.sell_order_id,
                   t.quantity_tokens, t.price_nano, t.bond_micro, count(*) AS count
            FROM reversed a JOIN exchange_trade t
                 ON t.id >> 32 = a.market_id AND t.sequence = a.auction_sequence
            GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
        ), mirrored AS (
            SELECT id >> 32 AS market_id, sequence, seller_id AS buyer_id, buyer_id AS seller_id,
                   sell_order_id AS buy_order_id, buy_order_id AS sell_order_id, quantity_tokens, price_nano,
                   bond_micro, count(*) AS count
            FROM exchange_trade WHERE aggressor = 3 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
        )
        SELECT market_id, sequence, buyer_id, seller_id, coalesce(made.count, 0), coalesce(mirrored.count, 0)
        FROM made FULL JOIN mirrored USING (
            market_id, sequence, buyer_id, seller_id, buy_order_id, sell_order_id, quantity_tokens, price_nano,
            bond_micro
        ) WHERE coalesce(made.count, 0) <> coalesce(mirrored.count, 0) ORDER BY 1, 2, 3, 4
    """):
        subject = f"market {market_id}, entry {number}, from {seller_id} to {buyer_id}"
        yield Finding("annulled-once", subject, str(trades), str(mirrors))


def contracts_are_positions() -> Iterator[Finding]:
    """
    After the gate a member's contracts are its position, less what found no one to serve it and more what replaces
    others' deliveries; and a contract's lots are the contract.
    """
    for contract_id, quantity, lots in _rows("""
        SELECT c.id, c.quantity_tokens, coalesce(sum(l.quantity_tokens), 0)
        FROM exchange_deliverycontract c LEFT JOIN exchange_contractlot l ON l.contract_id = c.id
        WHERE c.kind = 'spot' GROUP BY c.id HAVING c.quantity_tokens <> coalesce(sum(l.quantity_tokens), 0) ORDER BY 1
    """):
        yield Finding("lots-are-contracts", f"contract {contract_id}", str(quantity), str(lots))
    for market_id, member_id, position, contracted in _rows("""
        WITH side (market_id, member_id, tokens) AS (
            SELECT market_id, buyer_id, quantity_tokens FROM exchange_deliverycontract WHERE kind = 'spot'
            UNION ALL SELECT market_id, provider_id, -quantity_tokens FROM exchange_deliverycontract WHERE kind = 'spot'
            UNION ALL SELECT market_id, buyer_id, quantity_tokens FROM exchange_unplaced
            UNION ALL SELECT market_id, seller_id, -quantity_tokens FROM exchange_unplaced
            UNION ALL SELECT c.market_id, c.buyer_id, -r.quantity_tokens FROM exchange_replacement r
                JOIN exchange_contractlot l ON l.id = r.new_lot_id
                JOIN exchange_deliverycontract c ON c.id = l.contract_id
            UNION ALL SELECT c.market_id, c.provider_id, r.quantity_tokens FROM exchange_replacement r
                JOIN exchange_contractlot l ON l.id = r.new_lot_id
                JOIN exchange_deliverycontract c ON c.id = l.contract_id
        ), contracted AS (SELECT market_id, member_id, sum(tokens) AS tokens FROM side GROUP BY 1, 2)
        SELECT p.market_id, p.organization_id, p.position_tokens, coalesce(c.tokens, 0)
        FROM exchange_marketposition p JOIN exchange_market m ON m.id = p.market_id
             LEFT JOIN contracted c ON c.market_id = p.market_id AND c.member_id = p.organization_id
        WHERE m.gate_closed_at IS NOT NULL AND p.position_tokens <> coalesce(c.tokens, 0) ORDER BY 1, 2
    """):
        yield Finding(
            "contracts-are-positions", f"organization {member_id} in market {market_id}", str(position), str(contracted)
        )


def replacements_are_within() -> Iterator[Finding]:
    """No lot is replaced beyond itself, no shortfall beyond what it says, no capacity sold and replacing beyond all."""
    for what, key, most, found in _rows("""
        SELECT 'lot', l.id, l.quantity_tokens, sum(r.quantity_tokens)::bigint FROM exchange_replacement r
        JOIN exchange_contractlot l ON l.id = r.lot_id GROUP BY l.id HAVING sum(r.quantity_tokens) > l.quantity_tokens
        UNION ALL
        SELECT 'shortfall', s.id, s.replaced_tokens, coalesce(sum(r.quantity_tokens), 0)::bigint
        FROM exchange_shortfall s LEFT JOIN exchange_replacement r ON r.shortfall_id = s.id
        GROUP BY s.id HAVING coalesce(sum(r.quantity_tokens), 0) <> s.replaced_tokens
        UNION ALL
        SELECT 'contract', c.id, c.quantity_tokens, sum(s.quantity_tokens)::bigint FROM exchange_shortfall s
        JOIN exchange_deliverycontract c ON c.id = s.contract_id GROUP BY c.id
        HAVING sum(s.quantity_tokens) > c.quantity_tokens
        UNION ALL
        SELECT 'position', p.id, p.capacity_tokens + p.position_tokens + coalesce(u.tokens, 0), r.tokens
        FROM (SELECT c.market_id, c.provider_id, sum(r.quantity_tokens)::bigint AS tokens FROM exchange_replacement r
              JOIN exchange_contractlot l ON l.id = r.new_lot_id
              JOIN exchange_deliverycontract c ON c.id = l.contract_id GROUP BY 1, 2) AS r
        JOIN exchange_marketposition p ON p.market_id = r.market_id AND p.organization_id = r.provider_id
        LEFT JOIN (SELECT market_id, seller_id, sum(quantity_tokens)::bigint AS tokens FROM exchange_unplaced
                   GROUP BY 1, 2) AS u ON u.market_id = p.market_id AND u.seller_id = p.organization_id
        WHERE r.tokens > p.capacity_tokens + p.position_tokens + coalesce(u.tokens, 0)
    """):
        yield Finding("replacements-are-within", f"{what} {key}", f"at most {most}", str(found))


def journals_replay() -> Iterator[Finding]:
    """
    Each market, replayed from its first entry, gives the same states, trades, holds and open sells again.
    """
    for market in Market.objects.filter(last_sequence__gt=0).order_by("pk").iterator():
        replayed = replay_market(market)
        subject = f"market {market.pk}"
        for mismatch in replayed.mismatches:
            yield Finding("journal-replays", f"{subject}, {mismatch}", "the recorded state", "another state")
        if replayed.state.sequence != market.last_sequence:
            yield Finding("journal-is-whole", subject, str(market.last_sequence), str(replayed.state.sequence))
        stored = stored_trades_digest(stored_trades(market.pk))
        if replayed.trades_digest != stored:
            yield Finding("trades-replay", subject, replayed.trades_digest, stored)
        yield from _holds(market, replayed.state)
        yield from _open_sells(market, replayed.state)
        yield from _published(market, replayed.state)


def _published(market: Market, state: MarketState) -> Iterator[Finding]:
    """The frames that readers were given make the book that the journal makes."""
    if state.sequence != market.last_sequence:
        return  # found already
    subject = f"market {market.pk}"
    try:
        shown = public_market(market.pk)
    except FrameGap as gap:
        yield Finding("frames-are-whole", subject, f"frames up to {market.last_sequence}", str(gap))
        return
    if not shown.sequence:
        return  # it traded before there were frames
    found = (shown.sequence, shown.phase, shown.halted)
    expected = (state.sequence, state.book.phase, state.book.halted)
    if found != expected:
        yield Finding("frames-replay", f"{subject}, entry, phase and halt", str(expected), str(found))
    rows = {row[0]: row for row in whole(state.book)}
    wrong = sorted(n for n in rows.keys() | shown.book.rows.keys() if rows.get(n) != shown.book.rows.get(n))
    if wrong:
        yield Finding(
            "frames-replay", f"{subject}, order {wrong[0]} and {len(wrong) - 1} more",
            str(rows.get(wrong[0])), str(shown.book.rows.get(wrong[0])),
        )  # fmt: skip
    traded = _standing_figures(market.pk)
    if traded != (shown.statistics.trades, shown.statistics.volume):
        told = (shown.statistics.trades, shown.statistics.volume)
        yield Finding("statistics-are-trades", f"{subject}, trades and lots", str(traded), str(told))


def _standing_figures(market_id: int) -> tuple[int, int]:
    """Return the number and the lots of a market's trades that stand."""
    found = order_queries.standing_trades(market_id).aggregate(trades=Count("pk"), tokens=Sum("quantity_tokens"))
    return found["trades"], (found["tokens"] or 0) // LOT_TOKENS


def stored_trades(market_id: int) -> Iterator[TradeRow]:
    """Yield a market's trades as they are stored, in order."""
    rows = order_queries.trades_in(market_id).order_by("id").values_list(
        "id", "sequence", "buyer_id", "seller_id", "buy_order_id", "sell_order_id", "quantity_tokens", "price_nano",
        "bond_micro", "aggressor",
    )
    for row in rows.iterator(chunk_size=5_000):
        yield TradeRow(*row[:4], row[4].bytes, row[5].bytes, *row[6:])


def _holds(market: Market, state: MarketState) -> Iterator[Finding]:
    """What the ledger holds for a market's orders is what its open and its waiting orders hold."""
    expected: dict[int, int] = defaultdict(int)
    for order in state.settling.orders.values():
        expected[order.owner] += order.funding.rest_micro(buying=not order.selling)
    for command in _waiting(market):
        expected[command[0]] += command[1]
    found = dict(
        _rows(
            """
            SELECT d.organization_id,
                   sum(CASE t.stage WHEN 1 THEN t.amount_micro ELSE -t.amount_micro - t.excess_micro END)::bigint
            FROM billing_transfer t
                 JOIN billing_account d ON d.id = t.debit_id JOIN billing_account c ON c.id = t.credit_id
            WHERE t.stage IN (1, 2, 3) AND c.scope = %s GROUP BY 1
            """,
            [market.scope],
        )
    )
    for member_id in sorted(set(expected) | set(found)):
        if expected.get(member_id, 0) != found.get(member_id, 0):
            yield Finding(
                "holds-are-open-orders",
                f"organization {member_id} in market {market.pk}",
                format_yuan(expected.get(member_id, 0)),
                format_yuan(found.get(member_id, 0)),
            )


def _open_sells(market: Market, state: MarketState) -> Iterator[Finding]:
    expected: dict[int, int] = defaultdict(int)
    for order in state.settling.orders.values():
        if order.selling:
            expected[order.owner] += order.funding.open_tokens
    for owner, _, sells in _waiting(market):
        expected[owner] += sells
    found = dict(market.positions.values_list("organization_id", "open_sell_tokens"))
    for member_id in sorted(set(expected) | set(found)):
        if expected.get(member_id, 0) != found.get(member_id, 0):
            yield Finding(
                "open-sells-are-orders",
                f"organization {member_id} in market {market.pk}",
                str(expected.get(member_id, 0)),
                str(found.get(member_id, 0)),
            )


def _waiting(market: Market) -> Iterator[tuple[int, int, int]]:
    """Yield owner, hold and reserved sell quantity of each command that waits in the queue."""
    for content in CommandQueue.objects.filter(market=market).values_list("content", flat=True):
        for command in unpack(bytes(content)):
            sells = command.reserved_tokens + (command.lots * 1_000 if command.kind < 10 and command.side == 1 else 0)
            yield command.organization_id, command.hold_micro, sells


CHECKS: list[Check] = [
    ("positions", positions_are_trades),
    ("escrow", escrow_is_what_sellers_are_owed),
    ("annulments", annulled_auctions_are_reversed),
    ("contracts", contracts_are_positions),
    ("replacements", replacements_are_within),
    ("journals", journals_replay),
]
