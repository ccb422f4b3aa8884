"""Closing months, finance reports, vouchers, and reconciliation statements (对账单)."""

from __future__ import annotations

from typing import Literal

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import given

Program = Literal["yonyou", "kingdee"]


class Finance(Resource[Mode]):
    @paged
    def periods(self) -> Call[Page[r.ClosedPeriod]]:
        """Months that are proposed or closed (operator)."""
        return read("/v1/periods", page_of(r.ClosedPeriod))

    @endpoint
    def propose_close(self, month: str, *, idempotency_key: str | None = None) -> Call[r.ClosedPeriod]:
        """Propose to close a month such as 2026-11, from the 4th of the next on (operator)."""
        return write("POST", "/v1/periods", r.ClosedPeriod, {"month": month}, idempotency_key=idempotency_key)

    @endpoint
    def close(self, month: str, *, idempotency_key: str | None = None) -> Call[r.ClosedPeriod]:
        """Close a month that somebody else proposed (operator)."""
        return write("POST", "/v1/periods/close", r.ClosedPeriod, {"month": month}, idempotency_key=idempotency_key)

    @endpoint
    def reports(self, *, day: str | None = None) -> Call[r.Anything]:
        """Revenue, contract liabilities, receivables, payables and VAT as of a day (operator, auditor)."""
        return read("/v1/finance-reports", r.Anything, day=day)

    @endpoint
    def vouchers(self, *, month: str, program: Program = "yonyou") -> Call[bytes]:
        """A month's vouchers for an accounting program as CSV (operator, auditor)."""
        params = {"month": month, "program": program}
        return Call("GET", "/v1/vouchers.csv", bytes, params=params, binary=True)

    @endpoint
    def chart(self) -> Call[r.Anything]:
        """Which accounts of the operator's chart ours are mapped to."""
        return read("/v1/chart-of-accounts", r.Anything)

    @endpoint
    def set_chart(self, key: str, *, code: str, name: str, idempotency_key: str | None = None) -> Call[r.Anything]:
        body = {"key": key, "code": code, "name": name}
        return write("POST", "/v1/chart-of-accounts", r.Anything, body, idempotency_key=idempotency_key)

    @endpoint
    def statement(self, *, month: str, organization: int | None = None) -> Call[r.Anything]:
        """A month's reconciliation statement; its `digest` goes with the answer."""
        return read("/v1/reconciliation-statement", r.Anything, month=month, organization=organization)

    @endpoint
    def statement_csv(self, *, month: str) -> Call[bytes]:
        return Call("GET", "/v1/reconciliation-statement.csv", bytes, params={"month": month}, binary=True)

    @endpoint
    def statement_pdf(self, *, month: str, language: Literal["zh", "en"] = "zh") -> Call[bytes]:
        params = {"month": month, "language": language}
        return Call("GET", "/v1/reconciliation-statement.pdf", bytes, params=params, binary=True)

    @endpoint
    def answer_statement(
        self, *, month: str, digest: str, agrees: bool, comment: str = "", organization: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Anything]:
        """Confirm a statement, or say what is wrong with it."""
        body = given(month=month, digest=digest, agrees=agrees, comment=comment, organization=organization)
        return write("POST", "/v1/reconciliation-statement", r.Anything, body, idempotency_key=idempotency_key)
