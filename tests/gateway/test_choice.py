"""The choice of a contract, held to rules that anybody would expect of it."""

import pytest
from ciyuan.gateway.choice import KEPT_FOR_REALTIME, Choice, Refusal, Why, choose
from ciyuan.gateway.routes import MICRO, RANKS, Ask, Contract, Route
from ciyuan.standard_token import REFERENCE_7B, work_function
from hypothesis import given, settings
from hypothesis import strategies as st

WORK = work_function(REFERENCE_7B)
HOUR = 3_600.0
ASK = Ask(model="m", input_tokens=1_000, output_tokens=200)


def given_route(number=1, *, price=2_000, quantity=1_000_000, rate=60_000, rank=0, top=0, start=0.0, end=HOUR, used=0,
                context=32_768, model="m", lots=None, list_price=None) -> Route:  # fmt: skip
    contract = Contract(
        id=number, model=model, rank=rank, window_start=start, window_end=end,
        lots=lots or ((quantity * MICRO, price),), tokens_per_minute=rate, max_context_tokens=context,
        take_or_pay_thousandths=top, work=WORK, used_micro=used * MICRO,
    )  # fmt: skip
    return Route(contract, deployment=number, list_price_nano=list_price)


def chosen(answer) -> int:
    assert isinstance(answer, Choice), answer
    return answer.route.contract.id


def refused(answer) -> Refusal:
    assert isinstance(answer, Refusal), answer
    return answer


def test_takes_the_cheapest_of_equals():
    assert chosen(choose(ASK, [given_route(1, price=3_000), given_route(2, price=2_000)], now=1.0)) == 2


def test_looks_at_the_lot_that_is_consumed_next_not_at_the_first():
    lots = ((100 * MICRO, 1_000), (100_000 * MICRO, 5_000))
    routes = [given_route(1, lots=lots, used=100), given_route(2, price=2_000)]
    assert chosen(choose(ASK, routes, now=1.0)) == 2


def test_what_is_owed_anyway_is_no_reason_against_a_contract():
    assert chosen(choose(ASK, [given_route(1, price=3_000, top=800), given_route(2, price=2_000, top=0)], now=1.0)) == 1


def test_keeps_a_conversation_where_its_cache_is_even_at_a_higher_price():
    routes = [given_route(1, price=3_000), given_route(2, price=2_000)]
    conversation = Ask(model="m", input_tokens=4_000, output_tokens=50, prefix=(("a", 2_000), ("b", 3_900)))
    routes[0].prefixes.remember(conversation.prefix)
    answer = choose(conversation, routes, now=1.0)
    assert chosen(answer) == 1
    assert answer.cached_tokens == 3_900
    another = Ask(model="m", input_tokens=4_000, output_tokens=50, prefix=(("c", 2_000),))
    assert chosen(choose(another, routes, now=1.0)) == 2


def test_pays_more_where_the_cheap_one_would_be_late():
    routes = [given_route(1, price=2_000), given_route(2, price=3_000)]
    for moment in range(20):
        routes[0].speed.prefill.observe(1_000, 4.0, float(moment))
    hurried = Ask(model="m", input_tokens=1_000, output_tokens=200, first_token_seconds=1.0)
    assert chosen(choose(hurried, routes, now=20.0)) == 2
    assert chosen(choose(ASK, routes, now=20.0)) == 1  # nobody waits for it
    assert chosen(choose(hurried, routes[:1], now=20.0)) == 1  # late is better than not at all
    assert chosen(choose(hurried, routes, now=20.0 + 600)) == 1  # and forgotten in time


def test_uses_a_contract_no_sooner_than_its_window_passes():
    routes = [given_route(1, price=2_000, used=300_000, rate=300_000), given_route(2, price=2_100, rate=20_000)]
    assert chosen(choose(ASK, routes, now=60.0)) == 2
    assert chosen(choose(ASK, routes, now=HOUR * 0.5)) == 1


def test_leaves_a_route_alone_that_failed_and_comes_back_to_it():
    routes = [given_route(1, price=2_000), given_route(2, price=3_000)]
    ticket = choose(ASK, routes, now=1.0).begin(ASK, 1.0)
    routes[0].fail(ticket, 1.5)
    assert chosen(choose(ASK, routes, now=1.6)) == 2
    assert chosen(choose(ASK, routes, now=3.0)) == 1
    assert routes[0].contract.reserved_micro == 0


def test_takes_overage_only_without_a_contract_and_within_its_limit():
    spent = given_route(1, used=1_000_000, list_price=5_000)
    other = given_route(2, price=4_999)
    work = WORK(1_000, 0, 200).total_micro_st
    cost = -(-work * 5_000 // (1_000 * MICRO))
    assert chosen(choose(ASK, [spent, other], now=1.0, overage_left_micro_yuan=10**9)) == 2
    answer = choose(ASK, [spent], now=1.0, overage_left_micro_yuan=cost)
    assert answer.overage_micro_yuan == cost
    assert refused(choose(ASK, [spent], now=1.0, overage_left_micro_yuan=cost - 1)) == Refusal(Why.USED_UP)
    later = given_route(3, start=HOUR, end=2 * HOUR)
    assert refused(choose(ASK, [spent, later], now=1.0)) == Refusal(Why.USED_UP, HOUR)


@pytest.mark.parametrize(
    ("ask", "route", "why"),
    [
        (Ask("other", 10, 10), {}, Refusal(Why.MODEL)),
        (Ask("m", 10, 10, rank=RANKS["realtime"]), {}, Refusal(Why.SERVICE_CLASS)),
        (Ask("m", 32_000, 10, most_output_tokens=800), {}, Refusal(Why.CONTEXT)),
        (ASK, {"start": 100.0}, Refusal(Why.WINDOW, 100.0)),
        (ASK, {"end": 5.0}, Refusal(Why.WINDOW)),
    ],
)
def test_says_why_nothing_can_serve(ask, route, why):
    assert refused(choose(ask, [given_route(1, **route)], now=10.0)) == why


def test_says_when_the_rate_is_free_again():
    route = given_route(1, rate=600)
    ask = Ask("m", 0, 500)
    first = choose(ask, [route], now=0.0)
    first.begin(ask, 0.0)
    answer = refused(choose(ask, [route], now=0.0))
    assert answer.why is Why.RATE
    missing = 2 * first.work_micro - 600 * MICRO
    assert answer.retry_at == pytest.approx(missing / (600 * MICRO) * 60)


def test_keeps_a_share_of_a_real_time_contract_for_real_time():
    route = given_route(1, rate=1_000, rank=RANKS["realtime"])
    route.contract.take_rate(int((1 - KEPT_FOR_REALTIME) * 1_000 * MICRO), 0.0)
    small = {"model": "m", "input_tokens": 0, "output_tokens": 50}
    assert refused(choose(Ask(**small, rank=0), [route], now=0.0)).why is Why.RATE
    assert chosen(choose(Ask(**small, rank=RANKS["realtime"]), [route], now=0.0)) == 1


# -- whatever the fleet -----------------------------------------------------------------------------------------------

routes_strategy = st.lists(
    st.fixed_dictionaries(
        {
            "price": st.integers(100, 10_000),
            "quantity": st.sampled_from([0, 1, 200, 1_000, 100_000]),
            "rate": st.sampled_from([1, 300, 2_000, 60_000]),
            "rank": st.integers(0, 1),
            "top": st.integers(0, 1_000),
            "start": st.sampled_from([0.0, 100.0]),
            "end": st.sampled_from([60.0, HOUR]),
            "used": st.sampled_from([0, 100, 900]),
            "context": st.sampled_from([1_000, 32_768]),
            "model": st.sampled_from(["m", "m", "n"]),
            "list_price": st.none() | st.integers(100, 20_000),
        }
    ),
    max_size=4,
).map(lambda rows: [given_route(number, **row) for number, row in enumerate(rows, start=1)])
asks = st.builds(
    Ask, model=st.just("m"), input_tokens=st.integers(0, 3_000), output_tokens=st.integers(1, 500),
    rank=st.none() | st.integers(0, 1), first_token_seconds=st.none() | st.floats(0.05, 3.0),
)  # fmt: skip
moments = st.sampled_from([0.0, 30.0, 99.0, 100.0, 2_000.0])


def plainly_able(ask: Ask, route: Route, now: float) -> bool:
    """Whether a route can serve within its lots, written as the rules are told."""
    contract = route.contract
    work = WORK(ask.input_tokens, 0, ask.output_tokens).total_micro_st
    kept = KEPT_FOR_REALTIME * contract.rate_micro if contract.rank == 1 and ask.rank != 1 else 0
    has_rate = contract.rate_left_micro(now) >= min(work + kept, contract.rate_micro)
    return (
        contract.model == ask.model
        and (ask.rank is None or contract.rank >= ask.rank)
        and ask.input_tokens + ask.output_tokens <= contract.max_context_tokens
        and contract.window_start <= now < contract.window_end
        and contract.quantity_micro - contract.used_micro >= work
        and has_rate
    )


@given(ask=asks, routes=routes_strategy, now=moments, overage=st.sampled_from([0, 100, 10**9]))
@settings(max_examples=30)
def test_serves_by_a_contract_exactly_if_one_is_able(ask, routes, now, overage):
    able = {route.contract.id for route in routes if plainly_able(ask, route, now)}
    answer = choose(ask, routes, now, overage_left_micro_yuan=overage)
    if able:
        assert chosen(answer) in able
        assert answer.overage_micro_yuan == 0
    elif isinstance(answer, Choice):
        assert answer.route.list_price_nano is not None
        assert 0 < answer.overage_micro_yuan <= overage


@given(ask=asks, routes=routes_strategy, now=moments)
@settings(max_examples=30)
def test_a_refusal_holds_until_its_moment_and_not_longer(ask, routes, now):
    answer = choose(ask, routes, now)
    if isinstance(answer, Refusal) and answer.retry_at is not None:
        assert answer.retry_at > now
        early = now + (answer.retry_at - now) * 0.9
        if answer.why is not Why.USED_UP:  # what is used up now may be bought for the next window
            assert isinstance(choose(ask, routes, early), Refusal)
        if answer.why is Why.RATE:
            assert isinstance(choose(ask, routes, answer.retry_at + 1e-3), Choice)


@given(routes=routes_strategy, ask=asks, cheaper=st.integers(1, 99))
@settings(max_examples=30)
def test_does_not_prefer_what_only_costs_more(routes, ask, cheaper):
    answer = choose(ask, routes, 30.0)
    if isinstance(answer, Refusal) or answer.overage_micro_yuan:
        return
    best = answer.route.contract
    twin = given_route(
        99, price=max(1, best.lots[0][1] - cheaper), quantity=best.quantity_micro // MICRO, rate=best.tokens_per_minute,
        rank=best.rank, top=best.take_or_pay_thousandths, start=best.window_start, end=best.window_end,
        used=best.used_micro // MICRO, context=best.max_context_tokens,
    )  # fmt: skip
    if best.take_or_pay_thousandths < 1_000 and best.used_share <= best.passed_share(30.0):
        assert chosen(choose(ask, [*routes, twin], 30.0)) == 99


ends = st.sampled_from(["finish", "fail", "busy"])


@given(asked=st.lists(st.tuples(asks, ends), max_size=8), routes=routes_strategy)
@settings(max_examples=30)
def test_gives_back_all_that_it_took(asked, routes):
    before = {route.key: route.contract.used_micro for route in routes}
    now, spent = 0.0, dict.fromkeys(before, 0)
    for ask, end in asked:
        now += 5.0
        answer = choose(ask, routes, now)
        if isinstance(answer, Refusal):
            continue
        ticket = answer.begin(ask, now)
        if end == "finish":
            answer.route.first_token(ticket, now + 0.2)
            answer.route.finish(ticket, used_micro=answer.work_micro // 2, output_tokens=5, now=now + 1.0)
            spent[answer.route.key] += answer.work_micro // 2
        else:
            answer.route.fail(ticket, now + 1.0, retry_after=3.0 if end == "busy" else None)
        answer.route.fail(ticket, now + 2.0)  # a second end changes nothing
    for route in routes:
        assert route.contract.used_micro == before[route.key] + spent[route.key]
        assert route.contract.reserved_micro == route.speed.in_flight == route.speed.waiting_input_tokens == 0
        assert route.contract.rate_left_micro(now + 1e6) == route.contract.rate_micro
