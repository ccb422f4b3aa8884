"""The operator's console: the catalogue and supply to look at; how a grade is run to change."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from core import clock
from core.errors import Problem
from core.money import format_price_per_million
from core.transactions import durable
from identity.console import LookOnly
from identity.models import User
from identity.page_forms import told
from identity.queries import actor_for_user
from providers.actions.grades import CHANGEABLE, change_grade, check_changes
from providers.models import (
    Accelerator,
    Capacity,
    Certificate,
    Deployment,
    Grade,
    ListPrice,
    ModelCard,
    ProviderScore,
)


@admin.register(Accelerator)
class AcceleratorAdmin(LookOnly):
    list_display = ("name", "vendor", "memory_kind", "as_of", "unverified", "source")
    list_filter = ("vendor",)
    search_fields = ("slug", "name", "vendor", "vendor_zh")


@admin.register(ModelCard)
class ModelCardAdmin(LookOnly):
    list_display = ("name", "standard_version", "active_params", "total_params", "as_of")
    search_fields = ("slug", "name")


class GradeForm(forms.ModelForm):  # type: ignore[type-arg]
    """Checks changes by the action's own rules, so that what is refused is said beside its field."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        changes = {name: cleaned[name] for name in self.changed_data if name in cleaned}
        try:
            check_changes(Grade.objects.get(pk=self.instance.pk), changes)
        except Problem as problem:
            self.add_error(problem.field if problem.field in self.fields else None, told(problem))
        return cleaned


@admin.register(Grade)
class GradeAdmin(LookOnly):
    list_display = ("slug", "name_zh", "model_card", "service_class", "region", "mode", "reference_price", "status")
    list_filter = ("status", "mode", "service_class")
    search_fields = ("slug", "name", "name_zh")
    form = GradeForm

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_staff and super(LookOnly, self).has_change_permission(request, obj))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [field.name for field in Grade._meta.fields if field.name not in CHANGEABLE]

    def save_model(self, request: HttpRequest, obj: Grade, form: Any, change: bool) -> None:
        """Change the grade by the action that every other door uses."""
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        actor = actor_for_user(request.user, None) if isinstance(request.user, User) else None
        durable(lambda: change_grade(grade_id=obj.pk, changes=changes, now=clock.now(), actor=actor))

    @admin.display(description=_("¥ / million"))
    def reference_price(self, grade: Grade) -> str:
        price = grade.reference_price_nano
        return "–" if price is None else format_price_per_million(price)


@admin.register(Deployment)
class DeploymentAdmin(LookOnly):
    list_display = ("name", "provider", "grade", "accelerator", "accelerator_count", "precision", "region", "status")
    list_filter = ("status", "grade", "provider")
    search_fields = ("name", "endpoint", "provider__name", "provider__name_zh")
    list_select_related = ("provider", "grade", "accelerator")


@admin.register(Certificate)
class CertificateAdmin(LookOnly):
    list_display = ("deployment", "tokens_per_minute", "engine", "measured_by", "measured_at", "valid_until")
    list_filter = ("deployment__grade",)
    list_select_related = ("deployment__grade", "measured_by")


@admin.register(Capacity)
class CapacityAdmin(LookOnly):
    list_display = ("id", "provider", "deployment", "window_start", "window_end", "quantity_tokens", "withdrawn_tokens")
    list_filter = ("grade", "provider")
    date_hierarchy = "window_start"
    list_select_related = ("provider", "deployment__grade")


@admin.register(ListPrice)
class ListPriceAdmin(LookOnly):
    list_display = ("deployment", "per_million", "valid_from")
    list_filter = ("deployment__grade",)
    list_select_related = ("deployment__grade",)

    @admin.display(description=_("¥ / million"))
    def per_million(self, row: ListPrice) -> str:
        return "–" if row.price_nano is None else format_price_per_million(row.price_nano)


@admin.register(ProviderScore)
class ProviderScoreAdmin(LookOnly):
    list_display = (
        "provider",
        "version",
        "delivered_thousandths",
        "contracts",
        "contracted_tokens",
        "undelivered_tokens",
    )
    list_select_related = ("provider",)
