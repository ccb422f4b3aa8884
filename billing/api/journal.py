"""The books over time over HTTP: the chain of sealed days, trial balances, statements of accounts."""

from collections.abc import Iterator
from datetime import date, timedelta
from itertools import islice
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import journal_queries as books
from billing.api.ledger import ORGANIZATION, BillingView
from billing.documents import ledger_table
from billing.domain.accounts import AccountKind, AccountRef
from billing.models import DaySeal, JournalKey
from core.api.paging import page
from core.csv_files import as_csv
from core.errors import BadRequest, NotFound
from core.money import format_yuan
from core.periods import day_of, shanghai_date
from core.signing import as_jwk
from identity.api.base import ApiView

MOST_LINES = 1_000
DAY = OpenApiParameter("day", OpenApiTypes.DATE, description="In Shanghai; today when it is left out.")
CSV = {(200, "text/csv"): OpenApiTypes.STR}


class SealOut(serializers.Serializer[Any]):
    day = serializers.DateField()
    transfers = serializers.IntegerField()
    previous_hash = serializers.CharField(help_text="The hash of the day before; zeros for the first day.")
    hash = serializers.CharField(help_text="SHA-256 of the previous hash, a line feed and the day's journal.")
    signature = serializers.CharField(help_text="Ed25519, hexadecimal, over `ciyuan-journal-1`, day and hash: 3 lines.")
    key = serializers.CharField(help_text="Which of the published keys signed.")
    sealed_at = serializers.DateTimeField()


class SealPage(serializers.Serializer[Any]):
    items = SealOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class JournalKeysOut(serializers.Serializer[Any]):
    keys = serializers.ListField(child=serializers.DictField(), help_text="JSON Web Keys (RFC 7517, RFC 8037).")
    latest = serializers.DictField(allow_null=True, help_text="Day, hash and signature of the last sealed day.")


class TrialBalanceRow(serializers.Serializer[Any]):
    account = serializers.CharField(help_text="kind/organization/scope")
    debit = serializers.CharField()
    credit = serializers.CharField()
    balance = serializers.CharField(help_text="Credits − debits.")
    held = serializers.CharField()


class TrialBalanceOut(serializers.Serializer[Any]):
    day = serializers.DateField()
    currency = serializers.CharField()
    debit = serializers.CharField(help_text="The sum of the debit column; it equals the credit column's.")
    credit = serializers.CharField()
    items = TrialBalanceRow(many=True)


class StatementLineOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    booked_at = serializers.DateTimeField()
    booked_on = serializers.DateField()
    kind = serializers.CharField()
    key = serializers.CharField()
    counter_account = serializers.CharField()
    change = serializers.CharField()
    held_change = serializers.CharField()
    balance = serializers.CharField()
    held = serializers.CharField()


class AccountStatementOut(serializers.Serializer[Any]):
    account = serializers.CharField()
    first = serializers.DateField()
    last = serializers.DateField()
    currency = serializers.CharField()
    opening = serializers.CharField()
    closing = serializers.CharField()
    items = StatementLineOut(many=True)
    more = serializers.BooleanField(help_text="There are more lines than the 1,000 shown: take the CSV.")


def show_seal(row: DaySeal) -> dict[str, Any]:
    return {
        "day": row.day_id, "transfers": row.transfers, "previous_hash": row.previous_hash, "hash": row.hash,
        "signature": bytes(row.signature).hex(), "key": row.key.kid, "sealed_at": row.sealed_at,
    }  # fmt: skip


class BooksView(BillingView):
    """A view of the whole house's books, for operator and auditor; to others there is no such thing."""

    def require_books(self) -> None:
        if not (self.actor.is_operator or self.actor.reads_everything):
            raise NotFound("There is no such document.")

    def day_asked(self, name: str = "day") -> date:
        """
        Return the day named by a parameter; today without one.

        :raises BadRequest: no date, or one to come.
        """
        today = shanghai_date(self.now) + timedelta(days=1)  # postings after a closing stand on the next day
        text = self.request.query_params.get(name)
        try:
            day = day_of(text) if text is not None else shanghai_date(self.now)
        except ValueError:
            raise BadRequest(f"{name} is a date such as 2026-11-20.", field=name) from None
        if day > today:
            raise BadRequest(f"{name} is a day that has begun; {day} has not.", field=name)
        return day


class Journal(BooksView):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="journal_seals_list",
        parameters=[OpenApiParameter("cursor", str), OpenApiParameter("limit", int)], responses=SealPage)  # fmt: skip
    def get(self, request: Request) -> Response:
        """The chain of sealed days, the latest first. For operator and auditor."""
        self.require_books()
        return Response(page(request, DaySeal.objects.select_related("key"), show_seal, by="day_id"))


class JournalDay(BooksView):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="journal_day", responses=CSV)
    def get(self, request: Request, day: date) -> HttpResponseBase:
        """A sealed day's journal as it was hashed: CSV without a heading, in the order of transfer ids."""
        self.require_books()
        seal = DaySeal.objects.filter(day_id=day).first()
        if seal is None:
            raise NotFound("This day is not sealed.")
        response = StreamingHttpResponse(books.journal_lines(seal.day_id), content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="journal-{day}.csv"'
        return response


class JournalKeys(ApiView):
    """The public keys of the journal's seals, and the latest seal."""

    public = True

    @extend_schema(responses={200: JournalKeysOut})
    def get(self, request: Request) -> Response:
        """Show the keys that a sealed day's signature is checked with; the latest hash lets anybody pin the chain."""
        keys = JournalKey.objects.order_by("pk").values_list("kid", "public_key")
        latest = DaySeal.objects.order_by("-day_id").select_related("key").first()
        return Response({
            "keys": [as_jwk(kid, bytes(public)) for kid, public in keys],
            "latest": None if latest is None else {
                "day": latest.day_id, "hash": latest.hash, "signature": bytes(latest.signature).hex(),
                "key": latest.key.kid},
        }, headers={"Cache-Control": "public, max-age=300"})  # fmt: skip


class TrialBalance(BooksView):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="trial_balance", parameters=[DAY], responses=TrialBalanceOut)
    def get(self, request: Request) -> Response:
        """What stood on every account at the end of a day. For operator and auditor."""
        self.require_books()
        day = self.day_asked()
        rows = books.trial_balance(day)
        return Response({
            "day": day, "currency": "CNY", "debit": format_yuan(sum(row.debit_micro for row in rows)),
            "credit": format_yuan(sum(row.credit_micro for row in rows)),
            "items": [ledger_table.trial_row(row) for row in rows]})  # fmt: skip


class TrialBalanceCsv(BooksView):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="trial_balance_csv", parameters=[DAY], responses=CSV)
    def get(self, request: Request) -> HttpResponseBase:
        """The same as CSV."""
        self.require_books()
        day = self.day_asked()
        return _csv(ledger_table.trial_csv(day, books.trial_balance(day)), f"trial-balance-{day}.csv")


class AccountStatementView(BooksView):
    scopes = {"GET": "read"}

    def statement(self) -> books.AccountStatement:
        """
        Return the statement asked for: `account` is a kind (of the organization, with an optional `scope`), or for
        operator and auditor a whole name such as `escrow/-/market:12`.

        :raises BadRequest: an account, day or order of days that is none.
        """
        text = self.request.query_params.get("account", AccountKind.AVAILABLE.value)
        first, last = self.day_asked("first"), self.day_asked("last")
        if last < first:
            raise BadRequest("last is not before first.", field="last")
        try:
            if "/" in text:
                self.require_books()
                ref = books.readable_ref(text)
            else:
                scope = self.request.query_params.get("scope", "")
                ref = books.readable_ref(f"{text}/{self.organization_asked().pk}/{scope}")
        except ValueError as error:
            raise BadRequest(str(error), field="account") from None
        return books.account_statement(AccountRef(*ref), first=first, last=last)


_STATEMENT = [
    ORGANIZATION,
    OpenApiParameter("account", str, description="available, receivable, payable, bond, gift …"),
    OpenApiParameter("scope", str, description="Such as market:12, for accounts per market."),
    OpenApiParameter("first", OpenApiTypes.DATE),
    OpenApiParameter("last", OpenApiTypes.DATE),
]


class Statement(AccountStatementView):
    @extend_schema(operation_id="account_statement", parameters=_STATEMENT, responses=AccountStatementOut)
    def get(self, request: Request) -> Response:
        """One account's movements between two days, from opening to closing balance."""
        shown = self.statement()
        lines: Iterator[books.StatementLine] = shown.lines
        items = [ledger_table.statement_row(line) for line in islice(lines, MOST_LINES)]
        return Response({
            "account": str(shown.ref), "first": shown.first, "last": shown.last, "currency": "CNY",
            "opening": format_yuan(shown.opening[0]), "closing": format_yuan(shown.closing[0]), "items": items,
            "more": next(lines, None) is not None})  # fmt: skip


class StatementCsv(AccountStatementView):
    @extend_schema(operation_id="account_statement_csv", parameters=_STATEMENT, responses=CSV)
    def get(self, request: Request) -> HttpResponseBase:
        """The same as CSV, whole."""
        shown = self.statement()
        rows = (ledger_table.statement_row(line) for line in shown.lines)
        return _csv(as_csv(ledger_table.STATEMENT_COLUMNS, rows), f"account-{shown.first}-{shown.last}.csv")


def _csv(text: str, name: str) -> HttpResponse:
    response = HttpResponse(text, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
