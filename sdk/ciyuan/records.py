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


class Anything(Record):
    """An answer, or a part of one, whose members are read by name."""


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
    vendor: str
    name: str
    memory_bytes: int | None
    bandwidth_bytes_per_second: int | None
    work_units_per_byte: Decimal | None


class Model(Record):
    """A model card: the numbers that the standard token needs."""

    id: int
    slug: str
    name: str
    standard_version: str
    active_params: int
    active_weight_bytes: int
    attention: list[Any]
    total_params: int


class Grade(Record):
    id: int
    slug: str
    name: str
    name_zh: str
    model: str
    service_class: str
    region: str
    mode: str
    status: str
    standard_version: str
    take_or_pay_thousandths: int
    cached_share_thousandths: int
    grace_seconds: int
    dispute_days: int
    first_token_p95_ms: int | None
    per_token_p95_ms: int | None
    error_share_thousandths: int | None
    late_reduction_thousandths: int
    tick: Decimal
    min_order: int
    reference_price: Decimal | None
    meter_tolerance_thousandths: int
    signed_usage: bool


class Deployment(Record):
    id: int
    provider: int
    name: str
    grade: int
    grade_slug: str
    accelerator: str
    accelerator_count: int
    engine: str
    precision: str
    region: str
    endpoint: str
    rated_tokens_per_minute: int
    limit_tokens_per_minute: int
    list_price: Decimal | None
    status: str


class Certificate(Record):
    """What a deployment was measured to do; `tokens_per_minute` are standard tokens, `limit_…` 90% of them."""

    id: int
    deployment: int
    workload: str
    model: str
    engine: str
    precision: str
    accelerator: str
    accelerator_count: int
    measured_at: datetime
    valid_until: datetime
    tokens_per_minute: int
    limit_tokens_per_minute: int
    input_tokens_per_minute: int
    output_tokens_per_minute: int
    ttft_p50_ms: int
    ttft_p95_ms: int
    token_p50_us: int
    token_p95_us: int
    accelerator_ns_per_st: int
    accelerator_ns_per_st_low: int
    accelerator_ns_per_st_high: int
    parts: dict[str, Any]


class Order(Record):
    """Its `status` is pending, open, waiting, partly_filled, filled, cancelled, expired or refused."""

    id: str
    market: int
    side: str
    type: str
    status: str
    reason: str
    price: Decimal | None
    stop_price: Decimal | None
    quantity: int
    filled: int
    remaining: int
    average: Decimal | None
    cost: Decimal
    held: Decimal
    time_in_force: str
    client_order_id: str | None
    capacity: int | None
    created_at: datetime
    ended_at: datetime | None


class CommandResult(Record):
    """One command's answer of a batch: accepted with its order, or refused with the reason."""

    status: str
    order: Anything | None
    code: str | None
    detail: str | None
    field: str | None


class Capacity(Record):
    id: int
    deployment: int
    grade: int
    market: int | None
    window_start: datetime
    window_end: datetime
    quantity: int
    withdrawn: int
    tokens_per_minute: int
    reserve_price: Decimal
    list_price: Decimal
    wait: bool
    state: str
    reason: str
    order: Order | None


class Market(Record):
    id: int
    grade: int
    grade_slug: str
    window_kind: str
    window_start: datetime
    window_end: datetime
    mode: str
    phase: str
    halted: bool
    call_opens_at: datetime
    call_closes_at: datetime
    gate_closes_at: datetime
    tick: Decimal
    min_order: int
    cap_price: Decimal | None
    reference_price: Decimal | None
    sequence: int
    gate_closed_at: datetime | None
    settled_at: datetime | None


class Auction(Record):
    id: int
    market: int
    kind: str
    price: Decimal | None
    volume: int
    surplus: int
    rule: str
    reference_price: Decimal | None
    best_bid: Decimal | None
    best_ask: Decimal | None
    offered: int
    wanted: int
    buyers: int
    sellers: int
    thin: bool
    cleared_at: datetime


class PublicTrade(Record):
    id: int
    market: int
    price: Decimal
    quantity: int
    taker_side: str
    created_at: datetime


class Book(Record):
    """Levels are [price, quantity, orders], the best first; of level 3, `orders` are [order, side, price, quantity]."""

    market: int
    seq: int
    phase: str
    sealed: bool
    bids: list[Any] | None
    asks: list[Any] | None
    orders: list[Any] | None
    quote: Anything | None
    indicative: Anything | None
    checksum: int | None


class Candle(Record):
    """`volume` in tokens, `amount` in ¥."""

    time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int
    amount: Decimal
    trades: int


class MarketStatistics(Record):
    market: int
    seq: int
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    last: Decimal | None
    volume: int
    amount: Decimal
    vwap: Decimal | None
    trades: int


class SpotIndex(Record):
    """A grade's index: a price, or None and the reason why there is none."""

    grade: int
    grade_slug: str
    at: datetime
    method: str
    price: Decimal | None
    price_per_million: Decimal | None
    reason: str | None
    volume: int
    trades: int
    sellers: int
    buyers: int
    off_peak: Anything
    days: list[Anything]


class Trade(PublicTrade):
    """One's own trade."""

    side: str
    order: str
    cost: Decimal


class Position(Record):
    market: int
    capacity: int
    position: int
    open_sell: int
    sellable: int


class Lot(Record):
    number: int
    quantity: int
    price: Decimal


class Contract(Record):
    id: int
    kind: str
    market: int | None
    grade: int
    grade_slug: str
    model: str
    buyer: int
    buyer_name: str
    provider: int
    provider_name: str
    quantity: int
    tokens_per_minute: int
    window_start: datetime | None
    window_end: datetime | None
    status: str
    lots: list[Lot]


class Endpoint(Record):
    """One deployment that serves a contract."""

    deployment: int
    endpoint: str
    quantity: int
    token: str
    list_price: Decimal | None


class Access(Record):
    """Where a contract is served, and the signed token that opens it."""

    contract: int
    model: str
    endpoint: str
    token: str
    tokens_per_minute: int
    quantity: int
    window_start: datetime
    window_end: datetime
    endpoints: list[Endpoint]
    #: What the buyer allows to be spent beyond its contracts, ¥ a month.
    allows_overage: Decimal | None


class Delivery(Record):
    """Whom a provider serves: `subject` is how its meter names the contract."""

    contract: int
    subject: str
    market: int | None
    deployment: int
    deployment_name: str
    model: str
    buyer: int
    buyer_name: str
    quantity: int
    tokens_per_minute: int
    window_start: datetime
    window_end: datetime
    status: str


class ReplacementRecord(Record):
    """The contract that delivers instead, and how much."""

    contract: int
    quantity: int


class Shortfall(Record):
    """What a provider did not make available; `penalty_thousandths` is owed for what is not replaced."""

    id: int
    contract: int
    cause: str
    quantity: int
    replaced: int
    penalty_thousandths: int
    reported_at: datetime
    begins_at: datetime | None
    note: str
    replacements: list[ReplacementRecord]


class Claim(Record):
    """Failed requests that a buyer claims; `found_quantity` is what was decided, None while it is open."""

    id: int
    contract: int
    buyer: int
    provider: int
    state: str
    quantity: int
    found_quantity: int | None
    requests: list[str]
    metered: int
    note: str
    made_at: datetime
    ruling_note: str
    ruled_at: datetime | None


class ServiceMinute(Record):
    """What a gateway or guard (`side`) saw of a contract in a minute; times are its 95th percentiles."""

    minute: datetime
    side: str
    contract: int
    deployment: int
    served: int
    failed: int
    limited: int
    first_token_ms: int | None
    token_ms: int | None
    late: int
    signed: bool


class Probe(Record):
    """One of the exchange's own requests; `reason` says why it failed."""

    deployment: int
    at: datetime
    ok: bool
    reason: str
    first_token_ms: int | None
    token_ms: int | None
    output_tokens: int
    alike_thousandths: int | None


class ServiceFinding(Record):
    """What the evidence showed of a contract at a deployment: `state` is open, disputed, upheld or rejected."""

    id: int
    contract: int
    deployment: int
    buyer: int
    provider: int
    state: str
    quantity: int
    minutes: list[Any]
    late_hours: list[Any]
    claim: int | None
    found_at: datetime
    stands_from: datetime
    objections: list[Any]
    ruling_note: str
    ruled_at: datetime | None


class Exclusion(Record):
    provider: int
    provider_name: str
    since: datetime


class Unplaced(Record):
    """What an exclusion kept from being placed; `refund` is the buyer's."""

    market: int
    side: str
    quantity: int
    price: Decimal
    refund: Decimal


class Served(Record):
    """How much of a contract a deployment serves."""

    deployment: int
    quantity: int
    since: datetime


class MeterRecord(Record):
    """A registered meter; `secret` is its key, in the answer to its registration alone."""

    id: int
    organization: int
    name: str
    role: str
    deployment: int | None
    public_key: str | None
    created_at: datetime
    closed_at: datetime | None
    secret: str | None


class Alias(Record):
    id: int
    provider: int
    subject: str
    buyer: int
    buyer_name: str


class EventResult(Record):
    """accepted, duplicate, conflict or rejected, with the reason."""

    id: str | None
    status: str
    code: str | None
    detail: str | None
    field: str | None


class EventAnswer(Record):
    results: list[EventResult]


class RejectedEvent(Record):
    id: str
    meter: int
    received_at: datetime
    code: str
    field: str | None
    detail: str
    source: str
    event_id: str
    body: str
    attempts: int
    resolved_at: datetime | None


class UsageGap(Record):
    """Of a class (or “events”): what a meter recorded in an hour and what of it has arrived."""

    meter: int
    source: str
    hour: datetime
    token_class: str
    expected: int
    received: int
    missing: int
    set_aside: int
    opened_at: datetime
    closed_at: datetime | None


class ManifestRecord(Record):
    """A manifest as the exchange has it; `gaps` where it was just sent."""

    meter: int
    source: str
    log: str
    hour: datetime
    revision: int
    events: int
    sums: dict[str, int]
    state: str
    signed: bool
    received_at: datetime
    checked_at: datetime
    gaps: list[UsageGap] | None


class DiscrepancyEntry(Record):
    id: int
    kind: str
    at: datetime
    side: str | None
    text: str
    evidence: dict[str, Any] | None
    attachment: dict[str, Any] | None


class Discrepancy(Record):
    """Where the meters of a contract, hour and class are too far apart; `entries` where one is asked for alone."""

    id: int
    contract: int
    buyer: int
    provider: int
    hour: datetime
    token_class: str
    state: str
    provider_quantity: int
    buyer_quantity: int | None
    engine_quantity: int | None
    tolerance_thousandths: int
    held_quantity: int
    held_standard_tokens: Decimal
    accepted_quantity: int | None
    denied_standard_tokens: Decimal
    entries: list[DiscrepancyEntry] | None


class Comparison(Record):
    contract: int
    hour: datetime
    token_class: str
    provider: int
    buyer: int | None
    engine: int | None
    tolerance_thousandths: int
    agrees: bool


class BudgetWindow(Record):
    start: datetime
    contract: int | None
    held: Decimal
    settled: Decimal
    overrun: Decimal
    metered: Decimal
    left: Decimal
    alerts: list[Any]


class Budget(Record):
    """A limit. Its amounts are in its `unit`: standard tokens or yuan."""

    id: int
    subject: str
    key: str | None
    tag: str | None
    value: str | None
    period: str
    unit: str
    limit: Decimal
    hard: bool
    alert_thousandths: list[Any]
    closed_at: datetime | None
    windows: list[BudgetWindow]


class Authorization(Record):
    id: str
    state: str
    key: str
    tags: Any
    contract: int | None
    standard_tokens: Decimal
    used_standard_tokens: Decimal | None
    price: Decimal | None
    expires_at: datetime


class UsageRow(Record):
    """
    One group of usage: its dimensions by name (`row["class"]`), tokens (`quantity`), standard tokens, events and cost.

    `cost` is the asking side's, an `estimate` until settlement.
    """

    quantity: int
    standard_tokens: Decimal
    events: int
    cost: Decimal | None
    price: Decimal | None
    price_per_million: Decimal | None
    estimate: bool | None
    accelerator_hours: int | None
    standard_tokens_per_accelerator_hour: int | None


class DocumentLine(Record):
    number: int
    section: str
    kind: str
    scope: str
    labels: Anything
    tokens: Anything
    standard_tokens: Decimal
    price: Decimal
    amount: Decimal
    amount_exact: Decimal


class Invoice(Record):
    """An invoice, settlement statement or note; `lines` where it was asked for by itself."""

    id: int
    number: str
    kind: str
    organization: int
    refers_to: int | None
    cycle: str
    period_start: datetime
    period_end: datetime
    issued_at: datetime
    state: str
    total: Decimal
    net: Decimal
    tax: Decimal
    charges: Decimal
    rounding: Decimal
    due: Decimal
    paid: Decimal
    lines: list[DocumentLine] | None


class Charge(Record):
    """A rated line; the side that is not the caller's is None."""

    id: str
    source_key: str
    revision: int
    kind: str
    scope: str
    labels: Anything
    tokens: Anything
    standard_tokens: Decimal
    buyer: int
    provider: int
    price: Decimal | None
    amount: Decimal | None
    seller_price: Decimal | None
    seller_amount: Decimal | None
    fee: Decimal | None
    occurred_start: datetime
    occurred_end: datetime


class Balance(Record):
    organization: int
    available: Decimal
    held: Decimal
    bond: Decimal
    payable: Decimal
    receivable: Decimal


class Transfer(Record):
    id: str
    booked_at: datetime
    kind: str
    stage: str
    debit: str
    credit: str
    amount: Decimal
    excess: Decimal
    hold: str | None
    key: str
    label: str


class Deposit(Record):
    id: int
    organization: int
    amount: Decimal
    settled_debt: Decimal
    reference: str
    received_at: datetime


class Webhook(Record):
    id: int
    organization: int
    url: str
    events: list[str]
    description: str
    enabled: bool
    disabled_reason: str
    failing_since: datetime | None
    old_secret_until: datetime | None
    created_at: datetime


class NewWebhook(Webhook):
    """A webhook with its secret, which is shown once; a repeated request gets None."""

    secret: str | None


class WebhookAttempt(Record):
    at: datetime
    status: int | None
    milliseconds: int
    error: str
    answer: str


class WebhookDelivery(Record):
    """One event on its way to one webhook; `attempts` where it was asked for by itself."""

    id: str
    webhook: int
    event: str
    type: str
    occurred_at: datetime
    state: str
    tries: int
    next_try_at: datetime | None
    delivered_at: datetime | None
    attempts: list[WebhookAttempt] | None


class WebhookEvent(Record):
    id: str
    type: str
    occurred_at: datetime
    data: Anything


class PaymentReference(Record):
    organization: int
    reference: str
    account: Anything


class BankAccount(Record):
    id: int
    organization: int
    holder: str
    number: str
    bank: str
    verified_at: datetime | None
    closed_at: datetime | None
    closed_reason: str


class BankStatement(Record):
    id: int
    name: str
    imported_at: datetime
    added: int
    repeated: int
    rejected: list[Anything]


class BankLine(Record):
    """A movement at the bank; `amount` is below zero where money went out."""

    id: int
    statement: int
    reference: str
    booked_at: datetime
    amount: Decimal
    payer: str
    payer_account: str
    purpose: str
    state: str
    reason: str
    suggestion: int | None
    organization: int | None
    deposit: int | None
    payout: int | None


class Dispute(Record):
    id: int
    organization: int
    invoice: int
    invoice_number: str
    line: int
    state: str
    amount: Decimal
    held: Decimal
    credit: Decimal
    reason: str
    decision: str
    opened_at: datetime
    decided_at: datetime | None


class ClosedPeriod(Record):
    month: str
    proposed_by: str
    proposed_at: datetime
    closed_by: str
    closed_at: datetime | None
    figures: dict[str, str]


class InvoiceTitle(Record):
    id: int
    organization: int
    name: str
    tax_number: str
    bank_name: str
    bank_account: str
    monthly_kind: str
    removed_at: datetime | None


class RedInvoice(Record):
    id: int
    reference: str
    tax_invoice: int
    corrects: str | None
    note: str | None
    reason: str
    total: Decimal
    tax: Decimal
    number: str | None


class TaxInvoice(Record):
    id: int
    reference: str
    organization: int
    kind: str
    state: str
    net: Decimal
    tax: Decimal
    total: Decimal
    remark: str
    requested_at: datetime
    number: str | None
    issued_on: str | None
    refusal: str
    files: list[str]
    invoices: list[str]
    reds: list[RedInvoice]


class TaxExport(Record):
    id: int
    created_at: datetime
    tax_invoices: int
    reds: int


class Payout(Record):
    id: int
    reference: str
    kind: str
    method: str
    organization: int | None
    amount: Decimal
    state: str
    payee: str
    payee_account: str
    approvals: int
    approvals_needed: int
    requested_at: datetime
    ended_at: datetime | None
    reason: str
    batch: int | None
    deposit: int | None
    statements: list[str]


class PayoutBatch(Record):
    id: int
    created_at: datetime
    total: Decimal
    payouts: int


class TaxInvoiceMatch(Record):
    """A provider's tax invoice and where it differs from its statement."""

    id: int
    statement: int
    number: str
    total: Decimal
    tax: Decimal
    matches: bool
    differences: list[Anything]
    uploaded_at: datetime


class CardPayment(Record):
    id: int
    kind: str
    amount: Decimal
    state: str
    url: str
    reason: str
    deposit: int | None
    created_at: datetime


class BlockLeg(Record):
    market: int
    quantity: int
    order: str


class Block(Record):
    """A block over the markets of one call. `limit` is ¥ per standard token on average, `cost` and `lost_surplus` ¥."""

    id: str
    side: str
    limit: Decimal
    quantity: int
    min_quantity: int
    legs: list[BlockLeg]
    exclusive_group: str | None
    linked_to: str | None
    tokens_per_minute: int | None
    client_block_id: str
    status: str
    accepted_quantity: int
    cost: Decimal
    lost_surplus: Decimal
    created_at: datetime
    cleared_at: datetime | None


class Lease(Record):
    begun_at: datetime
    renewed_at: datetime
    expires_at: datetime
    ended_at: datetime | None


class Limits(Record):
    """Limits of an organization's orders, or the house's where `organization` is None; None is no limit."""

    organization: int | None
    order_quantity: int | None
    order_value: Decimal | None
    price_distance_thousandths: int | None
    orders_per_minute: int | None
    position_quantity: int | None


class Intervention(Record):
    """What was done to a market. `sequence` is its journal entry, None while it is due."""

    kind: str
    organization: int | None
    requested_at: datetime
    sequence: int | None
    refused: str


class MarketControls(Record):
    market: Market
    interventions: list[Intervention]


class Member(Record):
    """A person who acts for an organization: owner, trader, billing, viewer or auditor."""

    id: int
    organization: int
    email: str
    name: str
    role: str


class Change(Record):
    """A setting that was changed, as its raw value before and after."""

    field: str
    before: Any
    after: Any


class Notice(Record):
    """What everybody is told; `kind` is the verb of the operator's log, such as `market.halt`."""

    id: int
    at: datetime
    kind: str
    market: int | None
    auction: int | None
    grade_slug: str | None
    reason: str
    changes: list[Change]


class Stop(Record):
    """Trading that is stopped, in one market or (None) in all."""

    market: int | None
    reason: str
    since: datetime


class OrganizationControls(Record):
    organization: int
    stops: list[Stop]


class Annulment(Record):
    auction: int
    status: str
    reason: str
    requested_by: str
    requested_at: datetime
    confirmed_by: str
    confirmed_at: datetime | None
    refused: str


class Finding(Record):
    """What surveillance found, and the figures that the rule went by."""

    id: int
    rule: str
    market: int
    organization: int
    counterparty: int | None
    figures: Anything
    found_at: datetime


class MarketCall(Record):
    """A call of a market: the hash of its secret seed, and the seed once it has ended."""

    cause: str
    closes_at: datetime
    random_seconds: int
    extensions: int
    seed_hash: str
    seed: str | None
    ends_at: datetime | None


class QuotedPrice(Record):
    """One price of a quote: ¥ in all, ¥ per standard token on average, where it comes from and how it adds up."""

    amount: Decimal
    price: Decimal
    basis: str
    calculation: str
    quantity: int | None
    missing: int
    market: int | None


class Quote(Record):
    """What a workload is in standard tokens and costs; a price is None where there is none now."""

    at: datetime
    grade: str
    model: str
    requests: int
    standard_tokens: Decimal
    reference_price: Decimal | None
    list: QuotedPrice | None
    book: QuotedPrice | None
    off_peak: QuotedPrice | None
