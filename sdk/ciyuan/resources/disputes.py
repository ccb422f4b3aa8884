"""Disputes about lines of invoices, what is due, and what is given up."""

from __future__ import annotations

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import Money, decimal_text


class Disputes(Resource[Mode]):
    @paged
    def list(self, *, state: str | None = None, organization: int | None = None) -> Call[Page[r.Dispute]]:
        return read("/v1/disputes", page_of(r.Dispute), state=state, organization=organization)

    @endpoint
    def get(self, dispute: int) -> Call[r.Dispute]:
        return read(f"/v1/disputes/{dispute}", r.Dispute)

    @endpoint
    def open(
        self, invoice: int, *, line: int, amount: Money, reason: str, idempotency_key: str | None = None
    ) -> Call[r.Dispute]:
        """Object to (part of) a line: that slice is not due until it is decided."""
        body = {"line": line, "amount": decimal_text("amount", amount), "reason": reason}
        return write("POST", f"/v1/invoices/{invoice}/disputes", r.Dispute, body, idempotency_key=idempotency_key)

    @endpoint
    def withdraw(self, dispute: int, *, idempotency_key: str | None = None) -> Call[r.Dispute]:
        return write("POST", f"/v1/disputes/{dispute}/withdraw", r.Dispute, {}, idempotency_key=idempotency_key)

    @endpoint
    def decide(
        self, dispute: int, *, credit: Money, decision: str, idempotency_key: str | None = None
    ) -> Call[r.Dispute]:
        """Credit (part of) it, or with 0 reject it (operator)."""
        body = {"credit": decimal_text("credit", credit), "decision": decision}
        return write("POST", f"/v1/disputes/{dispute}/decide", r.Dispute, body, idempotency_key=idempotency_key)

    @endpoint
    def receivables(self, *, organization: int | None = None) -> Call[r.Anything]:
        """What is owed by invoice, what of it is overdue, and whether orders are refused for it."""
        return read("/v1/receivables", r.Anything, organization=organization)

    @endpoint
    def write_off(self, invoice: int, *, reason: str, idempotency_key: str | None = None) -> Call[r.Anything]:
        """Give up what is owed on an invoice (operator)."""
        path = f"/v1/invoices/{invoice}/write-off"
        return write("POST", path, r.Anything, {"reason": reason}, idempotency_key=idempotency_key)
