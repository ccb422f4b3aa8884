"""
A million commands through book, postings, gate and settlement: cash, tokens and fees are conserved to the unit.

All arithmetic is the product's own (book, `Settling`, netting, assignment, settlement, postings), on a ledger of only
two numbers an account that only knows what a posting is. Beside it a bookkeeper counts by hand what must come of it:
every trade moves price × quantity, every order's hold is what its open lots need, nothing else exists.
"""

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from billing.domain import accounts, principal
from billing.domain.postings import Posting, Stage, check_all, net
from core.ids import uuid_of
from core.money import LOT_TOKENS
from exchange.actions.market_state import MarketState
from exchange.domain import orders as o
from exchange.domain.assignment import assign
from exchange.domain.book import Book
from exchange.domain.commands import QueuedCommand
from exchange.domain.facts import Facts
from exchange.domain.funding import buy_hold_micro, sell_hold_micro
from exchange.domain.netting import TradeFact
from exchange.domain.netting import net as net_trades
from exchange.domain.orders import BUY, SELL, Kind, MarketTerms, Phase, Rare
from exchange.domain.settling import Settling
from metering_ingest.domain.settlement import DeploymentUsage, Lot, Pot, Terms, Undelivered, settle

TICK_NANO, CAP, MID, BOND = 1_300, 4_000, 2_000, 137  # prices and a bond share that make roundings
MEMBERS, DEPOSIT_MICRO = range(1, 41), 10**16
FEE, VAT = 23, 60
SCOPE = "market:{}"
START = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)


class Ledger:
    """Balances, and nothing else: posted and held of each account."""

    def __init__(self):
        self.posted, self.held = defaultdict(int), defaultdict(int)

    def book(self, postings):
        check_all(postings)
        for account, delta in net(postings).items():
            self.posted[account] += delta.posted_micro
            self.held[account] += delta.held_micro
            assert self.held[account] >= 0, f"{account} holds less than nothing"
            free = self.posted[account] - self.held[account]
            assert account.kind.may_overdraw or free >= 0, f"{account} is overdrawn"

    def check(self):
        assert sum(self.posted.values()) == 0, "money came from nowhere"


class Trading:
    """One market: commands are accepted as the door does, taken up by the product's state, and booked."""

    def __init__(self, market, dice, ledger):
        self.market, self.dice, self.ledger = market, dice, ledger
        self.scope = SCOPE.format(market)
        terms = MarketTerms(tick_nano=TICK_NANO, cap=CAP, dynamic_collar=90, static_collar=400, protection=50)
        self.state = MarketState(market, Book(terms), Settling(market_id=market, tick_nano=TICK_NANO))
        self.now, self.made = START, 0
        self.queue, self.holds, self.mine = [], [], []
        self.trades, self.bonds = [], defaultdict(int)
        self.position, self.open_sell = defaultdict(int), defaultdict(int)

    def command(self):
        """Accept one more command: a number of thousandths of each kind."""
        dice, member = self.dice, self.dice.choice(MEMBERS)
        action = dice.random()
        self.made += 1
        id_ = (self.market << 32 | self.made).to_bytes(16, "big")
        if action < 0.27 and self.mine:
            owner, target, _ = self.mine.pop(dice.randrange(len(self.mine)))
            return QueuedCommand(id_, int(Kind.CANCEL), owner, target=target)
        if action < 0.35 and self.mine:
            owner, target, side = dice.choice(self.mine)
            return self.replace(id_, owner, target, side)
        if action < 0.3501:
            return QueuedCommand(id_, int(Kind.MASS_CANCEL), member)
        side, lots, kind = dice.choice((BUY, SELL)), dice.randint(1, 40), int(Kind.LIMIT)
        price = MID + round(dice.gauss(-8 if side == BUY else 8, 25))
        flags, rare = dice.choice((0, 0, 0, o.STP_NEWEST, o.STP_OLDEST, o.STP_BOTH, o.STP_DECREMENT)), {}
        shape = dice.random()
        if shape < 0.06:
            flags |= dice.choice((o.IOC, o.FOK))
        elif shape < 0.10:
            flags, rare["display"] = flags | o.ICEBERG, dice.randint(1, lots)
        elif shape < 0.13:
            flags |= o.ALL_OR_NONE
        elif shape < 0.16:
            flags, rare["minimum"] = flags | o.MINIMUM, dice.randint(1, lots)
        elif shape < 0.20:
            flags |= o.POST_ONLY
        elif shape < 0.24:
            kind, rare["stop"] = int(Kind.STOP_LIMIT), price
        elif shape < 0.28:
            kind, price = int(Kind.MARKET), 0
        elif shape < 0.30:
            kind, price, rare["stop"] = int(Kind.STOP), 0, MID + dice.randint(-60, 60)
        elif shape < 0.32:
            flags |= o.AUCTION_ONLY
        order = self.order(id_, kind, member, side, price, lots, flags, Rare(**rare) if rare else None)
        self.mine.append((member, id_, side))
        return order

    def order(self, id_, kind, member, side, price, lots, flags=0, rare=None):
        tokens, hold_price, covered = lots * LOT_TOKENS, (price or CAP) * TICK_NANO, 0
        if side == BUY:
            hold = buy_hold_micro(quantity_tokens=tokens, price_nano=hold_price)
        else:
            covered = max(0, min(self.position[member] - self.open_sell[member], tokens))
            self.open_sell[member] += tokens
            hold = sell_hold_micro(
                quantity_tokens=tokens, covered_tokens=covered, price_nano=hold_price, bond_thousandths=BOND)
        hold_id = self.hold(id_, member, side, hold)
        return QueuedCommand(
            id_, kind, member, side, price, lots, flags, rare, b"", hold_id, hold, hold_price, covered, BOND)

    def replace(self, id_, owner, target, side):
        price = self.dice.choice((0, MID + round(self.dice.gauss(0, 20))))
        lots = self.dice.choice((0, self.dice.randint(1, 40)))
        extra = self.dice.choice((0, 10**9))
        reserved = 0
        number = self.state.settling.numbers.get(target)
        if side == SELL and lots and number:
            live = self.state.settling.orders[number]
            had = live.filled_tokens + live.reduced_tokens + live.funding.open_tokens
            reserved = max(0, lots * LOT_TOKENS - had)
            self.open_sell[owner] += reserved
        return QueuedCommand(
            id_, int(Kind.REPLACE), owner, side, price, lots, target=target, hold_id=self.hold(id_, owner, side, extra),
            hold_micro=extra, reserved_tokens=reserved)

    def hold(self, id_, member, side, amount):
        if not amount:
            return b""
        credit = accounts.escrow(self.scope) if side == BUY else accounts.bond(member, self.scope)
        id_int = int.from_bytes(id_, "big")
        self.holds.append(Posting(
            f"order:{id_int}", "order_hold", Stage.PENDING, accounts.available(member), credit, amount,
            id=uuid_of(id_int)))
        return id_

    def take(self, count):
        """Accept and take up so many commands, book what comes of it, and let the bookkeeper look at it."""
        self.now += timedelta(milliseconds=self.dice.randint(1, 500))
        commands = [self.command() for _ in range(count)]
        self.ledger.book(self.holds)
        self.holds.clear()
        self.state.take(commands, self.now)
        if self.state.book.phase == Phase.CALL and self.dice.random() < 0.5:
            self.enter(Kind.UNCROSS, price=MID)
            self.enter(Kind.PHASE, lots=Phase.CONTINUOUS)
        self.account_for(self.state.take_facts()[0])

    def enter(self, kind, **given):
        self.state.enter(kind, self.now, **given)

    def account_for(self, facts: Facts):
        self.ledger.book([*facts.postings, *(posting for bulk in facts.bulks for posting in bulk.postings())])
        for trade in facts.trades:
            assert trade.quantity_tokens > 0 and trade.quantity_tokens % LOT_TOKENS == 0
            self.position[trade.buyer_id] += trade.quantity_tokens
            self.position[trade.seller_id] -= trade.quantity_tokens
            self.bonds[trade.seller_id] += trade.bond_micro
        for member, change in facts.positions.items():
            self.open_sell[member] += change.open_sell_tokens
        self.trades += facts.trades

    def check(self):
        """Compare the ledger with what trades and open orders say it must be."""
        buys, sells = defaultdict(int), defaultdict(int)
        open_sell = defaultdict(int)
        assert self.state.settling.orders.keys() == self.state.book.orders.keys()
        for live in self.state.settling.orders.values():
            (sells if live.selling else buys)[live.owner] += live.funding.rest_micro(buying=not live.selling)
            open_sell[live.owner] += live.selling * live.funding.open_tokens
        paid = defaultdict(int)
        for trade in self.trades:
            paid[trade.buyer_id] += trade.quantity_tokens * trade.price_nano // 1_000
        assert self.ledger.posted[accounts.escrow(self.scope)] == sum(paid.values())
        for member in MEMBERS:
            assert self.ledger.posted[accounts.bond(member, self.scope)] == self.bonds[member]
            assert self.ledger.held[accounts.available(member)] == buys[member] + sells[member]
            assert self.open_sell[member] == open_sell[member]
        assert sum(self.position.values()) == 0
        self.ledger.check()


def close_gate_and_settle(trading, dice):
    """Gate, delivery and settlement of a market; return the fees that its lines say."""
    ledger, scope = trading.ledger, trading.scope
    escrow = accounts.escrow(scope)
    facts = [TradeFact(t.id, t.buyer_id, t.seller_id, t.quantity_tokens, t.price_nano) for t in trading.trades]
    netted = net_trades(facts)
    ledger.book([
        principal.pay_offset(key=f"gate:{scope}:{member}", seller_id=member, scope=scope, amount_micro=amount)
        for member, amount in netted.offset_proceeds_micro.items()])  # fmt: skip
    contracts = assign(netted.open_buys, netted.open_sells).contracts
    bought, sold = defaultdict(int), defaultdict(int)
    for (buyer, seller), lots in contracts.items():
        bought[buyer] += sum(lot.quantity_tokens for lot in lots)
        sold[seller] += sum(lot.quantity_tokens for lot in lots)
    for member in MEMBERS:
        assert bought[member] - sold[member] == trading.position[member], "tokens were lost at the gate"

    fees, owed = 0, sum(lot.quantity_tokens * lot.seller_price_nano // 1_000 for c in contracts.values() for lot in c)
    assert ledger.posted[escrow] == owed, "escrow is not what sellers are owed"
    for (buyer, seller), prices in contracts.items():
        lots = [Lot(number, *price) for number, price in enumerate(prices, 1)]
        total = sum(lot.quantity_tokens for lot in lots)
        usage = [DeploymentUsage(1, dice.randint(0, total * 1_100_000), list_price_nano=CAP * TICK_NANO)]
        settled = settle(
            lots, usage, undelivered=dice.choice(((), (), (Undelivered(dice.randint(0, total)),))),
            terms=Terms(dice.choice((0, 333, 600, 1_000)), FEE, 10**15))
        gains = settled.pots()
        assert sum(gains.values()) == 0
        assert sum(line.quantity_micro_st for line in settled.lines) >= total * 10**6
        ledger.book(pay(gains, scope, buyer, seller))
        fees += gains[Pot.FEE]
    assert ledger.posted[escrow] == 0, "a settled market's escrow is not zero"
    ledger.book([
        principal.return_bond(key=f"end:{scope}:{member}", seller_id=member, scope=scope, amount_micro=left)
        for member in MEMBERS if (left := ledger.posted[accounts.bond(member, scope)])])  # fmt: skip
    return fees


def pay(gains, scope, buyer, seller):
    """The postings of what each pot gains: all go through the market's escrow, which nets to what it held."""
    escrow, key = accounts.escrow(scope), f"settle:{scope}:{buyer}:{seller}"
    split = principal.split_given_fee(gains[Pot.PROVIDER] + gains[Pot.FEE], gains[Pot.FEE], vat_thousandths=VAT)
    places = {
        Pot.BUYER: accounts.available(buyer), Pot.DISPUTE: accounts.dispute(seller, scope),
        Pot.COMPENSATION: accounts.receivable(seller), Pot.PENALTY: accounts.receivable(seller),
        Pot.DEFAULT_FUND: accounts.default_fund(), Pot.ROUNDING: accounts.rounding(scope),
    }  # fmt: skip
    moved = [
        principal.between(key=f"{key}:{pot}", kind="settle", debit=escrow, credit=place, amount_micro=gains[pot])
        for pot, place in places.items() if gains[pot]
    ]  # fmt: skip
    return moved + principal.pay_provider(key=key, source=escrow, provider_id=seller, scope=scope, split=split)


def run(markets, batches, size, seed=20261122):
    """Play the markets through; return how many commands and trades there were."""
    dice, ledger = random.Random(seed), Ledger()
    ledger.book([Posting(f"deposit:{m}", "deposit", Stage.POSTED, accounts.bank(), accounts.available(m), DEPOSIT_MICRO)
                 for m in MEMBERS])  # fmt: skip
    fund = Posting("fund", "deposit", Stage.POSTED, accounts.bank(), accounts.default_fund(), DEPOSIT_MICRO)
    ledger.book([fund])
    commands = trades = fees = 0
    happened = set()
    for market in range(1, markets + 1):
        trading = Trading(market, dice, ledger)
        trading.enter(Kind.PHASE, lots=Phase.CALL)
        for batch in range(batches):
            trading.take(size)
            if batch % 5 == 0:
                trading.check()
        if trading.state.book.phase == Phase.CALL:
            trading.enter(Kind.UNCROSS, price=MID)
        trading.enter(Kind.PHASE, lots=Phase.CLOSED)
        trading.account_for(trading.state.take_facts()[0])
        trading.check()
        assert not trading.state.book.orders
        assert not any(ledger.held.values()), "a hold outlived its market"
        fees += close_gate_and_settle(trading, dice)
        commands, trades = commands + trading.made, trades + len(trading.trades)
        happened |= {trading.state.settling.reductions > 0}
        ledger.check()
    kept = sum(ledger.posted[place(SCOPE.format(m))] for m in range(1, markets + 1)
               for place in (accounts.fee, accounts.vat))  # fmt: skip
    assert kept == fees > 0, "fees are not what the lines say"
    assert happened == {True}
    owned = sum(amount for account, amount in ledger.posted.items() if account != accounts.bank())
    assert owned == DEPOSIT_MICRO * (len(MEMBERS) + 1), "parties, operator and house together have what was paid in"
    return commands, trades


def test_four_thousand_commands_conserve_cash_tokens_and_fees():
    commands, trades = run(markets=2, batches=5, size=400)
    assert commands == 4_000 and trades > 500


@pytest.mark.proof
def test_a_million_commands_conserve_cash_tokens_and_fees():
    commands, trades = run(markets=20, batches=50, size=1_000)
    assert commands == 1_000_000 and trades > 100_000
