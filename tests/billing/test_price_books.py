"""Price books: each scheme by example, gaps and overlaps refused, and what must hold of any book."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.price_book_terms import read_book
from billing.domain.price_books import (
    BadBook,
    Balance,
    Book,
    Rule,
    Scheme,
    Share,
    Step,
    Unpriced,
    Use,
    check,
    draw_down,
    rate,
    share_at,
)
from billing.models import PriceBookVersion
from core.periods import SHANGHAI
from tests.given import NOW, given_api, given_organization

NIGHT = datetime(2026, 11, 20, 2, tzinfo=SHANGHAI)
PRACTICE = (Share(0, 9, 500), Share(9, 12, 1_000), Share(12, 14, 500), Share(14, 18, 1_000), Share(18, 24, 500))
HALF = (Share(0, 24, 500),)


def rule(*steps, scheme=Scheme.LENGTH, **fields):
    made = tuple(Step(up_to, price) for up_to, price in steps)
    return Rule("input.text", "realtime", made, scheme, **fields)


def use(tokens=1_000, **fields):
    return Use(1, "g", "m", "input.text", "realtime", NIGHT, 0, tokens)._replace(**fields)


def cost(made, *uses, **book):
    whole = Book((made,), **book)
    check(whole)
    return rate(whole, uses).total_micro


def test_a_request_pays_the_step_of_its_whole_input():
    steps = rule((0, 2_000), (1, 4_000), (None, 8_000))
    assert [cost(steps, use(band=band)) for band in range(4)] == [2_000, 4_000, 8_000, 8_000]


def test_graduated_volume_and_package():
    steps = (10_000, 2_000), (None, 1_000)
    assert cost(rule(*steps, scheme=Scheme.GRADUATED), use(15_000)) == 25_000
    assert cost(rule(*steps, scheme=Scheme.VOLUME), use(15_000)) == 15_000
    assert cost(rule(*steps, scheme=Scheme.VOLUME), use(10_000)) == 20_000
    package = rule(*steps, scheme=Scheme.PACKAGE, package_micro=7_000)
    assert [cost(package, use(tokens)) for tokens in (1, 10_000, 10_500)] == [7_000, 7_000, 7_500]
    assert cost(package, use(0)) == 0


@pytest.mark.parametrize(("moment", "thousandths"), [
    ("2026-11-20T08:59", 500), ("2026-11-20T09:00", 1_000), ("2026-11-20T12:00", 500), ("2026-11-20T17:59", 1_000),
    ("2026-11-21T10:00", 500),   # a Saturday
    ("2026-10-10T10:00", 1_000),  # a Saturday worked to make up for the National Day holiday
    ("2026-10-01T10:00", 500),   # the holiday itself
])  # fmt: skip
def test_windows_follow_the_chinese_calendar(moment, thousandths):
    at = datetime.fromisoformat(moment).replace(tzinfo=SHANGHAI).astimezone(UTC)
    assert share_at(rule((None, 1_000), workday=PRACTICE, other_day=HALF), at) == thousandths


def test_the_most_specific_rule_prices_and_none_is_an_error():
    general, of_model = rule((None, 1_000)), rule((None, 2_000), model="m")
    of_grade, of_provider = rule((None, 3_000), grade="g"), rule((None, 4_000), provider=1)
    book = Book((general, of_model, of_grade, of_provider))
    assert [rate(book, [use(**about)]).total_micro for about in (
        {}, {"provider": 2}, {"provider": 2, "grade": "x"}, {"provider": 2, "grade": "x", "model": "x"})] == [
        4_000, 3_000, 2_000, 1_000]
    with pytest.raises(Unpriced, match=r"output\.text"):
        rate(book, [use(token_class="output.text")])


def test_a_period_costs_at_least_the_minimum():
    bill = rate(Book((rule((None, 1_000)),), minimum_micro=5_000), [use(1_000)])
    assert (bill.lines[0].amount_micro, bill.minimum_micro, bill.total_micro) == (1_000, 4_000, 5_000)
    assert rate(Book((rule((None, 1_000)),), minimum_micro=5_000), [use(9_000)]).minimum_micro == 0


@pytest.mark.parametrize(("made", "says"), [
    (rule((10, 1), scheme=Scheme.GRADUATED), "gap"),
    (rule((10, 1), (10, 2), (None, 3), scheme=Scheme.GRADUATED), "overlap"),
    (rule((None, 1), (None, 2)), "overlap"),
    (rule((0, 1), (3, 1), (None, 2)), "length band"),
    (rule((None, -1)), "zero or more"),
    (rule((None, 1), scheme=Scheme.PACKAGE, package_micro=1), "two steps"),
    (rule((None, 1), package_micro=1), "package"),
    (replace(rule((None, 1)), tier="fast"), "tier"),
    (rule((None, 1), workday=(Share(0, 9, 1), Share(10, 24, 1))), "gap from 09:00 to 10:00"),
    (rule((None, 1), workday=(Share(0, 9, 1), Share(8, 24, 1))), "overlaps at 08:00"),
    (rule((None, 1), other_day=(Share(0, 23, 1),)), "gap from 23:00 to 24:00"),
    (rule((None, 1), other_day=(Share(0, 25, 1),)), "after 24:00"),
    (rule((None, 1), other_day=()), "gap from 00:00 to 24:00"),
])  # fmt: skip
def test_a_gap_or_an_overlap_is_refused(made, says):
    with pytest.raises(BadBook, match=says):
        check(Book((made,)))


def test_two_rules_for_the_same_are_refused_and_so_is_an_empty_book():
    with pytest.raises(BadBook, match=r"overlaps rules\.0"):
        check(Book((rule((None, 1)), rule((None, 2)))))
    with pytest.raises(BadBook, match="at least one"):
        check(Book(()))


def test_gifts_go_before_paid_money_then_priority_then_what_expires_first():
    soon, later = NIGHT + timedelta(days=1), NIGHT + timedelta(days=9)
    balances = [
        Balance("paid", 100), Balance("gone", 100, is_gift=True, expires_at=NIGHT), Balance("b", 10, True, 1, later),
        Balance("a", 10, True, 1, soon), Balance("first", 5, True, 0, later)]
    assert draw_down(30, balances, at=NIGHT) == ([("first", 5), ("a", 10), ("b", 10), ("paid", 5)], 0)
    assert draw_down(200, balances, at=NIGHT)[1] == 75


prices = st.integers(0, 10**7)
rules = st.builds(
    lambda scheme, bound, low, high, package, workday: rule(
        (bound if scheme is not Scheme.LENGTH else bound % 3, low), (None, high), scheme=scheme,
        package_micro=package if scheme is Scheme.PACKAGE else 0, workday=workday, other_day=HALF),
    st.sampled_from(Scheme), st.integers(1, 10**7), prices, prices, st.integers(1, 10**9),
    st.sampled_from([PRACTICE, HALF, (Share(0, 24, 1_000),)]))
uses = st.lists(st.builds(
    lambda tokens, hour, band: use(tokens, hour=NIGHT + timedelta(hours=hour), band=band),
    st.integers(0, 10**7), st.integers(0, 200), st.integers(0, 3)), max_size=8)


def slowly(made, every):
    """The same in fractions, token by token where it matters: what the fast reading must agree with."""
    tokens = sum(one.tokens for one in every)
    if made.scheme is Scheme.LENGTH:
        price = [next(s.price_nano for s in made.steps if s.up_to is None or band <= s.up_to) for band in range(4)]
        exact = sum(Fraction(one.tokens * price[one.band] * share_at(made, one.hour), 10**6) for one in every)
    else:
        low, high = made.steps
        inside = min(tokens, low.up_to)
        full = {
            Scheme.GRADUATED: inside * low.price_nano + (tokens - inside) * high.price_nano,
            Scheme.VOLUME: tokens * (low if tokens <= low.up_to else high).price_nano,
            Scheme.PACKAGE: (tokens - inside) * high.price_nano,
        }[made.scheme]
        share = Fraction(sum(one.tokens * share_at(made, one.hour) for one in every), tokens) if tokens else 0
        exact = Fraction(full) * share / 10**6
    return int(exact + Fraction(1, 2)) + (made.package_micro if tokens else 0)


@given(rules, uses)
def test_any_book_agrees_with_its_slow_reading(made, every):
    assert cost(made, *every) == slowly(made, every)


@given(rules, uses, st.randoms())
def test_the_order_and_the_splitting_of_uses_make_no_difference(made, every, dice):
    split = [part for one in every for half in [dice.randint(0, one.tokens)]
             for part in (one._replace(tokens=half), one._replace(tokens=one.tokens - half))]
    dice.shuffle(split)
    assert cost(made, *split) == cost(made, *every)


@given(rules.filter(lambda made: made.scheme in (Scheme.LENGTH, Scheme.GRADUATED, Scheme.PACKAGE)), uses)
def test_using_more_never_costs_less(made, every):
    flat = replace(made, workday=HALF, other_day=HALF)  # one share: hours apart can only lower an average
    assert cost(flat, *every) <= cost(flat, *every, use(12_345))


TERMS = {"rules": [{"class": "input.text", "steps": [{"up_to": 0, "price": "0.000002"}, {"price": "0.000004"}]}]}


@pytest.mark.django_db
def test_versions_follow_each_other_and_are_never_changed(monkeypatch):
    monkeypatch.setattr("core.clock.now", lambda: NOW)
    operator, buyer = given_api(given_organization("operator")), given_api(given_organization())

    def publish(days=0, terms=TERMS, api=operator, **fields):
        effective = (NOW + timedelta(days=days)).isoformat()
        return api.post("/v1/price-books", {"name": "list-2026", "effective_from": effective, "terms": terms}, **fields)

    first = publish(key="one")
    assert (first.status_code, first.json()["version"]) == (201, 1)
    assert publish(key="one").json() == first.json()
    assert publish(days=7).json()["version"] == 2
    for days in (-1, 3, 7):
        assert publish(days=days).json()["code"] == "price-book-version-overlaps"
    gap = {"rules": [{"class": "input.text", "steps": [{"up_to": 0, "price": "0.000002"}]}]}
    refused = publish(days=9, terms=gap)
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (
        400, "bad-price-book", "rules.0.steps")
    assert publish(days=9, api=buyer).status_code == 403
    items = buyer.get("/v1/price-books?name=list-2026").json()["items"]
    assert [item["version"] for item in items] == [2, 1]
    with pytest.raises(IntegrityError), transaction.atomic():
        PriceBookVersion.objects.update(terms={})


@pytest.mark.parametrize(("terms", "field"), [
    ([], "terms"), ({"rules": 1}, "rules"), ({"rules": [{"class": "x"}]}, "rules.0.steps"),
    ({"rules": [{"class": "x", "steps": [{"price": "free"}]}]}, "rules.0.steps.0.price"),
    ({"rules": [{"class": "x", "steps": [{"price": 1}]}]}, "rules.0.steps.0.price"),
    ({"rules": [{"class": "x", "steps": [{"price": "1", "till": 2}]}]}, "rules.0.steps.0.till"),
    ({"rules": [{"class": "x", "steps": [{"price": "1"}], "scheme": "auction"}]}, "rules.0.scheme"),
    ({"rules": [{"class": "x", "steps": [{"price": "1"}], "provider": "7"}]}, "rules.0.provider"),
    ({"rules": [{"class": "x", "steps": [{"price": "1"}], "workday": [{}]}]}, "rules.0.workday.0.end_hour"),
    (TERMS | {"minimum": 5}, "minimum"), (TERMS | {"minimum": "-1"}, "minimum"),
])  # fmt: skip
def test_bad_terms_are_refused_by_the_place(terms, field):
    with pytest.raises(BadBook) as refused:
        read_book(terms)
    assert refused.value.field == field
