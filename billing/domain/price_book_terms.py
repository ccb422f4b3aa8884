"""
A price book as JSON, as the API takes and stores it::

    {"minimum": "100.00", "rules": [{
        "class": "input.text", "tier": "realtime", "provider": 7, "grade": "…", "model": "…", "scheme": "length",
        "steps": [{"up_to": 0, "price": "0.000002"}, {"up_to": null, "price": "0.000004"}], "package": "50.00",
        "workday": [{"start_hour": 0, "end_hour": 9, "thousandths": 500}, …], "other_day": […]}]}

Only `class` and `steps` are needed. Prices are in ¥ a token, amounts in ¥, both as text.
"""

from collections.abc import Mapping
from typing import Any

from billing.domain.price_books import ALL_DAY, BadBook, Book, Rule, Scheme, Share, Step, check
from core.money import BadAmount, parse_price_nano, parse_yuan_micro

MOST_RULES = 2_000
_RULE_FIELDS = frozenset({
    "class", "tier", "provider", "grade", "model", "scheme", "steps", "package", "workday", "other_day",
})  # fmt: skip


def read_book(terms: object) -> Book:
    """
    Return the book that JSON terms say.

    :raises BadBook: for a gap, an overlap, an unknown or missing field or a figure that is none; it names the place.
    """
    fields = _object("terms", terms, {"rules", "minimum"}, needed={"rules"})
    rules = fields["rules"]
    if not isinstance(rules, list) or len(rules) > MOST_RULES:
        raise BadBook("rules", f"is a list of up to {MOST_RULES} rules")
    book = Book(
        tuple(_rule(f"rules.{number}", rule) for number, rule in enumerate(rules)),
        _yuan("minimum", fields.get("minimum", "0")),
    )
    check(book)
    return book


def _rule(place: str, data: object) -> Rule:
    fields = _object(place, data, _RULE_FIELDS, needed={"class", "steps"})
    texts = {name: fields.get(name, default) for name, default in (
        ("class", ""), ("tier", "realtime"), ("grade", ""), ("model", ""), ("scheme", "length"))}  # fmt: skip
    for name, text in texts.items():
        if not isinstance(text, str) or len(text) > 120:
            raise BadBook(f"{place}.{name}", "is a text of at most 120 characters")
    if texts["scheme"] not in set(Scheme):
        raise BadBook(f"{place}.scheme", f"is one of {', '.join(Scheme)}")
    provider = fields.get("provider")
    if provider is not None and (isinstance(provider, bool) or not isinstance(provider, int)):
        raise BadBook(f"{place}.provider", "is an organization's number, or null for any")
    if not isinstance(fields["steps"], list):
        raise BadBook(f"{place}.steps", "is a list")
    return Rule(
        token_class=texts["class"],
        tier=texts["tier"],
        steps=tuple(_step(f"{place}.steps.{number}", step) for number, step in enumerate(fields["steps"])),
        scheme=Scheme(texts["scheme"]),
        provider=provider,
        grade=texts["grade"],
        model=texts["model"],
        package_micro=_yuan(f"{place}.package", fields.get("package", "0")),
        workday=_day(f"{place}.workday", fields.get("workday")),
        other_day=_day(f"{place}.other_day", fields.get("other_day")),
    )


def _step(place: str, data: object) -> Step:
    fields = _object(place, data, {"up_to", "price"}, needed={"price"})
    up_to, price = fields.get("up_to"), fields["price"]
    if up_to is not None and (isinstance(up_to, bool) or not isinstance(up_to, int)):
        raise BadBook(f"{place}.up_to", "is a whole number, or null for no bound")
    if not isinstance(price, str):
        raise BadBook(f"{place}.price", "is ¥ a token as text, such as 0.000002")
    try:
        return Step(up_to, parse_price_nano(price))
    except BadAmount as error:
        raise BadBook(f"{place}.price", str(error)) from None


def _day(place: str, data: object) -> tuple[Share, ...]:
    if data is None:
        return ALL_DAY
    if not isinstance(data, list):
        raise BadBook(place, "is a list of windows")
    shares = []
    for number, window in enumerate(data):
        names = {"start_hour", "end_hour", "thousandths"}
        fields = _object(f"{place}.{number}", window, names, needed=names)
        if any(isinstance(value, bool) or not isinstance(value, int) for value in fields.values()):
            raise BadBook(f"{place}.{number}", "has whole hours and thousandths")
        shares.append(Share(**fields))
    return tuple(shares)


def _yuan(place: str, text: object) -> int:
    if not isinstance(text, str):
        raise BadBook(place, "is an amount in ¥ as text, such as 100.00")
    try:
        return parse_yuan_micro(text)
    except BadAmount as error:
        raise BadBook(place, str(error)) from None


def _object(place: str, data: object, known: set[str] | frozenset[str], *, needed: set[str]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise BadBook(place, "is an object")
    if unknown := sorted(set(data) - known):
        raise BadBook(f"{place}.{unknown[0]}", f"is unknown; there are {', '.join(sorted(known))}")
    if missing := sorted(needed - set(data)):
        raise BadBook(f"{place}.{missing[0]}", "is missing")
    return data
