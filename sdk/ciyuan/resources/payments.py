"""Money from and to the outside: bank transfers, payouts, refunds, providers' tax invoices."""

from __future__ import annotations

import base64
from datetime import date

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import Money, decimal_text, given


class Bank(Resource[Mode]):
    """Bank transfers: one's reference and accounts; statements and the work list for the operator."""

    @endpoint
    def reference(self, *, organization: int | None = None) -> Call[r.PaymentReference]:
        """What to write into a transfer, and where to send it."""
        return read("/v1/payment-reference", r.PaymentReference, organization=organization)

    @paged
    def accounts(self, *, organization: int | None = None) -> Call[Page[r.BankAccount]]:
        return read("/v1/bank-accounts", page_of(r.BankAccount), organization=organization)

    @endpoint
    def add_account(
        self,
        *,
        holder: str,
        number: str,
        bank: str,
        organization: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.BankAccount]:
        """Name an account to be paid to; the operator verifies it."""
        body = given(holder=holder, number=number, bank=bank, organization=organization)
        return write("POST", "/v1/bank-accounts", r.BankAccount, body, idempotency_key=idempotency_key)

    @endpoint
    def verify_account(self, account: int, *, idempotency_key: str | None = None) -> Call[r.BankAccount]:
        """Operator only."""
        path = f"/v1/bank-accounts/{account}/verify"
        return write("POST", path, r.BankAccount, {}, idempotency_key=idempotency_key)

    @endpoint
    def close_account(self, account: int, *, idempotency_key: str | None = None) -> Call[r.BankAccount]:
        return write("DELETE", f"/v1/bank-accounts/{account}", r.BankAccount, idempotency_key=idempotency_key)

    @paged
    def statements(self) -> Call[Page[r.BankStatement]]:
        return read("/v1/bank/statements", page_of(r.BankStatement))

    @endpoint
    def import_statement(
        self, content: str, *, name: str = "", idempotency_key: str | None = None
    ) -> Call[r.BankStatement]:
        """Import a bank statement, CSV as text (operator). The same file again changes nothing."""
        body = {"content": content, "name": name}
        return write("POST", "/v1/bank/statements", r.BankStatement, body, idempotency_key=idempotency_key)

    @paged
    def lines(self, *, state: str | None = None) -> Call[Page[r.BankLine]]:
        """Movements at the bank; with state "suspense" the work list (operator)."""
        return read("/v1/bank/lines", page_of(r.BankLine), state=state)

    @endpoint
    def resolve(self, line: int, *, organization: int, idempotency_key: str | None = None) -> Call[r.BankLine]:
        """Say whose money a line in suspense is (operator)."""
        path = f"/v1/bank/lines/{line}/resolve"
        return write("POST", path, r.BankLine, {"organization": organization}, idempotency_key=idempotency_key)

    @endpoint
    def send_back(self, line: int, *, idempotency_key: str | None = None) -> Call[r.BankLine]:
        """Send the money of a line in suspense back to its payer (operator)."""
        return write("POST", f"/v1/bank/lines/{line}/return", r.BankLine, {}, idempotency_key=idempotency_key)


class Payouts(Resource[Mode]):
    @paged
    def list(self, *, state: str | None = None, organization: int | None = None) -> Call[Page[r.Payout]]:
        return read("/v1/payouts", page_of(r.Payout), state=state, organization=organization)

    @endpoint
    def get(self, payout: int) -> Call[r.Payout]:
        return read(f"/v1/payouts/{payout}", r.Payout)

    @endpoint
    def request(
        self, *, organization: int | None = None, method: str | None = None, idempotency_key: str | None = None
    ) -> Call[r.Payout]:
        """Ask for what settled statements come to."""
        body = given(organization=organization, method=method)
        return write("POST", "/v1/payouts", r.Payout, body, idempotency_key=idempotency_key)

    @endpoint
    def refund(self, deposit: int, *, amount: Money, idempotency_key: str | None = None) -> Call[r.Payout]:
        """Send (part of) a deposit back to where it came from (operator)."""
        body = {"amount": decimal_text("amount", amount)}
        return write("POST", f"/v1/deposits/{deposit}/refund", r.Payout, body, idempotency_key=idempotency_key)

    @endpoint
    def approve(self, payout: int, *, idempotency_key: str | None = None) -> Call[r.Payout]:
        return write("POST", f"/v1/payouts/{payout}/approve", r.Payout, {}, idempotency_key=idempotency_key)

    @endpoint
    def cancel(self, payout: int, *, reason: str = "", idempotency_key: str | None = None) -> Call[r.Payout]:
        body = {"reason": reason}
        return write("POST", f"/v1/payouts/{payout}/cancel", r.Payout, body, idempotency_key=idempotency_key)

    @endpoint
    def make_batch(self, *, idempotency_key: str | None = None) -> Call[r.PayoutBatch]:
        """Take every approved payout by bank into a file (operator)."""
        return write("POST", "/v1/payout-batches", r.PayoutBatch, {}, idempotency_key=idempotency_key)

    @endpoint
    def batch_file(self, batch: int) -> Call[bytes]:
        return Call("GET", f"/v1/payout-batches/{batch}.csv", bytes, binary=True)

    @endpoint
    def import_results(self, content: str, *, idempotency_key: str | None = None) -> Call[r.Anything]:
        """Import what the bank says of payouts, CSV as text (operator)."""
        return write("POST", "/v1/payout-results", r.Anything, {"content": content}, idempotency_key=idempotency_key)

    @endpoint
    def upload_tax_invoice(
        self,
        statement: int,
        *,
        number: str,
        issued_on: date | str,
        seller_name: str,
        seller_tax_number: str,
        buyer_name: str,
        buyer_tax_number: str,
        total: Money,
        tax: Money,
        document: bytes | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.TaxInvoiceMatch]:
        """Upload the tax invoice for a settlement statement; `matches` says whether it may be paid out."""
        body = given(
            number=number,
            issued_on=str(issued_on),
            seller_name=seller_name,
            seller_tax_number=seller_tax_number,
            buyer_name=buyer_name,
            buyer_tax_number=buyer_tax_number,
            total=decimal_text("total", total),
            tax=decimal_text("tax", tax),
            document=None if document is None else base64.b64encode(document).decode(),
        )
        path = f"/v1/statements/{statement}/tax-invoices"
        return write("POST", path, r.TaxInvoiceMatch, body, idempotency_key=idempotency_key)


class CardPayments(Resource[Mode]):
    """Payments by card, Alipay and WeChat Pay on Stripe's page, and automatic top-up."""

    @paged
    def list(self, *, organization: int | None = None) -> Call[Page[r.CardPayment]]:
        return read("/v1/stripe/payments", page_of(r.CardPayment), organization=organization)

    @endpoint
    def get(self, payment: int) -> Call[r.CardPayment]:
        """Its `state` says whether it was paid."""
        return read(f"/v1/stripe/payments/{payment}", r.CardPayment)

    @endpoint
    def start(
        self, *, amount: Money | None = None, invoice: int | None = None, idempotency_key: str | None = None
    ) -> Call[r.CardPayment]:
        """Pay an amount, or what is owed on an invoice, on the page that the answer's `url` names."""
        body = given(amount=decimal_text("amount", amount), invoice=invoice)
        return write("POST", "/v1/stripe/payments", r.CardPayment, body, idempotency_key=idempotency_key)

    @endpoint
    def top_up(self) -> Call[r.Anything]:
        return read("/v1/stripe/top-up", r.Anything)

    @endpoint
    def set_top_up(
        self,
        *,
        below: Money | None = None,
        amount: Money | None = None,
        payment_method: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Anything]:
        """Charge a saved card when less than `below` is available; with neither amount, end it."""
        body = given(
            below=decimal_text("below", below),
            amount=decimal_text("amount", amount),
            payment_method=payment_method,
        )
        return write("PATCH", "/v1/stripe/top-up", r.Anything, body, idempotency_key=idempotency_key)
