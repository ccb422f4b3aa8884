"""Pages of budgets: what an organization, a key or a tag may use, how much of it is used, and what was told of it."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from core import clock
from core.form_fields import QuantityField, YuanField
from core.money import MICRO_PER_TOKEN, format_yuan
from core.templatetags.ciyuan import standard_tokens, yuan
from identity.access import Actor
from identity.page_forms import OnceForm
from identity.pages import require_actor
from metering_ingest import budget_queries
from metering_ingest.actions import budgets as actions
from metering_ingest.models import Budget, BudgetWindow

MOST_TOKENS = 10**12


class SharesField(forms.CharField):
    """Percentages as typed (“50, 80, 100”); cleaned to thousandths."""

    def clean(self, value: Any) -> Any:
        parts = [part.strip().rstrip("%％").strip() for part in super().clean(value).replace("，", ",").split(",")]
        if any(not (part.isascii() and part.isdigit() and 1 <= int(part) <= 200) for part in parts if part):
            raise forms.ValidationError(_("Write percentages from 1 to 200, such as 80, 100."))
        return [int(part) * 10 for part in parts if part]


class _LimitForm(OnceForm):
    """What of a budget can be changed."""

    hard = forms.BooleanField(required=False, label=gettext_lazy("A cap: calls beyond it are refused"))
    alerts = SharesField(
        max_length=60, required=False, initial="80, 100", label=gettext_lazy("Tell us at"),
        help_text=gettext_lazy("Percentages of the limit; by webhook and here."),
    )  # fmt: skip


class BudgetForm(_LimitForm):
    """A new budget."""

    subject = forms.ChoiceField(choices=Budget.Subject.choices, label=gettext_lazy("Limits"))
    tag = forms.CharField(
        max_length=256, required=False, label=gettext_lazy("Tag"), help_text=gettext_lazy("Such as team.")
    )
    value = forms.CharField(
        max_length=256, required=False, label=gettext_lazy("Key, or the tag's value"),
        help_text=gettext_lazy("As the gateway names it; empty for the whole organization."),
    )  # fmt: skip
    period = forms.ChoiceField(choices=Budget.PeriodKind.choices, label=gettext_lazy("For each"))
    tokens = QuantityField(max_length=60, required=False, label=gettext_lazy("Standard tokens, at most"))
    yuan = YuanField(allow_zero=True, max_length=40, required=False, label=gettext_lazy("Or ¥, at most"))
    field_order = ("key", "subject", "tag", "value", "period", "tokens", "yuan", "hard", "alerts")

    def clean(self) -> dict[str, Any]:
        """One of the two limits."""
        typed: dict[str, Any] = super().clean() or {}
        if not self.errors and (typed.get("tokens") is None) == (typed.get("yuan") is None):
            self.add_error("tokens", _("Give either standard tokens or ¥; two limits are two budgets."))
        if (typed.get("tokens") or 0) > MOST_TOKENS:
            self.add_error("tokens", _("A budget has at most 10¹² standard tokens."))
        return typed


class ChangeForm(_LimitForm):
    """Another limit, in the budget's unit."""

    field_order = ("key", "limit", "hard", "alerts")

    def __init__(self, *args: Any, budget: Budget, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        of_tokens = budget.unit == Budget.Unit.TOKENS
        self.fields["limit"] = (
            QuantityField(max_length=60, label=_("Standard tokens, at most"))
            if of_tokens
            else YuanField(allow_zero=True, max_length=40, label=_("¥, at most"))
        )
        self.fields["limit"].initial = str(budget.limit // MICRO_PER_TOKEN) if of_tokens else format_yuan(budget.limit)
        self.fields["hard"].initial = budget.hard
        self.fields["alerts"].initial = ", ".join(str(share // 10) for share in budget.alert_thousandths)
        self.order_fields(self.field_order)


@require_http_methods(["GET", "POST"])
@require_actor("read")
def budgets(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The organization's budgets with their running periods; a new one is set here."""
    form = BudgetForm(request.POST or None)
    if request.method == "POST":
        actor.require("billing")
        answer = form.send(
            actor, lambda typed: _set(typed, actor), fields={"key": "value", "alert_thousandths": "alerts"}
        )
        if answer is not None:
            return redirect("budget", budget_id=answer.body["budget"])
    rows = budget_queries.budgets_readable(actor).filter(closed_at=None).order_by("-pk")[:500]
    return render(
        request,
        "metering/budgets.html",
        {"budgets": [_Shown(row) for row in rows], "form": form if "billing" in actor.scopes else None},
        status=422 if form.errors else 200,
    )


@require_http_methods(["GET", "POST"])
@require_actor("read")
def budget(request: HttpRequest, actor: Actor, budget_id: int) -> HttpResponse:
    """One budget: its periods, what was told of it, and a form to change or close it."""
    row = budget_queries.budgets_readable(actor).filter(pk=budget_id).first()
    if row is None:
        raise Http404
    mine = row.organization_id == actor.organization_id and row.closed_at is None and "billing" in actor.scopes
    form = ChangeForm(request.POST if request.method == "POST" and "close" not in request.GET else None, budget=row)
    if request.method == "POST":
        actor.require("billing")
        if row.organization_id != actor.organization_id:
            raise Http404
        if "close" in request.GET:
            closing = OnceForm({"key": f"close-budget:{row.pk}"})
            closing.send(actor, lambda _typed: {"budget": actions.close_budget(budget=row, now=clock.now()).pk})
            messages.info(request, _("The budget is closed: it limits nothing any more."))
            return redirect("budgets")
        answer = form.send(actor, lambda typed: _change(row, typed), fields={"alert_thousandths": "alerts"})
        if answer is not None:
            messages.info(request, _("Changed."))
            return redirect("budget", budget_id=row.pk)
    return render(
        request, "metering/budget.html", {"one": _Shown(row, all_windows=True), "form": form if mine else None},
        status=422 if form.errors else 200,
    )  # fmt: skip


class _Window:
    """A period with its amounts as they are written."""

    def __init__(self, window: BudgetWindow, limit: int, show: Any) -> None:
        used = window.used
        self.window = window
        self.used, self.held, self.left = show(used), show(window.held), show(max(0, limit - used - window.held))
        self.thousandths = min(1_000, (used + window.held) * 1_000 // limit) if limit else 1_000
        self.alerts = list(window.alerts.order_by("share_thousandths"))


class _Shown:
    """A budget as it is written."""

    def __init__(self, row: Budget, *, all_windows: bool = False) -> None:
        show = standard_tokens if row.unit == Budget.Unit.TOKENS else yuan
        rows = (
            list(row.windows.order_by("-start", "-pk")[:31])
            if all_windows
            else budget_queries.running_windows(row, clock.now())
        )
        self.row = row
        self.limit = show(row.limit)
        self.windows = [_Window(window, row.limit, show) for window in rows]
        self.shares = ", ".join(f"{share // 10}%" for share in row.alert_thousandths)


def _set(typed: dict[str, Any], actor: Actor) -> dict[str, Any]:
    of_tokens = typed["tokens"] is not None
    row = actions.set_budget(
        organization=actor.organization, subject=typed["subject"], tag=typed["tag"], value=typed["value"],
        period=typed["period"], unit=Budget.Unit.TOKENS if of_tokens else Budget.Unit.YUAN,
        limit=typed["tokens"] * MICRO_PER_TOKEN if of_tokens else typed["yuan"], hard=typed["hard"],
        alert_thousandths=typed["alerts"], now=clock.now(),
    )  # fmt: skip
    return {"budget": row.pk}


def _change(row: Budget, typed: dict[str, Any]) -> dict[str, Any]:
    limit = typed["limit"] * MICRO_PER_TOKEN if row.unit == Budget.Unit.TOKENS else typed["limit"]
    changes = {"limit": limit, "hard": typed["hard"], "alert_thousandths": typed["alerts"]}
    return {"budget": actions.change_budget(budget=row, changes=changes).pk}
