"""
What the exchange's answers become: objects with typed attributes.

Prices (¥ per standard token) and amounts (¥) are `Decimal`, times are aware datetimes, quantities are standard tokens.
`raw` and `record["name"]` hold the answer as it came, with fields that this version does not know yet.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from types import UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints


def parse_time(text: str) -> datetime:
    """An RFC 3339 time."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment


class Record:
    """Base of all answers. A field that the answer lacks is None where it may be, and an AttributeError otherwise."""

    raw: dict[str, Any]
    _readers: ClassVar[dict[str, tuple[Callable[[Any], Any], bool]] | None] = None

    def __init__(self, data: Any) -> None:
        if not isinstance(data, dict):
            raise TypeError(f"{type(self).__name__} expects an object, not {data!r:.60}")
        self.raw = data
        for name, (reader, optional) in self._fields().items():
            value = data.get(name)
            if value is not None:
                setattr(self, name, reader(value))
            elif optional:
                setattr(self, name, None)

    @classmethod
    def _fields(cls) -> dict[str, tuple[Callable[[Any], Any], bool]]:
        if "_readers" not in cls.__dict__:
            hints = get_type_hints(cls)
            cls._readers = {
                name: _reader(hint) for name, hint in hints.items() if name != "raw" and not name.startswith("_")
            }
        assert cls._readers is not None
        return cls._readers

    def __getitem__(self, name: str) -> Any:
        return self.raw[name]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Record) and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.raw!r})"


def _reader(hint: Any) -> tuple[Callable[[Any], Any], bool]:
    """How a value of this annotation is read from JSON, and whether it may be absent."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        inner = [option for option in get_args(hint) if option is not type(None)]
        reader, _ = _reader(inner[0]) if len(inner) == 1 else (_as_it_is, False)
        return reader, len(inner) < len(get_args(hint))
    if origin is list:
        item, _ = _reader(get_args(hint)[0])
        return lambda values: [item(value) for value in values], False
    if hint is datetime:
        return parse_time, False
    if hint is Decimal:
        return lambda value: Decimal(str(value)), False
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint, False
    return _as_it_is, False


def _as_it_is(value: Any) -> Any:
    return value


class Organization(Record):
    id: int
    kind: str
    name: str
    name_zh: str
    control_group: str
    status: str


class WhoAmI(Record):
    organization: Organization
    scopes: list[str]
    meter: int | None


class Key(Record):
    id: int
    organization: int
    name: str
    prefix: str
    scopes: list[str]
    meter: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewKey(Key):
    """A key with its secret, which is shown once; a repeated request gets None."""

    secret: str | None


class Accelerator(Record):
    id: int
    slug: str
    name: str
    vendor: str


class Grade(Record):
    id: int
    slug: str
    name: str
    mode: str
    standard_version: str
    take_or_pay_thousandths: int
    cached_share_thousandths: int


class Deployment(Record):
    id: int
    name: str
    grade: int | str
    accelerator: int | str
    region: str
    endpoint: str
    rated_tokens_per_minute: int


class Order(Record):
    id: str
    market: int
    side: str
    type: str
    status: str
    price: Decimal | None
    quantity: int
    filled: int | None
    remaining: int | None
    client_order_id: str | None
    created_at: datetime | None


class OrderResult(Record):
    """One command's answer of a batch: an accepted order, or the problem that refused it."""

    status: str | int
    order: Order | None
    code: str | None
    detail: str | None
    field: str | None


class Capacity(Record):
    id: int
    deployment: int
    market: int | None
    quantity: int
    tokens_per_minute: int
    reserve_price: Decimal | None
    list_price: Decimal | None
    order: Order | None


class Market(Record):
    id: int
    grade: int | str
    phase: str
    window_start: datetime
    window_end: datetime
    call_opens_at: datetime | None
    call_closes_at: datetime | None
    gate_closes_at: datetime | None
    cap_price: Decimal | None
    tick: Decimal | None


class Auction(Record):
    id: int
    market: int
    price: Decimal | None
    volume: int
    surplus: int
    rule: str


class Trade(Record):
    id: int | str
    market: int
    side: str
    price: Decimal
    quantity: int
    created_at: datetime | None


class Position(Record):
    market: int
    capacity: int | None
    position: int
    open_sell: int | None


class Contract(Record):
    id: int
    market: int | None
    kind: str
    buyer: int | str | None
    provider: int | str | None
    quantity: int
    window_start: datetime
    window_end: datetime | None


class Access(Record):
    """Where a contract is served, and the token that opens it."""

    endpoint: str
    model: str
    token: str
    window_start: datetime | None
    window_end: datetime | None
    tokens_per_minute: int


class Delivery(Record):
    contract: int
    subject: str | None
    quantity: int
    window_start: datetime
    window_end: datetime


class MeterRecord(Record):
    id: int
    name: str
    role: str
    source: str | None
    deployment: int | None
    secret: str | None


class Alias(Record):
    id: int
    subject: str
    buyer: int


class EventResult(Record):
    """accepted, duplicate, conflict or rejected, with the reason."""

    id: str
    status: str
    code: str | None
    detail: str | None
    field: str | None


class EventAnswer(Record):
    results: list[EventResult]


class RejectedEvent(Record):
    id: int | str
    code: str
    detail: str
    field: str | None
    received_at: datetime | None


class UsageRow(Record):
    """A group of usage; the columns are those that it was grouped by, and the sums."""


class Invoice(Record):
    id: int
    number: str | None
    status: str | None
    total: Decimal
    issued_at: datetime | None


class Charge(Record):
    id: str
    kind: str
    amount: Decimal | None


class Balance(Record):
    available: Decimal
    held: Decimal | None


class Deposit(Record):
    id: int | str
    amount: Decimal
    reference: str | None


class Anything(Record):
    """An answer whose fields are read by name."""
