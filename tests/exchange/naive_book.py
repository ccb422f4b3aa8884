"""
The order book again, in one list and without a thought for speed: what the engine is checked against.

Every question is answered by looking at all orders. Whether an order that must have a quantity would get it is found
out by trying on a copy of the whole book. Shared with the engine are only the vocabulary, the check of an order's own
terms (`refusal`), and the auction, which has an oracle of its own.
"""

import copy
from dataclasses import dataclass
from types import SimpleNamespace

from exchange.domain import orders as o
from exchange.domain.allocation import Margin, clear
from exchange.domain.orders import BUY, SELL, Cause, Event, Kind, Phase, Rare, Reason
from exchange.domain.self_trades import GroupOrder, SelfTradeMode, prevent_self_trades
from exchange.domain.sides import MARKET, asks, bids

FAR = 10**12
MODES = {0: SelfTradeMode.NONE, o.STP_NEWEST: SelfTradeMode.CANCEL_NEWEST, o.STP_OLDEST: SelfTradeMode.CANCEL_OLDEST,
         o.STP_BOTH: SelfTradeMode.CANCEL_BOTH, o.STP_DECREMENT: SelfTradeMode.DECREMENT}  # fmt: skip


@dataclass
class Resting:
    number: int
    owner: int
    side: int
    kind: int
    price: int
    open: int
    total: int
    flags: int
    age: int
    rare: Rare
    shown: int = 0
    rank: int = 0  # place in time at its price: the moment it last went to the end of its queue
    place: str = "nowhere"  # "book", "outside" or "stopped"

    @property
    def conditional(self):
        return bool(self.flags & (o.ALL_OR_NONE | o.MINIMUM))

    @property
    def group(self):
        return ("group", self.rare.group) if self.rare.group else ("owner", self.owner)

    @property
    def needs(self):
        if self.flags & o.ALL_OR_NONE or self.flags & o.TIME_IN_FORCE == o.FOK:
            return self.open
        return min(self.rare.minimum, self.open)

    @property
    def tip(self):
        return self.shown if self.rare.display else self.open

    @property
    def priority(self):
        """
        Best price, then firm before conditional, then time. Market orders of a call come first. Stops triggered
        together are of one age: of them the one that left first comes first.
        """
        key = -FAR if not self.price else -self.price if self.side == BUY else self.price
        return (key, self.conditional, self.age if self.conditional else self.rank, self.rank)

    @property
    def tick(self):
        return self.price or (MARKET if self.side == BUY else -MARKET)


class NaiveBook:
    def __init__(self, terms, phase=Phase.SCHEDULED):
        self.terms = terms
        self.phase = phase
        self.halted = False
        self.last = self.reference = self.rank = self.sequence = 0
        self.all = []
        self.events = []

    # --- looking ------------------------------------------------------------------------------------------------------

    def find(self, number):
        return next((one for one in self.all if one.number == number), None)

    def resting(self, side):
        return sorted((one for one in self.all if one.place == "book" and one.side == side), key=lambda x: x.priority)

    def firm(self, side):
        return [one for one in self.resting(side) if not one.conditional]

    def by_age(self):
        return sorted(self.all, key=lambda one: (one.age, one.number))

    @property
    def open_lots(self):
        return {one.number: one.open for one in self.all}

    def each_order(self):
        return tuple([(one.number, one.price, one.tip) for one in self.firm(side) if one.price] for side in (BUY, SELL))

    def collars(self):
        low, high = 0, FAR
        for centre, share in ((self.reference, self.terms.static_collar), (self.last, self.terms.dynamic_collar)):
            if centre and share:
                reach = max(1, centre * share // 1000)
                low, high = max(low, centre - reach), min(high, centre + reach)
        return low, high

    def worst_price(self, taker):
        if taker.price:
            return taker.price
        opposite = self.firm(1 - taker.side)
        if not self.terms.protection or not opposite:
            return self.terms.cap if taker.side == BUY else 1
        best = opposite[0].price
        reach = max(1, best * self.terms.protection // 1000)
        return min(self.terms.cap, best + reach) if taker.side == BUY else max(1, best - reach)

    def would_take(self, order, price):
        opposite = self.firm(1 - order.side)
        if self.phase != Phase.CONTINUOUS or not opposite:
            return False
        return opposite[0].price <= price if order.side == BUY else opposite[0].price >= price

    # --- the one way in -----------------------------------------------------------------------------------------------

    def apply(self, command):
        names = ("time_ns", "sequence", "order", "owner", "price", "lots", "kind", "side", "flags", "rare")
        c = SimpleNamespace(**dict(zip(names, command, strict=True)))
        c.command, c.more = command, c.rare or o.NO_RARE
        self.sequence = c.sequence
        self.events = []
        self.allowed = self.collars()
        handlers = {Kind.CANCEL: self.cancel, Kind.REPLACE: self.replace, Kind.MASS_CANCEL: self.mass_cancel,
                    Kind.LEASE_EXPIRED: self.lease, Kind.EXPIRE: self.expire, Kind.PHASE: self.set_phase,
                    Kind.UNCROSS: self.uncross, Kind.HALT: self.halt, Kind.RESUME: self.halt,
                    Kind.REFERENCE: self.set_reference, Kind.EXTEND: self.extend,
                    Kind.ANNUL: lambda c: None}  # fmt: skip
        handlers.get(c.kind, self.submit)(c)
        self.follow_up()
        return self.events

    def say(self, event, *fields):
        self.events.append((int(event), *map(int, fields)))

    # --- commands -----------------------------------------------------------------------------------------------------

    def extend(self, c):
        if self.phase == Phase.CALL:
            self.say(Event.PHASE, Phase.CALL, Phase.CALL, c.price, 0, Cause.VOLATILITY)
        else:
            self.say(Event.REFUSED, 0, 0, c.price, 0, Reason.WRONG_PHASE)

    def submit(self, c):
        reason = o.refusal(self.terms, c.command)
        if not reason and self.find(c.order):
            reason = Reason.DUPLICATE_ORDER
        if not reason and self.halted:
            reason = Reason.HALTED
        at_once = c.flags & o.TIME_IN_FORCE in (o.IOC, o.FOK)
        open_phases = [Phase.CONTINUOUS] if at_once else [Phase.CONTINUOUS, Phase.CALL]
        if not reason and self.phase not in open_phases:
            reason = Reason.WRONG_PHASE
        order = Resting(c.order, c.owner, c.side, c.kind, c.price, c.lots, c.lots, c.flags, c.sequence, c.more)
        if not reason and c.flags & o.POST_ONLY and self.would_take(order, c.price):
            reason = Reason.WOULD_TAKE
        if reason:
            self.say(Event.REFUSED, c.order, c.owner, c.price, c.lots, reason)
            return
        self.say(Event.ACCEPTED, c.order, c.owner, c.price, c.lots, c.kind)
        self.all.append(order)
        self.place(order)

    def cancel(self, c):
        order = self.find(c.order)
        if not order or c.owner not in (0, order.owner):
            self.say(Event.REFUSED, c.order, c.owner, 0, 0, Reason.ORDER_NOT_OPEN)
        else:
            self.end(order, Reason.REQUESTED)

    def replace(self, c):
        order = self.find(c.order)
        if not order or c.owner != order.owner:
            self.say(Event.REFUSED, c.order, c.owner, c.price, c.lots, Reason.ORDER_NOT_OPEN)
            return
        price, total, stop = c.price or order.price, c.lots or order.total, c.more.stop or order.rare.stop
        left = total - (order.total - order.open)
        rare = order.rare._replace(stop=stop, display=min(order.rare.display, total),
                                   minimum=min(order.rare.minimum, total))  # fmt: skip
        as_new = (c.time_ns, c.sequence, c.order, c.owner, price, total, order.kind, order.side, order.flags, rare)
        reason = o.refusal(self.terms, as_new)
        if not reason and left <= 0:
            reason = Reason.ALREADY_FILLED
        if not reason and self.halted:
            reason = Reason.HALTED
        keeps = price == order.price and left <= order.open and stop == order.rare.stop
        if not reason and not keeps and order.flags & o.POST_ONLY and self.would_take(order, price):
            reason = Reason.WOULD_TAKE
        if not reason and self.phase not in (Phase.CALL, Phase.CONTINUOUS):
            reason = Reason.WRONG_PHASE
        if reason:
            self.say(Event.REFUSED, c.order, c.owner, price, total, reason)
            return
        self.say(Event.REPLACED, c.order, c.owner, price, left, keeps)
        order.open, order.price, order.total = left, price, total
        order.rare = order.rare._replace(stop=stop)
        order.shown = min(order.shown, left)
        if not keeps:
            order.age, order.place = c.sequence, "nowhere"
            self.place(order)

    def mass_cancel(self, c):
        for order in self.by_age():
            if c.owner in (0, order.owner) and c.side in (-1, order.side):
                self.end(order, Reason.MASS_CANCEL)

    def lease(self, c):
        for order in self.by_age():
            if order.owner == c.owner and order.flags & o.CANCEL_ON_DISCONNECT:
                self.end(order, Reason.DISCONNECTED)

    def expire(self, c):
        due = [one for one in self.all if 0 < one.rare.expires_ns <= c.time_ns]
        for order in sorted(due, key=lambda one: (one.rare.expires_ns, one.number)):
            self.end(order, Reason.DUE, Event.EXPIRED)

    def halt(self, c):
        self.halted = c.kind == Kind.HALT
        self.say(Event.HALTED, self.halted, 0, 0, 0, 0)

    def set_reference(self, c):
        self.reference = c.price

    def set_phase(self, c):
        onward = {Phase.SCHEDULED: (Phase.CALL, Phase.CONTINUOUS, Phase.CLOSED), Phase.CALL: (Phase.CLOSED,),
                  Phase.UNCROSS: (Phase.CALL, Phase.CONTINUOUS, Phase.CLOSED),
                  Phase.CONTINUOUS: (Phase.CALL, Phase.CLOSED), Phase.CLOSED: ()}  # fmt: skip
        if c.lots not in onward[self.phase]:
            self.say(Event.REFUSED, 0, 0, 0, c.lots, Reason.WRONG_PHASE)
            return
        self.say(Event.PHASE, c.lots, self.phase, 0, 0, Cause.SCHEDULE)
        self.phase = Phase(c.lots)
        if self.phase == Phase.CLOSED:
            for order in self.by_age():
                self.end(order, Reason.GATE_CLOSURE, Event.EXPIRED)
        elif self.phase == Phase.CALL:
            self.begin_call()
        else:
            for order in self.by_age():
                if order.flags & o.AUCTION_ONLY:
                    order.place = "outside"
            for order in self.by_age():
                if order.flags & o.CONTINUOUS_ONLY and order.place == "outside":
                    self.come_in(order)

    def begin_call(self):
        for order in self.by_age():
            if order.flags & o.CONTINUOUS_ONLY and order.place == "book":
                order.place = "outside"
            elif order.flags & o.AUCTION_ONLY and order.place == "outside":
                self.come_in(order)

    def come_in(self, order):
        if order.flags & o.POST_ONLY and self.would_take(order, order.price):
            self.end(order, Reason.WOULD_TAKE)
        else:
            self.place(order)

    # --- auction ------------------------------------------------------------------------------------------------------

    def uncross(self, c):
        if self.phase != Phase.CALL or self.halted:
            self.say(Event.REFUSED, 0, 0, c.price, 0, Reason.HALTED if self.halted else Reason.WRONG_PHASE)
            return
        everyone = self.firm(BUY) + self.firm(SELL)
        aged = sorted(everyone, key=lambda one: (one.age, one.number))
        candidates = [
            GroupOrder(one.number, one.group, one.side == BUY, one.tick, one.open, age, MODES[one.flags & o.STP])
            for age, one in enumerate(aged)
        ]
        prevent_self_trades(candidates)
        lots = {one.order: one.lots for one in candidates}
        buys, sells = ([one for one in self.firm(side) if lots[one.number]] for side in (BUY, SELL))

        price, surplus = c.price, 0
        if c.rare is None:
            sides = []
            for make, members in ((bids, buys), (asks, sells)):
                side = make((one.price or None, lots[one.number]) for one in members)
                sides.append(side)
            sides = [self.with_shown(side, members, lots) for side, members in zip(sides, (buys, sells), strict=True)]
            margin = Margin.PRO_RATA if self.terms.pro_rata else Margin.TIME
            clearing = clear(*sides, min(c.price, self.terms.cap) or None, margin=margin)
            price, surplus = clearing.price.price_tick or 0, clearing.price.surplus_lots
            got_by_side = [*zip(buys, clearing.bid_fills, strict=True), *zip(sells, clearing.ask_fills, strict=True)]
            filled = [(one.number, int(got)) for one, got in got_by_side if got]
        else:
            filled = list(c.rare.fills)
            if not self.can_be(filled, price, lots):
                self.say(Event.REFUSED, 0, 0, price, 0, Reason.BAD_FILLS)
                return
        by_side = {side: [[n, got] for n, got in filled if self.find(n).side == side] for side in (BUY, SELL)}
        volume = sum(got for _, got in by_side[BUY])
        self.say(Event.UNCROSSED, 0, 0, price, volume, surplus)
        self.phase = Phase.UNCROSS
        for one in aged:
            taken = one.open - lots[one.number]
            if taken and taken == one.open:
                self.end(one, Reason.SELF_TRADE)
            elif taken:
                self.reduce(one, taken)
        while by_side[BUY]:
            buy, sell = by_side[BUY][0], by_side[SELL][0]
            got = min(buy[1], sell[1])
            self.say(Event.FILL, buy[0], sell[0], price, got, o.Maker.NEITHER)
            for side, pointer in ((BUY, buy), (SELL, sell)):
                self.fill(self.find(pointer[0]), got)
                pointer[1] -= got
                if not pointer[1]:
                    by_side[side].pop(0)
        if volume:
            self.last = self.reference = price
        for order in self.by_age():
            if order.kind == Kind.MARKET:
                self.end(order, Reason.UNFILLED)

    def with_shown(self, side, members, lots):
        import numpy as np

        shown = np.array([min(one.tip, lots[one.number]) for one in members], dtype=np.int64)
        return type(side)(side.ticks, side.lots, shown)

    def can_be(self, filled, price, lots):
        sums = {BUY: 0, SELL: 0}
        for number, got in filled:
            order = self.find(number)
            if not order or order.place != "book" or not 0 < got <= lots.get(number, order.open):
                return False
            if order.price and (order.price < price if order.side == BUY else order.price > price):
                return False
            sums[order.side] += got
        return sums[BUY] == sums[SELL] and len({number for number, _ in filled}) == len(filled)

    # --- matching -----------------------------------------------------------------------------------------------------

    def place(self, order):
        if order.kind in (Kind.STOP, Kind.STOP_LIMIT):
            order.place = "stopped"
        elif self.phase == Phase.CONTINUOUS:
            if order.flags & o.AUCTION_ONLY:
                order.place = "outside"
            else:
                self.take(order)
        elif order.flags & o.CONTINUOUS_ONLY:
            order.place = "outside"
        elif order.flags & o.TIME_IN_FORCE in (o.IOC, o.FOK):
            self.end(order, Reason.UNFILLED)
        else:
            self.rest(order)

    def rest(self, order):
        order.place = "book"
        self.rank += 1
        order.rank = self.rank
        order.shown = min(order.rare.display, order.open)

    def would_get(self, order):
        trial = copy.deepcopy(self)
        trial.events = []
        trial.sweep(trial.find(order.number))
        return sum(lots for event, *_, lots, _ in trial.events if event == Event.FILL)

    def take(self, order):
        order.place = "nowhere"
        if self.would_get(order) >= order.needs:
            self.sweep(order)
        if order not in self.all:
            return
        if self.phase != Phase.CONTINUOUS:
            self.place(order)
        elif order.flags & o.TIME_IN_FORCE in (o.IOC, o.FOK) or order.kind == Kind.MARKET:
            self.end(order, Reason.UNFILLED)
        else:
            self.rest(order)

    def sweep(self, taker):
        passed_by = []
        worst = self.worst_price(taker)
        mode = taker.flags & o.STP
        while taker.open:
            makers = [
                one
                for one in self.resting(1 - taker.side)
                if one not in passed_by and (one.price <= worst if taker.side == BUY else one.price >= worst)
            ]
            if not makers:
                return
            maker = makers[0]
            own = mode and maker.group == taker.group
            if not own and maker.conditional and maker.needs > taker.open:
                passed_by.append(maker)
                continue
            low, high = self.allowed
            if not low <= maker.price <= high:
                self.say(Event.PHASE, Phase.CALL, Phase.CONTINUOUS, maker.price, 0, Cause.VOLATILITY)
                self.phase = Phase.CALL
                self.begin_call()
                return
            if own and mode == o.STP_DECREMENT:
                lots = min(taker.open, maker.open)
                self.reduce(maker, lots)
                self.reduce(taker, lots)
            elif own:
                if mode in (o.STP_OLDEST, o.STP_BOTH):
                    self.end(maker, Reason.SELF_TRADE)
                if mode in (o.STP_NEWEST, o.STP_BOTH):
                    self.end(taker, Reason.SELF_TRADE)
                    return
            else:
                lots = min(taker.open, maker.tip)
                buy, sell = (taker, maker) if taker.side == BUY else (maker, taker)
                self.say(Event.FILL, buy.number, sell.number, maker.price, lots, maker.side)
                self.last = maker.price
                self.fill(taker, lots)
                self.fill(maker, lots)

    def fill(self, order, lots):
        order.open -= lots
        order.shown = max(0, order.shown - lots)
        if not order.open:
            self.all.remove(order)
        elif order.rare.display and not order.shown and order.place == "book":
            self.rest(order)
            self.say(Event.REFRESHED, order.number, order.owner, order.price, order.shown, 0)

    def reduce(self, order, lots):
        self.say(Event.REDUCED, order.number, order.owner, order.price, lots, Reason.SELF_TRADE)
        order.open -= lots
        order.shown = min(order.shown, order.open)
        if not order.open:
            self.all.remove(order)

    def end(self, order, reason, event=Event.CANCELLED):
        self.say(event, order.number, order.owner, order.price, order.open, reason)
        self.all.remove(order)
        order.open = 0

    def follow_up(self):
        while self.phase == Phase.CONTINUOUS and not self.halted:
            if self.try_conditional():
                continue
            wave = self.triggered()
            if not wave:
                return
            for order in wave:
                order.kind = Kind.MARKET if order.kind == Kind.STOP else Kind.LIMIT
                order.rare = order.rare._replace(stop=0)
                order.age, order.place = self.sequence, "nowhere"
                self.say(Event.TRIGGERED, order.number, order.owner, self.last, order.open, order.kind)
            for order in wave:
                self.place(order)

    def try_conditional(self):
        for side in (BUY, SELL):
            for order in [one for one in self.resting(side) if one.conditional]:
                if self.would_get(order) >= order.needs:
                    self.take(order)
                    return True
        return False

    def triggered(self):
        stops = [one for one in self.all if one.place == "stopped"]
        buys = [one for one in stops if one.side == BUY and self.last and one.rare.stop <= self.last]
        sells = [one for one in stops if one.side == SELL and self.last and one.rare.stop >= self.last]
        buys.sort(key=lambda one: (one.rare.stop, one.age))
        sells.sort(key=lambda one: (-one.rare.stop, one.age))
        return buys + sells
