"""How pages write prices, money, tokens and times: whole, tabular, never truncated."""

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import uuid4

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from core import money
from core.periods import SHANGHAI

register = template.Library()

EMPTY = "—"


def _grouped(text: str) -> str:
    whole, dot, fraction = text.partition(".")
    sign = "-" if whole.startswith("-") else ""
    return f"{sign}{int(whole.lstrip('-')):,}{dot}{fraction}".replace("-", "−")


@register.filter
def yuan(amount_micro: int | None) -> str:
    """¥ with grouped digits, at least fen and all that are there: 12340000 → ¥12.34."""
    if amount_micro is None:
        return EMPTY
    text = _grouped(money.format_yuan(amount_micro))
    return f"−¥{text[1:]}" if text.startswith("−") else f"¥{text}"


@register.filter
def grouped(decimal: str, currency: str = "") -> str:
    """A decimal as documents write it, with grouped digits: 1000.00 → 1,000.00; -5.00 with ¥ → −¥5.00; "" stays."""
    text = _grouped(decimal) if decimal else ""
    return f"−{currency}{text[1:]}" if text.startswith("−") else f"{currency}{text}"


@register.filter
def price(price_nano: int | None) -> str:
    """¥ per token: 1820 → ¥0.00000182."""
    return EMPTY if price_nano is None else f"¥{money.format_price(price_nano)}"


@register.filter
def per_million(price_nano: int | None) -> str:
    """¥ per million tokens: 1820 → ¥1.82."""
    return EMPTY if price_nano is None else f"¥{_grouped(money.format_price_per_million(price_nano))}"


@register.simple_tag
def price_pair(price_nano: int | None) -> SafeString | str:
    """¥/token with ¥ per million in small below it."""
    if price_nano is None:
        return EMPTY
    return format_html(
        "<span>{}<small>{} {}</small></span>", price(price_nano), per_million(price_nano), _("per million")
    )


@register.filter
def tokens(quantity: int | None) -> str:
    """Whole standard tokens with grouped digits."""
    return EMPTY if quantity is None else f"{quantity:,}".replace("-", "−")


@register.filter
def standard_tokens(work_micro_st: int | None) -> str:
    """Metered standard tokens, to the micro where there is one."""
    return EMPTY if work_micro_st is None else _grouped(money.format_tokens(work_micro_st))


@register.filter
def short_tokens(quantity: int | None) -> str:
    """Tokens in the reader's large units, three figures: 41.6 B, in Chinese 416 亿."""
    if quantity is None:
        return EMPTY
    chinese = (get_language() or "").startswith("zh")
    units = ((10**12, "万亿"), (10**8, "亿"), (10**4, "万")) if chinese else ((10**12, "T"), (10**9, "B"), (10**6, "M"))
    for size, name in units:
        if abs(quantity) >= size:
            tenths = (abs(quantity) * 100 + size // 2) // size
            text = f"{tenths // 100:,}.{tenths % 100:02d}".rstrip("0").rstrip(".")
            return f"{'−' if quantity < 0 else ''}{text} {name}"
    return tokens(quantity)


@register.filter
def short_standard_tokens(work_micro_st: int | None) -> str:
    """Metered work in the reader's large units, whole standard tokens below them."""
    return EMPTY if work_micro_st is None else short_tokens(work_micro_st // money.MICRO_PER_TOKEN)


@register.filter
def thousandths(share: int | None) -> str:
    """A share in per cent: 386 → 38.6%."""
    if share is None:
        return EMPTY
    return f"{'−' if share < 0 else ''}{abs(share) // 10}.{abs(share) % 10}%".replace(".0%", "%")


@register.filter
def moment(at: datetime | None, style: str = "full") -> SafeString | str:
    """A time in Shanghai, with UTC on hover; style full, time or date."""
    if at is None:
        return EMPTY
    local = timezone.localtime(at, SHANGHAI)
    form = {"full": "%Y-%m-%d %H:%M:%S", "minute": "%m-%d %H:%M", "time": "%H:%M:%S", "date": "%Y-%m-%d"}[style]
    utc = at.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        utc.isoformat().replace("+00:00", "Z"),
        utc.strftime("%Y-%m-%d %H:%M:%S"),
        local.strftime(form),
    )


@register.filter
def instant(text: str) -> datetime:
    """A moment that is kept as text in a row's JSON."""
    return datetime.fromisoformat(text)


@register.filter
def clock_time(at: datetime) -> str:
    """A time of day in Shanghai as plain text, with seconds where it has some."""
    local = timezone.localtime(at, SHANGHAI)
    return local.strftime("%H:%M:%S" if local.second else "%H:%M")


@register.filter
def span(interval: timedelta) -> str:
    """A length of time in the largest unit that it is whole in: 15 s, 5 min, 4 h, 1 d."""
    seconds = int(interval.total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


@register.filter
def scope_id(scope: str, kind: str) -> str:
    """The id in an account's scope of that kind: `29` of `market:29` for `market`; empty for another."""
    name, _colon, number = scope.partition(":")
    return number if name == kind else ""


@register.simple_tag
def value_of(trade: Any) -> str:
    """What a trade's tokens cost at its price."""
    return yuan(money.cost_micro(tokens=trade.quantity_tokens, price_nano=trade.price_nano))


@register.filter(name="of")
def looked_up(key: Any, texts: dict[Any, Any]) -> Any:
    """What `texts` says of a key; the key itself where it says nothing."""
    return texts.get(key, key)


@register.filter
def named(row: Any) -> str:
    """The name of something that has a Chinese one too, in the reader's language."""
    chinese = getattr(row, "name_zh", "")
    return chinese if chinese and (get_language() or "").startswith("zh") else getattr(row, "name", "")


@register.filter
def setting(value: Any) -> str:
    """A setting as it stands in the log: numbers grouped, a switch in words, nothing as a dash, the rest as JSON."""
    if value is None or value == "":
        return EMPTY
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, int):
        return tokens(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@register.simple_tag
def new_key() -> str:
    """A key for one showing of a form, so that sending it twice does it once."""
    return str(uuid4())


@register.simple_tag
@lru_cache(maxsize=1_024)  # a page's rows name the same few windows
def window(start: datetime, end: datetime) -> SafeString:
    """A delivery window in Shanghai: 2026-11-20 00:00–09:00, with UTC on hover."""
    return format_html(
        '<span class="n" title="{} – {} UTC">{}</span>',
        start.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        end.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        window_text(start, end),
    )


def window_text(start: datetime, end: datetime) -> str:
    """Return a delivery window in Shanghai as plain text."""
    first, last = timezone.localtime(start, SHANGHAI), timezone.localtime(end, SHANGHAI)
    seconds = "%H:%M:%S" if first.second or last.second else "%H:%M"
    same_day = first.date() == last.date()
    midnight = not same_day and (last - first).days <= 1 and last.strftime("%H%M%S") == "000000"
    tail = last.strftime(seconds) if same_day else ("24:00" if midnight else last.strftime(f"%m-%d {seconds}"))
    return f"{first.strftime(f'%Y-%m-%d {seconds}')}–{tail}"
