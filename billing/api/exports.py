"""Exports over HTTP: what an organization's tools take, for the documents issued in a time."""

from datetime import date, timedelta

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from billing.api.ledger import ORGANIZATION, BillingView
from billing.documents.focus import focus_csv, focus_parquet
from core.errors import BadRequest
from core.periods import Period, day_of, shanghai_date, shanghai_day

LONGEST = timedelta(days=366)
DAYS = [
    ORGANIZATION,
    OpenApiParameter("first", OpenApiTypes.DATE, description="The first day of issue, in Shanghai."),
    OpenApiParameter("last", OpenApiTypes.DATE, description="The last day of issue; today when it is left out."),
]


class ExportView(BillingView):
    """A view of what was issued to an organization between two days."""

    scopes = {"GET": "read"}

    def days(self) -> Period:
        """
        Return the days asked for, by default this month's up to today.

        :raises BadRequest: no dates, not in order, or more than a year.
        """
        today = shanghai_date(self.now)
        first, last = self._day("first", today.replace(day=1)), self._day("last", today)
        if not first <= last:
            raise BadRequest("last is not before first.", field="last")
        if last - first > LONGEST:
            raise BadRequest("An export covers at most a year.", field="first")
        return Period(shanghai_day(first).start, shanghai_day(last).end)

    def _day(self, name: str, default: date) -> date:
        text = self.request.query_params.get(name)
        try:
            return default if text is None else day_of(text)
        except ValueError:
            raise BadRequest(f"{name} is a date such as 2026-11-20.", field=name) from None


class FocusCsv(ExportView):
    @extend_schema(operation_id="export_focus_csv", parameters=DAYS, responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponseBase:
        """Cost and usage by FOCUS 1.2: a row per charge on the buyer's documents."""
        organization, days = self.organization_asked(), self.days()
        response = StreamingHttpResponse(focus_csv(organization.pk, days), content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = 'attachment; filename="focus.csv"'
        return response


class FocusParquet(ExportView):
    @extend_schema(
        operation_id="export_focus_parquet",
        parameters=DAYS,
        responses={(200, "application/vnd.apache.parquet"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request) -> HttpResponseBase:
        """The same as Parquet."""
        organization, days = self.organization_asked(), self.days()
        content = focus_parquet(organization.pk, days)
        response = HttpResponse(content, content_type="application/vnd.apache.parquet")
        response["Content-Disposition"] = 'attachment; filename="focus.parquet"'
        return response
