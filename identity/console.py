"""What the admin consoles of all apps share: rows to look at, and changes that leave an entry in the audit log."""

from typing import Any

from django.db import models, transaction
from django.forms import ModelForm
from django.forms.models import model_to_dict
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from core import clock
from identity.actions import audit
from identity.models import AuditEntry, User
from identity.queries import actor_for_user


class LookOnly(ModelAdmin):  # type: ignore[misc]
    """Rows that only actions make and change."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Audited(ModelAdmin):  # type: ignore[misc]
    """Rows that operators change by hand: who, when, before and after stand in the audit log, in one transaction."""

    never_logged: tuple[str, ...] = ("password",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: models.Model, form: "ModelForm[Any]", change: bool) -> None:
        with transaction.atomic():
            before = self._values(type(obj)._default_manager.filter(pk=obj.pk).first()) if change else None
            super().save_model(request, obj, form, change)
            after = self._values(obj)
            changed = [name for name in after or {} if before is None or before.get(name) != (after or {})[name]]
            log_change(
                request,
                verb=f"{obj._meta.model_name}.{'change' if change else 'add'}",
                subject=f"{obj._meta.model_name}:{obj.pk}",
                before={name: before.get(name) for name in changed} if before is not None else None,
                after={name: (after or {})[name] for name in changed},
            )

    def _values(self, row: models.Model | None) -> dict[str, Any] | None:
        if row is None:
            return None
        return {name: str(value) for name, value in model_to_dict(row).items() if name not in self.never_logged}


def log_change(
    request: HttpRequest, *, verb: str, subject: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> AuditEntry:
    """Write down what the signed-in person changed in the console."""
    user = request.user
    assert isinstance(user, User)
    actor = actor_for_user(user, None)
    if actor is None:  # a superuser of no organization: the entry still names the person
        return AuditEntry.objects.create(
            at=clock.now(), user=user, verb=verb[:60], subject=subject, before=before, after=after
        )
    return audit.record(actor=actor, verb=verb[:60], subject=subject, now=clock.now(), before=before, after=after)
