"""
Which of a buyer's contracts serves a request: pure, no input, no output, no clock.

Able to serve are the routes whose model, service class and context fit, whose window is open, which do not rest after
failures, and whose contract has quantity and rate left. Of these the choice takes, in this order,

1. those that are expected to keep the latency promise (of none, the one that misses it by least);
2. the least cost: the price of the lots that the request will consume, of which take-or-pay is owed anyway, times its
   work *there*, which is less where its conversation is cached; a contract that is used up sooner than its window
   passes counts as dearer, up to what running out of it would cost;
3. the shortest wait for the first token.

Only if no contract can, a route beyond its lots is taken at list price, the cheapest first, within what is left of the
buyer's limit. Else the request is refused, with the moment from which it can be served.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ciyuan.gateway.routes import MICRO, REALTIME, Ask, Contract, Route, Ticket

#: Requests of lower classes leave this share of a real-time contract's rate to real-time requests.
KEPT_FOR_REALTIME = 0.2
#: An expected time within SAFE_SHARE of the promise is taken to keep it, if no more than QUEUE_SHARE of the promise
#: goes by waiting for other requests: what a short queue leaves room for are the bursts to come.
SAFE_SHARE, QUEUE_SHARE = 0.9, 0.3
#: Contracts may be used up this much faster than their window passes, and this share of them ahead of that, before
#: they count as dearer; over PACE_SPAN more they get as dear as what would replace them.
PACE, PACE_SLACK, PACE_SPAN = 1.1, 0.03, 0.12
#: How many times the mean demand the other contracts' rates must carry for one of them to be spared no care.
PEAKS = 6.0
#: What replaces a contract is taken to cost this many times the dearest lot where no list price is known.
SCARCE = 2
NANO_PER_MICRO = 1_000
THOUSAND = 1_000


class Why(StrEnum):
    """Why nothing can serve a request. The value is the code of the answer."""

    MODEL = "model_not_found"
    CONTEXT = "context_length_exceeded"
    SERVICE_CLASS = "service_class_not_contracted"
    WINDOW = "no_open_contract"
    USED_UP = "contracts_used_up"
    RATE = "rate_limit_exceeded"
    FAILING = "providers_unavailable"


@dataclass(frozen=True, slots=True)
class Choice:
    """
    A route for a request.

    :param cached_tokens: input tokens that the route is expected to have cached.
    :param work_micro: the expected work there. :param overage_micro_yuan: what of it is beyond the lots, at list price.
    """

    route: Route
    cached_tokens: int
    work_micro: int
    first_token_seconds: float
    token_seconds: float
    in_time: bool
    overage_micro_yuan: int = 0

    def begin(self, ask: Ask, now: float) -> Ticket:
        """Take what the request needs from the route."""
        return self.route.begin(ask, cached_tokens=self.cached_tokens, work_micro=self.work_micro, now=now)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing can serve the request now. `retry_at` is when something can, as far as is known; None: nothing will."""

    why: Why
    retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Need:
    """A request at one route: its work there, and what keeps it from being served now."""

    route: Route
    cached_tokens: int
    work_micro: int
    #: From when on the route can serve it by its lots.
    free_at: float
    beyond_micro: int

    def able_at(self, now: float) -> bool:
        return self.beyond_micro == 0 and self.free_at <= now


def choose(
    ask: Ask, routes: Iterable[Route], now: float, *, overage_left_micro_yuan: int = 0, without: Container[object] = ()
) -> Choice | Refusal:
    """
    Choose the route of a request, or say why there is none.

    :param overage_left_micro_yuan: what may still be spent at list prices.
    :param without: keys of routes that have been tried for this request already.
    """
    fitting, coming, why = _fitting(ask, routes, now)
    if not fitting:
        return Refusal(why, coming)
    needs = [_need(ask, route, now) for route in fitting if route.key not in without]
    able = [need for need in needs if need.able_at(now)]
    if able:
        if len(able) == 1:
            return _choice(ask, able[0], now)
        outlook = _outlook(fitting, now)
        return min((_rated(ask, need, now, outlook) for need in able), key=lambda rated: rated[0])[1]
    beyond = [choice for need in needs if (choice := _at_list(ask, need, now, overage_left_micro_yuan)) is not None]
    if beyond:
        return min(beyond, key=lambda choice: (choice.overage_micro_yuan, not choice.in_time, choice.route.key))
    tried = needs or [_need(ask, route, now) for route in fitting]
    return _refusal(tried, now, overage_left_micro_yuan, coming)


def choose_able(ask: Ask, routes: Iterable[Route], now: float) -> list[Route]:
    """Return the routes that can serve a request now within their lots, in no order."""
    needs = [_need(ask, route, now) for route in _fitting(ask, routes, now)[0]]
    return [need.route for need in needs if need.able_at(now)]


def _fitting(ask: Ask, routes: Iterable[Route], now: float) -> tuple[list[Route], float | None, Why]:
    """Return the routes of open contracts that fit, when the next window begins, and why there are none."""
    some = [route for route in routes if route.contract.model == ask.model]
    why = Why.MODEL
    if some and ask.rank is not None:
        rank, why = ask.rank, Why.SERVICE_CLASS
        some = [route for route in some if route.contract.rank >= rank]
    if some:
        why = Why.CONTEXT
        some = [route for route in some if ask.context_tokens <= route.contract.max_context_tokens]
    if some:
        why = Why.WINDOW
    starts = (route.contract.window_start for route in some if route.contract.window_start > now)
    return [route for route in some if route.contract.open_at(now)], min(starts, default=None), why


def _need(ask: Ask, route: Route, now: float) -> _Need:
    contract = route.contract
    cached = min(route.prefixes.cached_tokens(ask.prefix), ask.input_tokens) if ask.prefix else 0
    micro = contract.work(ask.input_tokens, cached, ask.output_tokens).total_micro_st
    kept = 0.0
    if contract.rank >= REALTIME and (ask.rank is None or ask.rank < REALTIME):
        kept = KEPT_FOR_REALTIME * contract.rate_micro
    free_at = max(contract.rate_free_at(micro + kept, now), route.rests_until)
    return _Need(route, cached, micro, free_at, max(0, micro - contract.left_micro))


def _choice(ask: Ask, need: _Need, now: float, overage_micro_yuan: int = 0) -> Choice:
    speed = need.route.speed
    first = speed.first_token_seconds(ask.input_tokens - need.cached_tokens, now)
    each = speed.token_seconds(now)
    in_time = _lateness(ask, first, each) <= SAFE_SHARE
    if in_time and ask.first_token_seconds:
        in_time = speed.queue_seconds(now) <= QUEUE_SHARE * ask.first_token_seconds
    return Choice(need.route, need.cached_tokens, need.work_micro, first, each, in_time, overage_micro_yuan)


def _lateness(ask: Ask, first: float, each: float) -> float:
    """The larger of expected ÷ promised; 0 where nothing is promised."""
    return max(
        first / ask.first_token_seconds if ask.first_token_seconds else 0.0,
        each / ask.token_seconds if ask.token_seconds else 0.0,
    )


_Order = tuple[float, float, float, tuple[int, int]]


def _rated(ask: Ask, need: _Need, now: float, outlook: _Outlook) -> tuple[_Order, Choice]:
    choice = _choice(ask, need, now)
    late = 0.0 if choice.in_time else _lateness(ask, choice.first_token_seconds, choice.token_seconds)
    return (late, _cost(need, now, outlook), choice.first_token_seconds, need.route.key), choice


def _cost(need: _Need, now: float, outlook: _Outlook) -> float:
    """What the request costs beyond what is owed anyway, in nano-yuan × micro-ST, with what running out would cost."""
    contract = need.route.contract
    price = sum(part * price for part, price in contract.next_lots(need.work_micro))
    paid = price * (THOUSAND - contract.take_or_pay_thousandths) / THOUSAND
    ahead = contract.used_share - PACE * contract.passed_share(now) - need.work_micro / max(1, contract.quantity_micro)
    hurry = min(1.0, max(0.0, (ahead - PACE_SLACK) / PACE_SPAN))
    if not hurry:
        return paid
    return paid + hurry * outlook.missed_without(contract) * max(0.0, outlook.scarce_nano * need.work_micro - paid)


@dataclass(frozen=True, slots=True)
class _Outlook:
    """
    What running out of a contract would cost.

    :param scarce_nano: the price of a token beyond the contracts: the lowest list price, at least the dearest lot.
    :param demand_micro: mean demand per minute so far. :param rates_micro: what all contracts together give per minute.
    """

    scarce_nano: int
    demand_micro: float
    rates_micro: int

    def missed_without(self, contract: Contract) -> float:
        """Return the share of peaks in demand that the other contracts' rates could not carry."""
        peak = PEAKS * self.demand_micro
        return max(0.0, 1.0 - (self.rates_micro - contract.rate_micro) / peak) if peak else 0.0


def _outlook(routes: Sequence[Route], now: float) -> _Outlook:
    contracts = {route.contract.id: route.contract for route in routes}.values()
    dearest = max((price for contract in contracts for _, price in contract.lots), default=0)
    listed = [route.list_price_nano for route in routes if route.list_price_nano is not None]
    return _Outlook(
        scarce_nano=max(min(listed, default=SCARCE * dearest), dearest),
        demand_micro=sum(contract.demand_micro(now) for contract in contracts),
        rates_micro=sum(contract.rate_micro for contract in contracts if contract.left_micro),
    )


def _at_list(ask: Ask, need: _Need, now: float, left_micro_yuan: int) -> Choice | None:
    """A route beyond its lots, where its provider has a list price and the limit allows it."""
    price = need.route.list_price_nano
    if price is None or not need.beyond_micro or need.free_at > now:
        return None
    overage = _overage_micro_yuan(need, price)
    return _choice(ask, need, now, overage) if overage <= left_micro_yuan else None


def _overage_micro_yuan(need: _Need, price_nano: int) -> int:
    return -(-need.beyond_micro * price_nano // (NANO_PER_MICRO * MICRO))


def _refusal(needs: list[_Need], now: float, overage_left_micro_yuan: int, coming: float | None) -> Refusal:
    """Say what is in the way of the route that is free first, or when the next window begins."""
    in_lots = [need for need in needs if not need.beyond_micro]
    at_list = [
        need
        for need in needs
        if need.beyond_micro
        and need.route.list_price_nano is not None
        and _overage_micro_yuan(need, need.route.list_price_nano) <= overage_left_micro_yuan
    ]
    usable = in_lots or at_list
    if not usable:
        return Refusal(Why.USED_UP, coming)
    failing = all(need.route.health.failures and need.route.health.rests_until > now for need in usable)
    why = Why.FAILING if failing else Why.RATE
    in_window = [need.free_at for need in usable if need.free_at < need.route.contract.window_end]
    return Refusal(why, min(in_window, default=coming))
