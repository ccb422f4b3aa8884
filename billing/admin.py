"""The operator's console: how organizations are billed, to change; the books, to look at."""


from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from billing.models import Account, BillingProfile, Charge, Deposit, Invoice, Transfer
from core.templatetags.ciyuan import yuan
from identity.console import Audited, LookOnly


@admin.register(BillingProfile)
class BillingProfileAdmin(Audited):
    list_display = ("organization", "cycle", "fee_thousandths", "payment_days", "tax_number")
    list_filter = ("cycle",)


@admin.register(Account)
class AccountAdmin(LookOnly):
    list_display = ("kind", "organization", "scope", "posted", "held")
    list_filter = ("kind",)
    list_select_related = ("organization",)

    @admin.display(description=_("¥ posted"), ordering="posted_micro")
    def posted(self, row: Account) -> str:
        return yuan(row.posted_micro)

    @admin.display(description=_("¥ held"), ordering="held_micro")
    def held(self, row: Account) -> str:
        return yuan(row.held_micro)


@admin.register(Transfer)
class TransferAdmin(LookOnly):
    list_display = ("key", "kind", "stage", "debit", "credit", "amount", "booked_at")
    list_select_related = ("debit", "credit")
    show_full_result_count = False
    ordering = ("-id",)

    @admin.display(description="¥")
    def amount(self, row: Transfer) -> str:
        return yuan(row.amount_micro)


@admin.register(Deposit)
class DepositAdmin(LookOnly):
    list_display = ("reference", "organization", "amount", "method", "received_at")
    list_select_related = ("organization",)

    @admin.display(description="¥", ordering="amount_micro")
    def amount(self, row: Deposit) -> str:
        return yuan(row.amount_micro)


@admin.register(Charge)
class ChargeAdmin(LookOnly):
    list_display = ("source_key", "revision", "kind", "buyer", "provider", "scope", "charged_at")
    list_filter = ("kind",)
    list_select_related = ("buyer", "provider")
    ordering = ("-id",)


@admin.register(Invoice)
class InvoiceAdmin(LookOnly):
    list_display = ("number", "kind", "organization", "total", "issued_at")
    list_filter = ("kind", "cycle")
    search_fields = ("number",)
    list_select_related = ("organization",)
    ordering = ("-id",)

    @admin.display(description="¥", ordering="total_micro")
    def total(self, row: Invoice) -> str:
        return yuan(row.total_micro)
