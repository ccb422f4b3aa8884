"""What an issued document says, as text in one language, ready for a layout: nothing is computed after this."""

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import segno

from billing.documents.terms import Language, term
from billing.domain.capitals import capitals
from billing.domain.charges import ChargeKind
from billing.domain.documents import FEE, SUPPLY
from billing.domain.token_classes import shown
from billing.models import Invoice, InvoiceLine, InvoiceTax
from core.money import (
    MICRO_PER_FEN,
    format_price,
    format_price_per_million,
    format_tokens,
    format_yuan,
    round_half_up,
)
from core.periods import SHANGHAI


def thousands(text: str) -> str:
    """Return a plain decimal with its whole part in groups of three: -1234567.8 → -1,234,567.8."""
    sign = "-" if text.startswith("-") else ""
    whole, point, fraction = text.lstrip("-").partition(".")
    return f"{sign}{int(whole):,}{point}{fraction}"


def yuan(amount_micro: int) -> str:
    """Return ¥ with two decimals (more where there are more) in groups of three."""
    return thousands(format_yuan(amount_micro))


def decimals(number: str) -> int:
    """Return how many decimals a plain decimal is written with."""
    return len(number.partition(".")[2])


def aligned(number: str, places: int) -> str:
    """Return a plain decimal with `places` decimals, so that digits stand below each other."""
    return number + ("" if "." in number or not places else ".") + "0" * (places - decimals(number))


def percent(thousandths: int) -> str:
    """Return thousandths as percent: 60 → 6%, 65 → 6.5%."""
    return f"{thousandths / 10:g}%"


def when(moment: datetime) -> str:
    """Return a moment in Shanghai."""
    return moment.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M")


def span(start: datetime, end: datetime) -> str:
    """Return a period in Shanghai; its end without the date when it is the same day, midnight as 24:00."""
    first, last = start.astimezone(SHANGHAI), end.astimezone(SHANGHAI)
    if (last.hour, last.minute) == (0, 0) and (last.date() - first.date()).days == 1:
        return f"{first:%Y-%m-%d %H:%M}–24:00"
    if first.date() == last.date():
        return f"{first:%Y-%m-%d %H:%M}–{last:%H:%M}"
    return f"{first:%Y-%m-%d %H:%M} – {last:%Y-%m-%d %H:%M}"


def qr_svg(address: str) -> str:
    """Return an address as a QR code (SVG); nothing for none."""
    if not address:
        return ""
    out = io.BytesIO()
    segno.make_qr(address, error="m").save(out, kind="svg", border=0, dark="#16202c", xmldecl=False, svgns=True)
    return out.getvalue().decode()


def party_of(facts: dict[str, Any], role: str, language: Language) -> dict[str, Any]:
    """Return a party of a document by its facts (`billing.actions.invoices.party`)."""
    name = facts["legal_name"] if language is Language.ZH else facts["name"]
    details = (("tax_number", facts["tax_number"]), ("address", facts["address"]), ("phone", facts["phone"]),
               ("bank", facts["bank_name"]), ("account", facts["bank_account"]))
    return {"role": role, "name": name, "details": [[term(label, language), text] for label, text in details if text]}


class Presenter:
    """Says one document in one language. Lines, taxes and the corrected document are read once."""

    def __init__(self, invoice: Invoice, language: Language, *, address: str = "") -> None:
        self.invoice = invoice
        self.language = language
        self.address = address
        self.lines: Sequence[InvoiceLine] = list(invoice.lines.order_by("number"))
        self.price_decimals = max((decimals(format_price(line.price_nano)) for line in self.lines), default=0)
        self.token_decimals = max((decimals(format_tokens(line.quantity_micro_st)) for line in self.lines), default=0)
        self.taxes: Sequence[InvoiceTax] = list(invoice.taxes.order_by("-section", "-vat_thousandths"))

    def say(self, name: str, **values: str) -> str:
        """Return a fixed wording."""
        return term(name, self.language, **values)

    def document(self) -> dict[str, Any]:
        """Return the whole document as JSON values."""
        invoice = self.invoice
        versions = sorted({str(line.labels["standard_version"]) for line in self.lines
                           if line.labels.get("standard_version")})
        return {
            "language": self.language.value,
            "title": self.say(f"title.{invoice.kind}"),
            "house": self.say("house"),
            "number": invoice.number,
            "facts": self._facts(),
            "parties": self._parties(),
            "columns": {name: self.say(f"column.{name}") for name in (
                "number", "item", "tokens", "standard", "price", "price_unit", "million", "amount")},
            "lines": [self._line(line) for line in self.lines],
            "taxes": [self._tax(tax) for tax in self.taxes],
            "rounding": {"label": self.say("rounding"), "amount": yuan(invoice.rounding_micro)},
            "total": {"label": self.say(f"total.{invoice.kind}"), "amount": yuan(invoice.total_micro)},
            "capitals": {"label": self.say("capitals"), "text": capitals(invoice.total_micro)},
            "payment": self._payment(),
            "notes": [
                self.say("note.prices", version=", ".join(versions) or "ST"),
                self.say("note.rounding"),
                self.say(f"note.not_tax_invoice.{invoice.side}"),
            ],
            "drill": {"label": self.say("note.drill"), "address": self.address, "qr": qr_svg(self.address)},
            "page": self.say("page"),
        }

    def _facts(self) -> list[list[str]]:
        invoice = self.invoice
        facts = [
            [self.say("number"), invoice.number],
            [self.say("issued"), f"{when(invoice.issued_at)} {self.say('shanghai')}"],
            [self.say("period"), span(invoice.period_start, invoice.period_end)],
            [self.say("cycle"), self.say(f"cycle.{invoice.cycle}")],
            [self.say("currency"), self.say("cny")],
        ]
        if invoice.refers_to is not None:
            facts.insert(1, [self.say("refers_to"), invoice.refers_to.number])
        return facts

    def _parties(self) -> list[dict[str, Any]]:
        roles = ("seller", "buyer") if self.invoice.side == "buyer" else ("operator", "provider")
        return [party_of(facts, self.say(role), self.language)
                for role, facts in zip(roles, (self.invoice.issuer, self.invoice.customer), strict=True)]

    def _line(self, line: InvoiceLine) -> dict[str, Any]:
        plain = line.section == FEE or not line.quantity_micro_st  # an amount, of no tokens
        unpriced = plain or line.kind == ChargeKind.LIST  # a book prices raw tokens: its calculation stands beside it
        return {
            "number": str(line.number),
            "title": self.item_title(line),
            "details": self.item_details(line),
            "tokens": [[self.say(f"token.{name}"), f"{count:,}"] for name, count in shown(line.tokens).items()],
            "standard": "" if plain else thousands(aligned(format_tokens(line.quantity_micro_st), self.token_decimals)),
            "price": "" if unpriced else aligned(format_price(line.price_nano), self.price_decimals),
            "million": "" if unpriced else thousands(format_price_per_million(line.price_nano)),
            "amount": yuan(line.printed_micro),
        }

    def item_title(self, line: InvoiceLine) -> str:
        """Return what a line is for."""
        labels = line.labels
        grade = labels.get("grade_name_zh") if self.language is Language.ZH else None
        model = grade or labels.get("grade_name") or labels.get("model") or labels.get("grade")
        kind = self.say(f"kind.{line.kind}")
        return f"{model}{self.say('separator.title')}{kind}" if model else kind

    def item_details(self, line: InvoiceLine) -> list[str]:
        """Return where a line comes from: window, contract and lot, market and auction."""
        labels = line.labels
        if line.section == FEE:
            return []
        places = [self.say(name, **{name: str(labels[name])}) for name in ("contract", "lot", "market", "auction")
                  if labels.get(name) is not None]
        about = [self.say("separator").join(places)]
        if labels.get("late_month"):
            about.append(self.say("late_month", month=str(labels["late_month"])))
        if line.kind == "unused" and (full := self.full_price_micro(line)):
            share = percent(round_half_up(line.amount_micro * 1_000, full))
            about.append(self.say("take_or_pay", share=share))
        if line.kind in ("undelivered", "disputed"):
            about.append(self.say(line.kind))
        if line.kind == ChargeKind.LIST and labels.get("price_book"):
            about.append(self.say("by_book", book=str(labels["price_book"]), rule=str(labels.get("price_rule"))))
            about.append(str(labels.get("calculation") or ""))
        if line.kind == "penalty":
            share = percent(int(labels.get("penalty_thousandths") or 0))
            about.append(self.say("late" if labels.get("late") else "penalty", share=share))
        if line.kind == "replacement":
            about.append(self.say("replacement", contract=str(labels.get("replaced_by"))))
        if line.kind in ("compensation", "from_bond", "from_default", "probe"):
            about.append(self.say(line.kind))
        return [span(line.occurred_start, line.occurred_end), *(text for text in about if text)]

    @staticmethod
    def full_price_micro(line: InvoiceLine) -> int:
        """Return what the line's quantity would cost at its price, in micro-yuan."""
        return round_half_up(line.quantity_micro_st * line.price_nano, 10**9)

    def _tax(self, tax: InvoiceTax) -> dict[str, Any]:
        rate = percent(tax.vat_thousandths)
        heading = ""
        if self.invoice.side == "provider":
            heading = self.say("to_invoice" if tax.section == SUPPLY else "fee_total")
        return {"heading": heading, "rows": [
            [self.say("net"), yuan(tax.net_micro)], [self.say("tax", rate=rate), yuan(tax.tax_micro)],
            [self.say("gross"), yuan(tax.gross_micro)]]}

    def _payment(self) -> list[list[str]]:
        """Return what is paid and what is due; due is shown in whole fen, rounded up."""
        invoice = self.invoice
        if invoice.side != "buyer" or invoice.total_micro <= 0:
            return []
        due_micro = -(-invoice.due_micro // MICRO_PER_FEN) * MICRO_PER_FEN
        rows = [[self.say("prepaid"), yuan(invoice.total_micro - due_micro)], [self.say("due"), yuan(due_micro)]]
        if due_micro:
            rows.append([self.say("due_on"), invoice.due_on.isoformat()])
        return rows
