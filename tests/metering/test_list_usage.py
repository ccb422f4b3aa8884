"""List usage by the price book: the rule against a slow reading request by request, and the whole way to the ledger."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.actions.invoices import issue_invoices
from billing.actions.price_books import BadPriceBook, publish_price_book
from billing.documents.present import Presenter
from billing.documents.terms import Language
from billing.domain.accounts import available, escrow, payable
from billing.domain.price_books import Scheme
from billing.domain.price_calculation import calculation
from billing.models import Charge
from core.money import fen_round, round_half_up
from core.periods import SHANGHAI
from core.trading_calendar import is_workday
from exchange.models import DeliveryContract
from metering_ingest.actions.settlement import settle_contract
from metering_ingest.domain.classes import length_band
from metering_ingest.domain.list_usage import Beyond, Cell, ListPrices, rate_list_usage
from metering_ingest.models import ContractSettlement
from metering_ingest.rerating import latest, rerate
from providers.actions.prices import set_list_price
from tests.billing.given import given_deposit
from tests.given import NOW, given_organization
from tests.metering.test_settlement import DUE, Delivery, mine

MONDAY = datetime(2026, 11, 16, tzinfo=SHANGHAI)
NIGHT = {"start_hour": 0, "end_hour": 9, "thousandths": 500}
PRACTICE = [NIGHT, {"start_hour": 9, "end_hour": 24, "thousandths": 1000}]
HALF = [{"start_hour": 0, "end_hour": 24, "thousandths": 500}]
CLASSES = ("input.text", "input.text.cache_read", "output.text", "output.reasoning")


def prices_of(terms: dict[str, Any], cells: list[Cell]) -> ListPrices:
    return ListPrices("list", 1, terms, 1, "g", "m", "realtime", tuple(sorted(cells)))


def flat(price: str, **more: Any) -> list[dict[str, Any]]:
    return [{"class": name, "steps": [{"price": price}]} | more for name in CLASSES]


# ---- the rule ------------------------------------------------------------------------------------------------------

requests = st.lists(
    st.tuples(
        st.integers(0, 7 * 24 * 60),  # minute of the week
        st.integers(0, 200_000),  # fresh input
        st.integers(0, 40_000),  # cached
        st.integers(0, 9_000),  # output
        st.integers(1, 2),  # deployment
    ),
    min_size=1, max_size=6,
)  # fmt: skip
schemes = st.sampled_from(["length", "graduated", "volume", "package"])
some_prices = st.integers(0, 9_999).map(lambda nano: f"{nano / 10**9:.9f}")


@st.composite
def books(draw: Any) -> dict[str, Any]:
    rules = []
    for name in CLASSES[:3]:
        scheme = draw(schemes)
        bound = draw(st.integers(0, 2)) if scheme == "length" else draw(st.integers(1, 300_000))
        rule: dict[str, Any] = {
            "class": name, "scheme": scheme, "workday": draw(st.sampled_from([PRACTICE, HALF])), "other_day": HALF,
            "steps": [{"up_to": bound, "price": draw(some_prices)}, {"price": draw(some_prices)}],
        }  # fmt: skip
        if scheme == "package":
            rule["package"] = f"{draw(st.integers(1, 10**6)) / 10**6:.6f}"
        rules.append(rule)
    return {"rules": rules, "minimum": draw(st.sampled_from(["0", "0.50"]))}


def nano(text: str) -> int:
    return round(float(text) * 10**9)


def slowly(terms: dict[str, Any], asked: list[Any]) -> int:
    """What the requests cost, request by request in fractions of a micro-yuan: no cells, no work, no shared sums."""
    total = 0
    for number, rule in enumerate(terms["rules"]):
        exact, counted, shared = Fraction(0), 0, 0
        low, high = rule["steps"]
        for minute, *tokens, _ in asked:
            at = MONDAY + timedelta(minutes=minute)
            half = not is_workday(at.date()) or rule["workday"] is HALF or at.hour < 9
            share, count = Fraction(1, 2) if half else Fraction(1), tokens[number]
            counted, shared = counted + count, shared + count * share
            if rule["scheme"] == "length":
                step = low if length_band(tokens[0] + tokens[1]) <= low["up_to"] else high
                exact += count * share * nano(step["price"]) / 1000
        if rule["scheme"] != "length" and counted:
            inside = min(counted, low["up_to"])
            both = [(inside, low), (counted - inside, high)]
            if rule["scheme"] == "volume":
                both = [(counted, low if counted <= low["up_to"] else high)]
            if rule["scheme"] == "package":
                both = both[1:]
            exact = Fraction(sum(part * nano(step["price"]) for part, step in both), 1000) * shared / counted
        total += int(exact + Fraction(1, 2))
        total += round(float(rule["package"]) * 10**6) if rule["scheme"] == "package" and counted else 0
    return max(total, round(float(terms["minimum"]) * 10**6)) if any(sum(one[1:4]) for one in asked) else 0


def delivered(asked: list[Any]) -> tuple[list[Cell], list[Beyond]]:
    """The requests as the rollup sees them; a token's work is 7 for input, 1 for cached and 90 for output."""
    sums: defaultdict[tuple[Any, ...], int] = defaultdict(int)
    for minute, fresh, cached, output, deployment in asked:
        hour = (MONDAY + timedelta(minutes=minute)).astimezone(UTC).replace(minute=0).isoformat()
        for name, count in zip(CLASSES[:3], (fresh, cached, output), strict=True):
            if count:
                sums[deployment, name, hour, length_band(fresh + cached)] += count
    worth = dict(zip(CLASSES, (7, 1, 90, 0), strict=True))
    cells = [Cell(*about, count, count * worth[about[1]]) for about, count in sums.items()]
    parts = []
    for deployment in sorted({cell.deployment_id for cell in cells}):
        its = [cell for cell in cells if cell.deployment_id == deployment]
        tokens = {name: sum(c.tokens for c in its if c.token_class == name) for name in CLASSES}
        parts.append(Beyond(deployment, sum(cell.work_micro_st for cell in its), tokens))
    return cells, parts


@given(books(), requests)
def test_a_day_agrees_with_its_requests_rated_one_by_one(terms: dict[str, Any], asked: list[Any]) -> None:
    cells, parts = delivered(asked)
    bill = rate_list_usage(prices_of(terms, cells), parts, limit_micro=10**15)
    assert sum(line.amount_micro for line in bill.lines) == slowly(terms, asked)
    assert sum(line.work_micro_st for line in bill.lines) == sum(part.work_micro_st for part in parts)
    assert {line.rule: line.tokens for line in bill.lines if line.tokens} == {
        name: count for name in CLASSES if (count := sum(part.tokens[name] for part in parts))}  # fmt: skip


@given(books(), requests, st.integers(0, 10**6), st.integers(1, 1_000))
def test_a_limit_holds_and_nothing_is_lost(terms: dict[str, Any], asked: list[Any], limit: int, share: int) -> None:
    cells, whole = delivered(asked)
    parts = [
        Beyond(p.deployment_id, p.work_micro_st * share // 1_000, {n: c * share // 1_000 for n, c in p.tokens.items()})
        for p in whole
    ]
    bill = rate_list_usage(prices_of(terms, cells), parts, limit_micro=limit)
    assert sum(line.amount_micro for line in bill.lines) <= limit
    work = sum(line.work_micro_st for line in bill.lines) + bill.uncharged_micro_st
    assert work == sum(part.work_micro_st for part in parts)
    tokens = {line.rule: line.tokens for line in bill.lines}
    for name in CLASSES:
        expected = sum(part.tokens[name] for part in parts)
        assert tokens.get(name, 0) + bill.uncharged_tokens.get(name, 0) == expected
    assert min([0, *(line.amount_micro for line in bill.lines), *tokens.values()]) == 0


@given(books(), requests)
@settings(max_examples=40)
def test_what_is_stored_rates_the_same(terms: dict[str, Any], asked: list[Any]) -> None:
    cells, parts = delivered(asked)
    prices = prices_of(terms, cells)
    again = ListPrices.from_json(prices.as_json())
    assert rate_list_usage(again, parts, limit_micro=10**6) == rate_list_usage(prices, parts, limit_micro=10**6)


@given(books(), requests)
@settings(max_examples=60)
def test_the_calculation_gives_the_amount(terms: dict[str, Any], asked: list[Any]) -> None:
    """Each line's words, read as arithmetic, are its amount."""
    cells, parts = delivered(asked)
    prices = prices_of(terms, cells)
    for line in rate_list_usage(prices, parts, limit_micro=10**15).lines:
        if line.rule != "minimum":
            assert round_half_up(read_aloud(line.calculation).numerator * 10**6, read_aloud(
                line.calculation).denominator) == line.amount_micro, line  # fmt: skip


def read_aloud(text: str) -> Fraction:
    """The value of a calculation, in ¥."""
    if " for " in text:
        head, _, rest = text.partition(" for ")
        _, plus, rest = rest.partition(" + ")
        return Fraction(head.removeprefix("¥")) + (read_aloud(rest) if plus else 0)
    if text.startswith("("):
        inside, _, share = text[1:].partition(") × ")
        return read_aloud(inside) * factor(share)
    product = Fraction(0)
    for term in text.split(" + "):
        value = Fraction(1)
        for part in term.split(" × "):
            value *= factor(part)
        product += value
    return product


def factor(text: str) -> Fraction:
    plain = text.replace(",", "").removeprefix("¥")
    return Fraction(plain[:-1]) / 100 if plain.endswith("%") else Fraction(plain)


def test_a_calculation_in_words() -> None:
    from billing.domain.price_books import Rule, Share, Step, Use

    night = MONDAY + timedelta(hours=2)
    uses = [Use(1, "g", "m", "x", "realtime", night + timedelta(hours=h), 0, tokens) for h, tokens in ((0, 6), (8, 8))]
    shares = (Share(0, 9, 500), Share(9, 24, 1_000))
    made = Rule("x", "realtime", (Step(10, 2_000), Step(None, 1_000)), workday=shares)
    assert calculation(made, uses) == "6 × ¥0.000002 × 50% + 8 × ¥0.000002"
    of = {
        scheme: Rule("x", "realtime", made.steps, scheme, workday=shares, package_micro=5 * 10**6) for scheme in Scheme
    }
    assert calculation(of[Scheme.GRADUATED], uses) == "(10 × ¥0.000002 + 4 × ¥0.000001) × 11,000/14,000"
    assert calculation(of[Scheme.VOLUME], uses[1:]) == "8 × ¥0.000002"
    assert calculation(of[Scheme.PACKAGE], uses) == "¥5.00 for 10 + 4 × ¥0.000001 × 11,000/14,000"
    assert calculation(of[Scheme.PACKAGE], uses[1:]) == "¥5.00 for 10"


# ---- the way to the ledger -----------------------------------------------------------------------------------------


def publish(rules: list[dict[str, Any]], days: float, name: str = "list", **more: Any) -> None:
    at = NOW - timedelta(days=days)
    with transaction.atomic():
        publish_price_book(name=name, effective_from=at, terms={"rules": rules} | more, now=at)


def settle_day(at: datetime, now: datetime = DUE) -> int:
    standing = DeliveryContract.objects.get(kind="list")
    with transaction.atomic():
        return settle_contract(contract_id=standing.pk, at=at, now=now)


YESTERDAY = NOW - timedelta(days=1)  # Thursday, 12:00 in Shanghai


@pytest.fixture
def delivery() -> Delivery:
    """A provider with a list price of ¥5 per million standard tokens, and a buyer with ¥10."""
    made = Delivery(lots=[(1_000, 3_000, 3_000)])
    with transaction.atomic():
        set_list_price(deployment_id=made.deployment.pk, price_nano=5_000, now=NOW - timedelta(days=9))
    given_deposit(made.buyer, 10_000_000)
    return made


@pytest.mark.django_db
def test_usage_without_contract_is_charged_by_the_book_in_force_that_day(delivery: Delivery) -> None:
    publish(flat("0.00009"), days=8)
    publish(flat("0.00001", workday=PRACTICE), days=3)
    publish(flat("0.00008"), days=0.5)  # later that day: it does not reach back
    early = YESTERDAY - timedelta(hours=7)  # 05:00 in Shanghai
    delivery.report(mine(output_tokens=10_000, time=YESTERDAY.isoformat()))
    delivery.report(mine("e-2", output_tokens=20_000, time=early.isoformat()))
    assert settle_day(YESTERDAY) == 1
    assert settle_day(YESTERDAY) == 0
    charges = {row.labels["price_rule"]: row for row in Charge.objects.all()}
    output = charges["output.text"]
    assert (output.kind, output.buyer_amount_micro, output.tokens) == ("list", 200_000, {"output.text": 30_000})
    assert output.labels["price_book"] == "list v2"
    assert output.labels["calculation"] == "20,000 × ¥0.00001 × 50% + 10,000 × ¥0.00001"
    assert {name: row.buyer_amount_micro for name, row in charges.items()} == {
        "output.text": 200_000, "input.text": 900, "input.text.cache_read": 600}
    spent = 201_500
    assert delivery.micro(available(delivery.buyer.pk)) == 10_000_000 - spent
    assert delivery.micro(payable(delivery.provider.pk)) == spent - sum(row.fee_micro for row in charges.values())
    row = ContractSettlement.objects.get()
    assert row.overage_micro == spent
    assert sum(line["quantity_micro_st"] for line in row.lines) == row.work_micro_st


@pytest.mark.django_db
def test_rating_again_gives_the_same_bytes_and_the_audit_names_what_was_changed(delivery: Delivery) -> None:
    publish(flat("0.00001"), days=3, minimum="0.50")
    delivery.report(mine(output_tokens=1_000, time=YESTERDAY.isoformat()))
    settle_day(YESTERDAY)
    assert Charge.objects.get(labels__price_rule="minimum").buyer_amount_micro == 500_000 - 11_000
    delivery.report(mine("late", output_tokens=3_000, time=YESTERDAY.isoformat()), now=DUE)
    assert settle_day(YESTERDAY, DUE + timedelta(minutes=1)) == 1
    assert sum(Charge.objects.values_list("buyer_amount_micro", flat=True)) == 500_000
    first = rerate(latest())
    assert (first.settlements, first.findings) == (1, [])
    out = StringIO()
    call_command("rerate", stdout=out)
    assert f"the same bytes (sha256 {first.sha256})" in out.getvalue()
    call_command("audit")
    for sql, place in (
        ("UPDATE usage_rollup SET length_band = 3 WHERE token_class = 4", "price book and list usage"),
        ("UPDATE billing_pricebookversion SET terms = jsonb_set(terms, '{rules,2,steps,0,price}', '\"0.1\"')",
         "price book and list usage"),
        ("UPDATE metering_ingest_contractsettlement SET lines = jsonb_set(lines, '{0,calculation}', '\"1\"')",
         "line 1"),
    ):  # fmt: skip
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL session_replication_role = replica")
                cursor.execute(sql)
            found = rerate(latest()).findings
            assert [place in finding.subject for finding in found] == [True], found
            transaction.set_rollback(True)


@pytest.mark.django_db
def test_overage_of_a_contract_is_the_share_of_its_usage_beyond_the_lots(delivery: Delivery) -> None:
    publish(flat("0.00001"), days=3, minimum="5.00")
    delivery.report(mine(output_tokens=99_900, input_tokens=100, cached_input_tokens=0))
    delivery.settle()
    row = ContractSettlement.objects.filter(contract_id=delivery.contracts[0].pk).get()
    listed = Charge.objects.filter(kind="list")
    assert {charge.labels["price_rule"] for charge in listed} == {"input.text", "output.text"}  # and no minimum
    beyond = row.work_micro_st - 1_000 * 10**6
    assert sum(charge.quantity_micro_st for charge in listed) == beyond
    output = listed.get(labels__price_rule="output.text")
    expected = 99_900 - 99_900 * (1_000 * 10**6) // row.work_micro_st
    assert output.tokens == {"output.text": expected}
    assert output.buyer_amount_micro == expected * 10
    assert delivery.micro(escrow(delivery.market.scope)) == 0
    call_command("audit")


@pytest.mark.django_db
def test_what_has_no_formula_is_charged_by_the_book_even_within_the_lots(delivery: Delivery) -> None:
    storage = {"class": "cache_storage_token_hours", "steps": [{"price": "0.000001"}]}
    publish([*flat("0.00001"), storage], days=3)
    delivery.report(mine(data={"classes": {"output.text": 10, "cache_storage_token_hours": 50_000}}))
    delivery.settle()
    (line,) = Charge.objects.filter(kind="list")
    assert (line.buyer_amount_micro, line.tokens) == (50_000, {"cache_storage_token_hours": 50_000})
    assert line.quantity_micro_st == 0 and line.labels["calculation"] == "50,000 × ¥0.000001"
    used = Charge.objects.get(kind="used")
    assert "cache_storage_token_hours" not in used.tokens and used.tokens["output.text"] == 10
    call_command("audit")


@pytest.mark.django_db
def test_where_no_book_stands_the_capacitys_list_price_does(delivery: Delivery) -> None:
    publish(flat("0.00001", grade="another-grade"), days=3)
    publish(flat("0.00001"), days=3, name="for-a-what-if")
    delivery.report(mine(output_tokens=10_000, time=YESTERDAY.isoformat()))
    settle_day(YESTERDAY)
    (charge,) = Charge.objects.all()
    assert (charge.kind, charge.buyer_price_nano) == ("overage", 5_000)
    call_command("audit")


@pytest.mark.django_db
def test_beyond_the_buyers_limit_nothing_is_charged(delivery: Delivery) -> None:
    delivery.buyer.allows_overage_micro = 70_000
    delivery.buyer.save()
    publish(flat("0.00001"), days=3)
    delivery.report(mine(output_tokens=10_000, time=YESTERDAY.isoformat()))
    settle_day(YESTERDAY)
    assert sum(Charge.objects.values_list("buyer_amount_micro", flat=True)) == 70_000
    uncharged = Charge.objects.get(labels__uncharged=True)
    assert uncharged.buyer_amount_micro == 0 and uncharged.tokens["output.text"] == 3_070
    assert "of ¥0.101 the limit of ¥0.07" in Charge.objects.get(labels__price_rule="output.text").labels["calculation"]
    call_command("audit")


@pytest.mark.django_db
def test_the_bill_says_how_each_line_came_about(delivery: Delivery) -> None:
    publish(flat("0.00001"), days=3)
    delivery.report(mine(output_tokens=10_000, time=YESTERDAY.isoformat()))
    settle_day(YESTERDAY)
    given_organization("operator")
    with transaction.atomic():
        (bill,) = issue_invoices(organization_id=delivery.buyer.pk, now=DUE + timedelta(minutes=1))
    assert bill.total_micro == fen_round(101_000)
    said = {line["title"]: line for line in Presenter(bill, Language.ZH).document()["lines"]}
    (line,) = [one for one in Presenter(bill, Language.EN).document()["lines"] if "10,000 × ¥0.00001" in one["details"]]
    assert "price book list v1: output.text" in line["details"] and line["price"] == "" and said
    call_command("audit")


@pytest.mark.django_db
def test_a_list_book_prices_all_of_a_request_or_is_refused() -> None:
    with pytest.raises(BadPriceBook, match=r"gap: it prices input\.text of tier realtime, and no rule prices output"):
        publish([*flat("1")[:2], *flat("1")[3:]], days=0)
    special = [{"class": "input.text", "grade": "g", "provider": 7, "steps": [{"price": "1"}]}]
    publish([*flat("1"), *special], days=1)  # the general rules price the rest of that grade's requests
    with pytest.raises(BadPriceBook, match="of provider 7 and grade g in tier batch, and no rule prices input"):
        publish([*flat("1"), special[0] | {"tier": "batch", "class": "output.text"}], days=0)
    publish(special, days=0, name="only-for-what-ifs")
