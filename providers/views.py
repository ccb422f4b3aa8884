"""A provider's pages: the deployments it runs, and registering one."""

from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from core import clock
from core.form_fields import QuantityField
from core.listing import Column, Filter, Listing, Table
from identity.access import Actor
from identity.page_forms import OnceForm
from identity.pages import require_actor
from providers.actions.deployments import register_deployment
from providers.models import Accelerator, Deployment, Grade
from providers.models.catalogue import PRECISIONS

DEPLOYMENTS = Table(
    name="deployments",
    columns={
        "deployment": Column("", lambda row: row.pk),
        "name": Column(gettext_lazy("Name"), lambda row: row.name, "name"),
        "endpoint": Column("", lambda row: row.endpoint),
        "grade": Column(gettext_lazy("Grade"), lambda row: row.grade.slug, "grade__slug", left=True),
        "accelerator": Column(
            gettext_lazy("Accelerator"), lambda row: row.accelerator.slug, "accelerator__name", left=True
        ),
        "accelerators": Column("", lambda row: row.accelerator_count),
        "precision": Column("", lambda row: row.precision),
        "engine": Column(gettext_lazy("Engine"), lambda row: row.engine, "engine", left=True),
        "region": Column(gettext_lazy("Region"), lambda row: row.region, "region", left=True),
        "rate": Column(
            gettext_lazy("Rate a minute"), lambda row: row.rated_tokens_per_minute, "rated_tokens_per_minute"
        ),
        "state": Column(gettext_lazy("State"), lambda row: row.status, "status", left=True),
        "certified_until": Column("", lambda row: row.certified_until),
    },
    filters={
        "state": Filter(gettext_lazy("State"), Deployment.Status.choices, lambda value: Q(status=value)),
    },
    default=("name",),
)  # fmt: skip


class GradeChoice(forms.ModelChoiceField):  # type: ignore[type-arg]
    """Grades by their name in the reader's language."""

    def label_from_instance(self, obj: Any) -> str:
        return str(obj.name_zh) if obj.name_zh and (get_language() or "").startswith("zh") else str(obj.name)


class DeploymentForm(OnceForm):
    """A running model, as its provider describes it."""

    name = forms.CharField(max_length=80, label=gettext_lazy("Name"), help_text=gettext_lazy("Such as bj-1."))
    grade = GradeChoice(
        queryset=Grade.objects.none(), label=gettext_lazy("Grade"), empty_label=gettext_lazy("Choose …")
    )
    accelerator = forms.ModelChoiceField(
        queryset=Accelerator.objects.none(), label=gettext_lazy("Accelerator"), empty_label=gettext_lazy("Choose …")
    )
    accelerator_count = forms.IntegerField(min_value=1, max_value=100_000, label=gettext_lazy("How many of them"))
    engine = forms.CharField(
        max_length=60, label=gettext_lazy("Engine"), help_text=gettext_lazy("With its version, such as vLLM 0.11.")
    )
    precision = forms.ChoiceField(choices=PRECISIONS, label=gettext_lazy("Precision"))
    region = forms.CharField(max_length=40, label=gettext_lazy("Region"))
    endpoint = forms.CharField(
        max_length=500, label=gettext_lazy("Endpoint"),
        help_text=gettext_lazy("Base address of its OpenAI-compatible API, such as https://api.example.com/v1"),
    )  # fmt: skip
    rated_tokens_per_minute = QuantityField(
        max_length=60, label=gettext_lazy("Standard tokens a minute"),
        help_text=gettext_lazy("What you promise; at most what the accelerators can do by their published figures."),
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["grade"].queryset = Grade.objects.order_by("slug")  # type: ignore[attr-defined]
        accelerators = Accelerator.objects.order_by("vendor", "name")
        self.fields["accelerator"].queryset = accelerators  # type: ignore[attr-defined]


@require_GET
@require_actor("read")
def deployments(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The organization's deployments."""
    listing = Listing(request, DEPLOYMENTS)
    rows = Deployment.objects.select_related("grade", "accelerator").filter(provider_id=actor.organization_id)
    if listing.wants_csv:
        return listing.csv(rows)
    context = {
        "page": listing.page(rows), "now": clock.now(), "listing": listing, "query": listing.query,
        "may_register": "trade" in actor.scopes and actor.organization.provides,
    }  # fmt: skip
    return render(request, "providers/deployments.html", context)


@require_http_methods(["GET", "POST"])
@require_actor("trade")
def register(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Register a deployment."""
    form = DeploymentForm(request.POST or None)
    if request.method == "POST":

        def perform(typed: dict[str, Any]) -> dict[str, Any]:
            chosen = {"grade": typed["grade"].pk, "accelerator": typed["accelerator"].pk}
            return {
                "deployment": register_deployment(
                    provider_id=actor.organization_id, actor=actor, now=clock.now(), **{**typed, **chosen}
                ).pk
            }

        if form.send(actor, perform) is not None:
            messages.success(request, _("Deployment registered. Now publish capacity, and open a meter for it."))
            return redirect("deployments")
    return render(request, "providers/deployment_new.html", {"form": form}, status=422 if form.errors else 200)
