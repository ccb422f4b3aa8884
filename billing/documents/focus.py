"""FOCUS 1.2 files: a buyer's documents issued in a time, a row per charge, as CSV or Parquet; the same bytes again."""

import csv
import io
from collections.abc import Iterator

from billing.documents.parquet import write_parquet
from billing.domain.focus import COLUMNS, FocusCharge, FocusDocument, charge_row, rounding_row
from billing.models import Charge, Invoice, InvoiceCharge
from core.periods import Period

_NUMBERS = (
    "BilledCost", "ConsumedQuantity", "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "ListCost",
    "ListUnitPrice",
    "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice",
    "PricingQuantity",
)  # fmt: skip
_TIMES = ("BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart")


def focus_rows(organization_id: int, issued: Period) -> Iterator[dict[str, str]]:
    """Yield the rows of every document issued to a buyer in that time, in the order of issue, lines and charges."""
    documents = Invoice.objects.filter(
        organization_id=organization_id, side="buyer", issued_at__gte=issued.start, issued_at__lt=issued.end
    )
    documents = documents.exclude(states__state="withdrawn")  # its charges stand on another document
    for invoice in documents.order_by("pk").iterator(chunk_size=500):
        document = FocusDocument(
            number=invoice.number,
            issuer=invoice.issuer["name"],
            account_id=f"organization/{organization_id}",
            account=invoice.customer["name"],
            is_note=invoice.refers_to_id is not None,
            period_start=invoice.period_start,
            issued_at=invoice.issued_at,
            rounding_micro=invoice.rounding_micro,
        )
        taken = InvoiceCharge.objects.filter(line__invoice=invoice).select_related("charge__provider")
        for row in taken.order_by("line__number", "charge_id").iterator(chunk_size=2_000):
            yield charge_row(document, _charge(row.charge))
        if invoice.rounding_micro:
            yield rounding_row(document)


def _charge(row: Charge) -> FocusCharge:
    return FocusCharge(
        source_key=row.source_key,
        revision=row.revision,
        kind=row.kind,
        provider=row.provider.name,
        labels=row.labels,
        tokens=row.tokens,
        quantity_micro_st=row.quantity_micro_st,
        price_nano=row.buyer_price_nano,
        amount_micro=row.buyer_amount_micro,
        vat_thousandths=row.vat_thousandths,
        start=row.occurred_start,
        end=row.occurred_end,
    )


def focus_csv(organization_id: int, issued: Period) -> Iterator[str]:
    """Yield a FOCUS file as CSV, heading first; an empty cell is null."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in focus_rows(organization_id, issued):
        writer.writerow(row)
        if out.tell() > 65_536:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()


def focus_parquet(organization_id: int, issued: Period) -> bytes:
    """Return a FOCUS file as Parquet: decimals and times typed, everything else text."""
    types = dict.fromkeys(_NUMBERS, "DECIMAL(38, 15)") | dict.fromkeys(_TIMES, "TIMESTAMP")
    return write_parquet(COLUMNS, focus_rows(organization_id, issued), types=types)
