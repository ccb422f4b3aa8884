"""The operator's console: organizations and people, to change with an audit entry; keys and the log, to look at."""

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from core.money import format_yuan
from identity.console import Audited, LookOnly
from identity.models import ApiKey, AuditEntry, Membership, Organization, User

admin.site.unregister(Group)  # roles belong to memberships


class Memberships(TabularInline):  # type: ignore[misc]
    """Who may act for whom, beside either; invited and added through pages and API."""

    model = Membership
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Organization)
class OrganizationAdmin(Audited):
    list_display = ("name", "name_zh", "kind", "status", "control_group", "credit_limit", "created_at")
    list_filter = ("kind", "status")
    search_fields = ("name", "name_zh", "control_group", "=id")
    readonly_fields = ("kind", "created_at")
    inlines: ClassVar = [Memberships]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # made through the API, with their ledger and profile

    @admin.display(description=_("¥ credit"), ordering="credit_limit_micro")
    def credit_limit(self, row: Organization) -> str:
        return format_yuan(row.credit_limit_micro)


@admin.register(User)
class UserAdmin(Audited, DjangoUserAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    ordering = ("email",)
    list_display = ("email", "name", "is_staff", "is_active", "last_login")
    list_filter = ("is_staff", "is_active")
    search_fields = ("email", "name")
    readonly_fields = ("last_login", "date_joined")
    inlines: ClassVar = [Memberships]
    fieldsets = (
        (None, {"fields": ("email", "name", "password")}),
        (_("Access"), {"fields": ("is_active", "is_staff", "is_superuser")}),
        (_("Dates"), {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "name", "password1", "password2")}),)


@admin.register(ApiKey)
class ApiKeyAdmin(LookOnly):
    list_display = ("prefix", "name", "organization", "scopes", "created_at", "expires_at", "revoked_at")
    list_filter = ("organization__kind",)
    search_fields = ("prefix", "name", "organization__name", "organization__name_zh")
    list_select_related = ("organization",)
    exclude = ("digest",)


@admin.register(AuditEntry)
class AuditEntryAdmin(LookOnly):
    list_display = ("at", "verb", "subject", "user", "organization", "changes")
    list_filter = ("verb",)
    search_fields = ("subject", "verb", "user__email", "request_id")
    date_hierarchy = "at"
    list_select_related = ("user", "organization")
    ordering = ("-at", "-id")

    @admin.display(description=_("Before → after"))
    def changes(self, row: AuditEntry) -> str:
        return f"{row.before or ''} → {row.after or ''}"[:200]
