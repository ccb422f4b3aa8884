"""
FOCUS 1.2 cost-and-usage rows (FinOps Open Cost and Usage Specification): pure, a row per charge of a buyer's document.

How our terms stand in FOCUS's columns:

- `PricingQuantity` is in standard tokens and `ContractedUnitPrice` in ¥ a standard token; their product is exact.
  `ConsumedQuantity` counts raw tokens. Market prices have no list price beside them: `ListUnitPrice` is the contract's.
- All amounts contain VAT; `x_VatPercent` says how much. `BilledCost` is exact in micro-yuan, and a row of its own
  (`Adjustment`) rounds each document to the fen, so that the sum for an `InvoiceId` is the document's total.
- What take-or-pay keeps for unused tokens is usage of no raw tokens; penalties and the like are `Adjustment`s.
- A line of a credit or debit note is a `Correction`.
- The billing period is the calendar month in Shanghai in which the document's period begins.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from billing.domain.charges import ChargeKind, Label
from billing.domain.token_classes import ORDER, raw_tokens, shown
from core.money import MICRO_PER_TOKEN, MICRO_PER_YUAN, NANO_PER_YUAN, exact_decimal, format_tokens, format_yuan
from core.periods import shanghai_date, shanghai_month

COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency",
    "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription",
    "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "CommitmentDiscountStatus", "ConsumedQuantity",
    "ConsumedUnit", "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName",
    "ListCost", "ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit",
    "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType",
    "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId",
    "Tags", "x_ChargeKind", "x_SourceKey", "x_Revision", "x_Contract", "x_Lot", "x_Market", "x_Auction",
    "x_InputTokens", "x_CachedInputTokens", "x_OutputTokens", "x_OtherTokens", "x_VatPercent", "x_StandardVersion",
)  # fmt: skip
UNIT = "Tokens"
_USAGE = frozenset({
    ChargeKind.USED, ChargeKind.UNUSED, ChargeKind.OVERAGE, ChargeKind.LIST, ChargeKind.UNDELIVERED,
    ChargeKind.DISPUTED,
})  # fmt: skip
_COSTS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "PricingCurrencyEffectiveCost")
_NOTHING_DUE = frozenset({ChargeKind.UNDELIVERED, ChargeKind.DISPUTED})
_DESCRIPTIONS = {
    ChargeKind.USED: "Delivered inference",
    ChargeKind.UNUSED: "Unused tokens, share kept by take-or-pay",
    ChargeKind.UNDELIVERED: "Undelivered tokens, not charged",
    ChargeKind.OVERAGE: "Usage beyond contract at list price",
    ChargeKind.LIST: "Usage at list price",
    ChargeKind.DISPUTED: "Usage in dispute, not charged",
}


class FocusDocument(NamedTuple):
    """What the rows of one document share. Names are printable ASCII."""

    number: str
    issuer: str
    account_id: str
    account: str
    is_note: bool
    period_start: datetime
    issued_at: datetime
    rounding_micro: int


class FocusCharge(NamedTuple):
    """The buyer's side of one charge."""

    source_key: str
    revision: int
    kind: str
    provider: str
    labels: Mapping[str, Label]
    tokens: Mapping[str, int]
    quantity_micro_st: int
    price_nano: int
    amount_micro: int
    vat_thousandths: int
    start: datetime
    end: datetime


def charge_row(document: FocusDocument, charge: FocusCharge) -> dict[str, str]:
    """Return the row of one charge; a column left out is null."""
    labels, tokens = charge.labels, shown(charge.tokens)
    usage = charge.kind in _USAGE
    grade = str(labels.get("grade") or "tokens")
    described = _DESCRIPTIONS.get(ChargeKind(charge.kind), charge.kind.replace("_", " ").capitalize())
    row = _shared(document) | {
        "BilledCost": format_yuan(charge.amount_micro),
        "EffectiveCost": format_yuan(charge.amount_micro),
        "PricingCurrencyEffectiveCost": format_yuan(charge.amount_micro),
        "ChargeCategory": "Usage" if usage else "Adjustment",
        "ChargeClass": "Correction" if document.is_note else "",
        "ChargeDescription": f"{described}: {labels.get('model') or grade}",
        "ChargeFrequency": "Usage-Based" if usage else "One-Time",
        "ChargePeriodStart": moment(charge.start),
        "ChargePeriodEnd": moment(charge.end),
        "ListCost": format_yuan(charge.amount_micro),
        "ContractedCost": format_yuan(charge.amount_micro),
        "PublisherName": charge.provider,
        "Tags": json.dumps({"contract": str(labels["contract"])}) if labels.get("contract") else "",
        "x_ChargeKind": charge.kind,
        "x_SourceKey": charge.source_key,
        "x_Revision": str(charge.revision),
        "x_Contract": _text(labels.get("contract")),
        "x_Lot": _text(labels.get("lot")),
        "x_Market": _text(labels.get("market")),
        "x_Auction": _text(labels.get("auction")),
        "x_InputTokens": str(tokens.get("input", 0)),
        "x_CachedInputTokens": str(tokens.get("cached_input", 0)),
        "x_OutputTokens": str(tokens.get("output", 0) + tokens.get("reasoning", 0)),
        "x_OtherTokens": str(raw_tokens({name: n for name, n in tokens.items() if name not in ORDER})),
        "x_VatPercent": f"{charge.vat_thousandths / 10:g}",
        "x_StandardVersion": _text(labels.get("standard_version")),
    }
    if usage:
        row |= _priced(charge, grade) | {"ConsumedQuantity": f"{raw_tokens(charge.tokens)}.0", "ConsumedUnit": UNIT}
    if labels.get("deployment"):
        row |= {"ResourceId": f"deployment/{labels['deployment']}", "ResourceType": "Inference deployment"}
    return row


def _priced(charge: FocusCharge, grade: str) -> dict[str, str]:
    if charge.kind == ChargeKind.LIST:
        return _priced_whole(charge, grade)
    quantity = 0 if charge.kind in _NOTHING_DUE else charge.quantity_micro_st
    cost = exact_decimal(quantity * charge.price_nano, MICRO_PER_TOKEN * NANO_PER_YUAN)
    price = exact_decimal(charge.price_nano, NANO_PER_YUAN)
    terms = "list" if charge.kind == ChargeKind.OVERAGE else "market"
    return {
        "PricingCategory": "Dynamic",
        "PricingQuantity": format_tokens(quantity),
        "PricingUnit": UNIT,
        "ContractedUnitPrice": price,
        "PricingCurrencyContractedUnitPrice": price,
        "PricingCurrencyListUnitPrice": price,
        "ContractedCost": cost,
        "ListUnitPrice": price,
        "ListCost": cost,
        "SkuId": grade,
        "SkuPriceId": f"{grade}/{terms}",
        "SkuMeter": "Standard tokens",
        "SkuPriceDetails": json.dumps({"x_StandardVersion": str(charge.labels.get("standard_version") or "ST")}),
    }


def _priced_whole(charge: FocusCharge, grade: str) -> dict[str, str]:
    """What a price book rated by steps and windows has no one price: it is one unit at its amount."""
    cost = exact_decimal(charge.amount_micro, MICRO_PER_YUAN)
    price = exact_decimal(abs(charge.amount_micro), MICRO_PER_YUAN)
    rule = str(charge.labels.get("price_rule") or "list")
    return {
        "PricingCategory": "Dynamic",
        "PricingQuantity": "-1.0" if charge.amount_micro < 0 else "1.0",
        "PricingUnit": "Units",
        "ContractedUnitPrice": price,
        "PricingCurrencyContractedUnitPrice": price,
        "PricingCurrencyListUnitPrice": price,
        "ContractedCost": cost,
        "ListUnitPrice": price,
        "ListCost": cost,
        "SkuId": grade,
        "SkuPriceId": f"{grade}/{charge.labels.get('price_book') or 'list'}/{rule}",
        "SkuMeter": rule,
        "SkuPriceDetails": json.dumps({"x_Calculation": str(charge.labels.get("calculation") or "").replace("×", "x")
                                       .replace("¥", "CNY ")}),
    }


def rounding_row(document: FocusDocument) -> dict[str, str]:
    """Return the row that rounds a document to the fen."""
    amount = format_yuan(document.rounding_micro)
    costs = dict.fromkeys(_COSTS, amount)
    period = shanghai_month(shanghai_date(document.period_start))
    return _shared(document) | costs | {
        "ChargeCategory": "Adjustment",
        "ChargeClass": "Correction" if document.is_note else "",
        "ChargeDescription": f"Rounding of {document.number} to the fen",
        "ChargeFrequency": "One-Time",
        "ChargePeriodStart": moment(period.start),
        "ChargePeriodEnd": moment(period.end),
        "PublisherName": document.issuer,
        "x_ChargeKind": "rounding",
    }  # fmt: skip


def _shared(document: FocusDocument) -> dict[str, str]:
    period = shanghai_month(shanghai_date(document.period_start))
    return {
        "BillingAccountId": document.account_id,
        "BillingAccountName": document.account,
        "BillingAccountType": "Organization",
        "BillingCurrency": "CNY",
        "PricingCurrency": "CNY",
        "BillingPeriodStart": moment(period.start),
        "BillingPeriodEnd": moment(period.end),
        "InvoiceId": document.number,
        "InvoiceIssuerName": document.issuer,
        "ProviderName": document.issuer,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Inference tokens",
        "ServiceSubcategory": "Generative AI",
    }


def moment(at: datetime) -> str:
    """Return a time as FOCUS writes it: UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(label: Label) -> str:
    return "" if label is None else str(label)
