"""Closing months, finance reports, vouchers for accounting programs, and reconciliation statements over HTTP."""

from datetime import date
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import period_queries, reconciliation
from billing.actions import periods
from billing.api.banking import person
from billing.api.ledger import LANGUAGE, ORGANIZATION, BillingView
from billing.documents import month_statement
from billing.documents.terms import Language
from billing.domain.periods import last_day
from billing.domain.vouchers import kingdee, vouchers, yonyou
from billing.models import PeriodClose
from billing.reports import reports
from core.api.paging import page
from core.api.serializers import StrictSerializer
from core.errors import BadRequest
from core.money import format_yuan
from core.periods import day_of, shanghai_date
from identity.models import Organization
from identity.queries import operator_organization

MONTH = OpenApiParameter("month", str, description="As in 2026-11; by default the last one that is over.")


class MonthIn(StrictSerializer):
    month = serializers.RegexField(r"^\d{4}-(0[1-9]|1[0-2])$", help_text="As in 2026-11.")


class PeriodOut(serializers.Serializer[Any]):
    month = serializers.CharField()
    proposed_by = serializers.CharField()
    proposed_at = serializers.DateTimeField()
    closed_by = serializers.CharField()
    closed_at = serializers.DateTimeField(allow_null=True)
    figures = serializers.DictField(child=serializers.CharField(), help_text="¥; charges is a count.")
    accruals = serializers.ListField(child=serializers.JSONField(), help_text="Delivered, on no document: by whom.")


class PeriodPage(serializers.Serializer[Any]):
    items = PeriodOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class SectionOut(serializers.Serializer[Any]):
    rows = serializers.ListField(child=serializers.JSONField())
    total = serializers.CharField()
    ledger = serializers.CharField(help_text="What the ledger has: the same.")


class ReportsOut(serializers.Serializer[Any]):
    day = serializers.DateField()
    revenue = SectionOut(help_text="Sales and cost by month of charging; the total is fees, as the ledger booked them.")
    contract_liabilities = SectionOut()
    receivables = SectionOut(help_text="By organization: ageing of documents, and what is on none yet (unbilled).")
    payables = SectionOut(help_text="By provider: statements without tax invoice, and the rest.")
    vat = SectionOut(help_text="Output by documents and tax invoices, input by providers' tax invoices, by month.")


class ChartIn(StrictSerializer):
    key = serializers.CharField(max_length=24)
    code = serializers.CharField(max_length=20)
    name = serializers.CharField(max_length=60)


class ChartOut(serializers.Serializer[Any]):
    accounts = serializers.ListField(child=serializers.JSONField())


class StatementOut(serializers.Serializer[Any]):
    organization = serializers.IntegerField()
    month = serializers.CharField()
    rows = serializers.ListField(child=serializers.JSONField())
    digest = serializers.CharField(help_text="Send it with the answer: it says which statement was read.")
    answered = serializers.JSONField(allow_null=True)


class AnswerIn(StrictSerializer):
    organization = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    month = serializers.RegexField(r"^\d{4}-(0[1-9]|1[0-2])$")
    digest = serializers.CharField(max_length=64)
    agrees = serializers.BooleanField()
    comment = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")


def first_of(text: str) -> date:
    """Return the first day of the month that a text names; BadRequest for none."""
    try:
        return day_of(f"{text}-01")
    except ValueError:
        raise BadRequest("month is a month such as 2026-11.", field="month") from None


def show_period(row: PeriodClose) -> dict[str, Any]:
    figures = {name.removesuffix("_micro"): format_yuan(value, places=6) if name.endswith("_micro") else str(value)
               for name, value in row.figures.items()}  # fmt: skip
    accruals = [
        {"organization": one.organization_id, "side": one.side, "vat_thousandths": one.vat_thousandths,
         "charges": one.charges, "gross": format_yuan(one.gross_micro, places=6),
         "tax": format_yuan(one.tax_micro, places=6)}
        for one in row.accruals.order_by("id")
    ]  # fmt: skip
    return {"month": str(row), "proposed_by": row.proposed_by, "proposed_at": row.proposed_at,
            "closed_by": row.closed_by, "closed_at": row.closed_at, "figures": figures,
            "accruals": accruals}  # fmt: skip


class FinanceView(BillingView):
    """A view for operator and auditor."""

    scopes = {"GET": "read"}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not self.actor.reads_everything:
            self.actor.require("operate")

    def month(self) -> date:
        text = self.request.query_params.get("month")
        if text is not None:
            return first_of(text)
        return date.fromordinal(shanghai_date(self.now).replace(day=1).toordinal() - 1).replace(day=1)


class Periods(BillingView):
    scopes = {"GET": "operate", "POST": "operate"}

    @extend_schema(responses=PeriodPage)
    def get(self, request: Request) -> Response:
        """Months that are proposed or closed, newest first."""
        return Response(page(request, PeriodClose.objects.all(), show_period))

    @extend_schema(request=MonthIn, responses={201: PeriodOut})
    def post(self, request: Request) -> Response:
        """Propose to close a month, from the 4th of the next on."""
        month = first_of(self.parse(MonthIn)["month"])
        return self.once(lambda: show_period(
            periods.propose_close(month=month, by=person(self.actor), now=self.now, actor=self.actor)))  # fmt: skip


class PeriodClosing(BillingView):
    scopes = {"POST": "operate"}

    @extend_schema(request=MonthIn, responses=PeriodOut)
    def post(self, request: Request) -> Response:
        """Close a month that somebody else proposed: accrue and freeze."""
        month = first_of(self.parse(MonthIn)["month"])
        return self.once(lambda: show_period(periods.close_period(
            month=month, by=person(self.actor), now=self.now, actor=self.actor)), status=200)  # fmt: skip


class FinanceReports(FinanceView):
    @extend_schema(
        operation_id="finance_reports", parameters=[OpenApiParameter("day", OpenApiTypes.DATE)], responses=ReportsOut
    )
    def get(self, request: Request) -> Response:
        """Revenue, contract liabilities, receivables with their ageing, payables and VAT, as of the end of a day."""
        text = request.query_params.get("day")
        try:
            day = day_of(text) if text else shanghai_date(self.now)
        except ValueError:
            raise BadRequest("day is a day such as 2026-11-20.", field="day") from None
        sections = {
            name: {
                "rows": [{key.removesuffix("_micro"): format_yuan(value, places=6) if key.endswith("_micro") else value
                          for key, value in row.items()} for row in section["rows"]],
                "total": format_yuan(section["total_micro"], places=6),
                "ledger": format_yuan(section["ledger_micro"], places=6),
            }
            for name, section in reports(day).items()
        }  # fmt: skip
        return Response({"day": day, **sections})


class Vouchers(FinanceView):
    @extend_schema(
        parameters=[MONTH, OpenApiParameter("program", str, enum=["yonyou", "kingdee"])],
        responses={(200, "text/csv"): OpenApiTypes.STR},
    )
    def get(self, request: Request) -> HttpResponse:
        """A month's vouchers for 用友 or 金蝶 as CSV; each is balanced to the fen."""
        month, program = self.month(), request.query_params.get("program", "yonyou")
        if program not in ("yonyou", "kingdee"):
            raise BadRequest("program is yonyou or kingdee.", field="program")
        _, sums = period_queries.delivered(month, fee_vat_thousandths=operator_organization().vat_rate_thousandths)
        lines = vouchers(period_queries.moved(month), sums, period_queries.chart())
        text = (yonyou if program == "yonyou" else kingdee)(lines, day=last_day(month))
        response = HttpResponse(text, content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="vouchers-{program}-{month:%Y-%m}.csv"'
        return response


class Chart(BillingView):
    scopes = {"GET": "operate", "POST": "operate"}

    def show(self) -> dict[str, Any]:
        rows = sorted(period_queries.chart().items())
        return {"accounts": [{"key": key, "code": code, "name": name} for key, (code, name) in rows]}

    @extend_schema(operation_id="chart_of_accounts", responses=ChartOut)
    def get(self, request: Request) -> Response:
        """Which accounts of the operator's chart ours are mapped to."""
        return Response(self.show())

    @extend_schema(operation_id="chart_of_accounts_set", request=ChartIn, responses=ChartOut)
    def post(self, request: Request) -> Response:
        """Map one of our accounts to another one of the chart."""
        given = self.parse(ChartIn)

        def perform() -> dict[str, Any]:
            periods.set_chart_account(**given, now=self.now, actor=self.actor)
            return self.show()

        return self.once(perform, status=200)


class ReconciliationStatement(BillingView):
    scopes = {"GET": "read", "POST": "billing"}

    def show(self, organization_id: int, month: date) -> dict[str, Any]:
        rows = reconciliation.rows_of(organization_id, month)
        digest = reconciliation.digest(rows)
        given = reconciliation.confirmation_of(organization_id, month, digest)
        answered = given and {"agrees": given.agrees, "comment": given.comment, "at": given.at.isoformat()}
        return {"organization": organization_id, "month": f"{month:%Y-%m}", "rows": rows, "digest": digest,
                "answered": answered}  # fmt: skip

    @extend_schema(operation_id="reconciliation_statement", parameters=[ORGANIZATION, MONTH], responses=StatementOut)
    def get(self, request: Request) -> Response:
        """A month's statement (对账单): opening, documents, payments, closing, and how it was answered."""
        return Response(self.show(self.organization_asked().pk, FinanceView.month(self)))  # type: ignore[arg-type]

    @extend_schema(operation_id="reconciliation_statement_answer", request=AnswerIn, responses={201: StatementOut})
    def post(self, request: Request) -> Response:
        """Confirm a statement, or say what is wrong with it."""
        given = self.parse(AnswerIn)
        organization, month = self.subject(given.get("organization")), first_of(given["month"])

        def perform() -> dict[str, Any]:
            current = reconciliation.digest(reconciliation.rows_of(organization.pk, month))
            periods.answer_statement(
                organization_id=organization.pk, month=month, digest=given["digest"], current=current,
                agrees=given["agrees"], comment=given["comment"], by=person(self.actor), now=self.now,
            )  # fmt: skip
            return self.show(organization.pk, month)

        return self.once(perform)


class ReconciliationPdf(BillingView):
    scopes = {"GET": "read"}

    @extend_schema(
        parameters=[ORGANIZATION, MONTH, LANGUAGE], responses={(200, "application/pdf"): OpenApiTypes.BINARY}
    )
    def get(self, request: Request) -> HttpResponse:
        """The statement as PDF/A, to be stamped: in Chinese (the default) or English."""
        organization, month = self.organization_asked(), FinanceView.month(self)  # type: ignore[arg-type]
        return pdf_response(organization, month, self.language())


def pdf_response(organization: Organization, month: date, language: Language) -> HttpResponse:
    """Return a month's statement as a PDF that browsers show."""
    content = month_statement.of(organization, month, language)
    response = HttpResponse(content, content_type="application/pdf")
    name = f"reconciliation-{organization.pk}-{month:%Y-%m}-{language.value}.pdf"
    response["Content-Disposition"] = f'inline; filename="{name}"'
    return response


class ReconciliationCsv(BillingView):
    scopes = {"GET": "read"}

    @extend_schema(parameters=[ORGANIZATION, MONTH], responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponse:
        """The statement as CSV."""
        organization, month = self.organization_asked(), FinanceView.month(self)  # type: ignore[arg-type]
        text = reconciliation.as_csv(reconciliation.rows_of(organization.pk, month))
        response = HttpResponse(text, content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="statement-{organization.pk}-{month:%Y-%m}.csv"'
        return response
