"""Invoices, statements, balances and deposits."""

from __future__ import annotations

from typing import Literal

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import Money, decimal_text

FileFormat = Literal["json", "xlsx", "parquet", "xml"]


class Invoices(Resource[Mode]):
    _path = "/v1/invoices"

    @paged
    def list(
        self, *, kind: str | None = None, state: str | None = None, organization: int | None = None
    ) -> Call[Page[r.Invoice]]:
        return read(self._path, page_of(r.Invoice), kind=kind, state=state, organization=organization)

    @endpoint
    def get(self, invoice: int) -> Call[r.Invoice]:
        """One document with its lines and taxes."""
        return read(f"{self._path}/{invoice}", r.Invoice)

    @endpoint
    def pdf(self, invoice: int, *, language: Literal["zh", "en"] = "zh") -> Call[bytes]:
        return Call("GET", f"{self._path}/{invoice}.pdf", bytes, params={"language": language}, binary=True)

    @endpoint
    def csv(self, invoice: int) -> Call[bytes]:
        return Call("GET", f"{self._path}/{invoice}.csv", bytes, binary=True)

    @endpoint
    def file(self, invoice: int, *, format: FileFormat) -> Call[bytes]:
        """One document for other programs; `xml` is UBL 2.1 by EN 16931, of invoices and their notes only."""
        return Call("GET", f"{self._path}/{invoice}.{format}", bytes, binary=True)

    @paged
    def charges(self, invoice: int, *, line: int | None = None) -> Call[Page[r.Charge]]:
        """The charges behind a document, or behind one line of it."""
        return read(f"{self._path}/{invoice}/charges", page_of(r.Charge), line=line)


class Statements(Invoices[Mode]):
    """Settlement statements (结算单) of a provider."""

    _path = "/v1/statements"


class Account(Resource[Mode]):
    @endpoint
    def balance(self, *, organization: int | None = None) -> Call[r.Balance]:
        return read("/v1/balance", r.Balance, organization=organization)

    @paged
    def transfers(self, *, organization: int | None = None) -> Call[Page[r.Transfer]]:
        return read("/v1/transfers", page_of(r.Transfer), organization=organization)

    @paged
    def charges(self, *, scope: str | None = None, organization: int | None = None) -> Call[Page[r.Charge]]:
        """Rated lines; `scope` is for example "market:12"."""
        return read("/v1/charges", page_of(r.Charge), scope=scope, organization=organization)


class Deposits(Resource[Mode]):
    @paged
    def list(self, *, organization: int | None = None) -> Call[Page[r.Deposit]]:
        return read("/v1/deposits", page_of(r.Deposit), organization=organization)

    @endpoint
    def record(
        self, *, organization: int, amount: Money, reference: str, idempotency_key: str | None = None
    ) -> Call[r.Deposit]:
        """Enter money that an organization has paid in (operator)."""
        body = {"organization": organization, "amount": decimal_text("amount", amount), "reference": reference}
        return write("POST", "/v1/deposits", r.Deposit, body, idempotency_key=idempotency_key)
