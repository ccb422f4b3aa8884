"""A public page: what a workload costs at list, at the book, and in the next auction."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop
from django.views.decorators.http import require_GET

from core import clock
from core.errors import Problem
from core.form_fields import QuantityField
from exchange import page_queries
from exchange.domain.quotes import Workload
from exchange.quote_queries import quote
from identity.page_forms import told
from providers.models import Grade

#: What a price may be based on, for the translators; a price book is named as it is.
BASES = (
    gettext_noop("lowest list price"),
    gettext_noop("book"),
    gettext_noop("indicative price of the call"),
    gettext_noop("last auction"),
    gettext_noop("reference price"),
)
MOST_TOKENS, MOST_REQUESTS = 10_000_000, 10**9


class QuoteForm(forms.Form):
    """Alike requests to one grade."""

    grade = forms.ModelChoiceField(
        queryset=Grade.objects.none(), to_field_name="slug", label=_("Grade"), empty_label=_("Choose …")
    )
    input_tokens = QuantityField(max_length=20, label=_("Input tokens"))
    cached_tokens = QuantityField(max_length=20, required=False, label=_("of them from a cache"))
    output_tokens = QuantityField(max_length=20, label=_("Output tokens"))
    requests = QuantityField(max_length=20, label=_("Requests"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["grade"].queryset = Grade.objects.select_related("model_card").order_by("slug")  # type: ignore[attr-defined]
        self.fields["grade"].label_from_instance = page_queries.localized_name  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        for name in ("input_tokens", "output_tokens", "requests"):
            if (given.get(name) or 0) > (MOST_REQUESTS if name == "requests" else MOST_TOKENS):
                self.add_error(name, _("That is more than a quote is given for."))
        return given


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Ask for a quote and see it with its calculation."""
    asked = "grade" in request.GET
    initial = {"input_tokens": "2,000", "output_tokens": "500", "requests": "1,000,000"}
    form = QuoteForm(request.GET if asked else None, initial=initial)
    found = None
    if asked and form.is_valid():
        given = form.cleaned_data
        load = Workload(
            given["input_tokens"], given["cached_tokens"] or 0, given["output_tokens"], given["requests"]
        )  # fmt: skip
        try:
            found = quote(grade=given["grade"], load=load, window=None, now=clock.now())
        except Problem as problem:
            form.add_error(problem.field if problem.field in form.fields else None, told(problem))
    rows: list[Any] = []
    if found is not None:
        rows = [(_("At list"), found.at_list), (_("At the book now"), found.at_book)]
        rows.append((_("Next off-peak auction"), found.off_peak))
    return render(
        request, "exchange/quote.html", {"form": form, "quote": found, "rows": rows}, status=422 if form.errors else 200
    )
