"""
What a finance person does on the page: each task is a form with its button, its words, and the one action it calls.

`perform` runs in the transaction of the form's key, so that a double click does it once; it returns what to say.
"""

from datetime import date, datetime
from typing import Any, ClassVar

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.actions import banking, credits, disputes, payouts, periods
from billing.api.banking import person
from core.form_fields import YuanField
from core.templatetags.ciyuan import yuan
from identity.access import Actor
from identity.page_forms import OnceForm

MOST_BYTES = 5_000_000
_ID = {"min_value": 1, "max_value": 2**63 - 1, "widget": forms.HiddenInput}


class Task(OnceForm):
    """One task. `name` is how the page's one address knows it; `about` is the field that says which row it is for."""

    name: ClassVar[str]
    about: ClassVar[str] = ""
    button: ClassVar[Any]
    fields_of_problems: ClassVar[dict[str, str]] = {}

    task = forms.CharField(max_length=24, widget=forms.HiddenInput)

    def __init__(self, data: Any = None, files: Any = None, **initial: Any) -> None:
        self.row = str(initial.get(self.about) or (data or {}).get(self.about, ""))
        # Many rows have the same form: a label belongs to the field of its own row.
        row = "".join(c for c in self.row if c.isascii() and c.isdigit())
        super().__init__(data, files, initial={"task": self.name, **initial}, auto_id=f"{self.name}{row}_%s")

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        """Call the action; return what it came to, in words."""
        raise NotImplementedError


class _Month(Task):
    month = forms.RegexField(
        r"^\d{4}-(0[1-9]|1[0-2])$", label=gettext_lazy("Month"), help_text=gettext_lazy("As in 2026-11.")
    )

    @staticmethod
    def first_day(typed: dict[str, Any]) -> date:
        return date.fromisoformat(f"{typed['month']}-01")


class ProposeClose(_Month):
    name, button = "propose", gettext_lazy("Propose to close")

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        row = periods.propose_close(month=self.first_day(typed), by=person(actor), now=now, actor=actor)
        return _("%(month)s is proposed: somebody else closes it.") % {"month": row}


class Close(_Month):
    name, about, button = "close", "month", gettext_lazy("Close this month")
    month = forms.RegexField(r"^\d{4}-(0[1-9]|1[0-2])$", widget=forms.HiddenInput)

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        row = periods.close_period(month=self.first_day(typed), by=person(actor), now=now, actor=actor)
        return _("%(month)s is closed.") % {"month": row}


class _File(Task):
    file = forms.FileField(label=gettext_lazy("File (CSV)"))

    def clean_file(self) -> Any:
        given = self.cleaned_data["file"]
        if given.size > MOST_BYTES:
            raise forms.ValidationError(_("A file has at most 5 MB."))
        return given


class ImportStatement(_File):
    name, button = "statement", gettext_lazy("Import the statement")
    fields_of_problems = {"content": "file"}

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        row = banking.import_statement(content=typed["file"].read(), name=typed["file"].name[:120], now=now)
        return _("%(lines)s new lines, %(repeated)s known already, %(rejected)s rejected.") % {
            "lines": row.lines_added, "repeated": row.lines_repeated, "rejected": len(row.rejected),
        }  # fmt: skip


class ResolveLine(Task):
    name, about, button = "resolve", "line", gettext_lazy("It is theirs")
    line = forms.IntegerField(**_ID)  # type: ignore[arg-type]
    organization = forms.IntegerField(
        min_value=1, max_value=2**63 - 1, label=gettext_lazy("Organization"), help_text=gettext_lazy("Its number.")
    )

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        banking.resolve_line(line_id=typed["line"], organization_id=typed["organization"], now=now)
        return _("It is a deposit of organization %(number)s.") % {"number": typed["organization"]}


class ReturnLine(Task):
    name, about, button = "return", "line", gettext_lazy("Back to the payer")
    line = forms.IntegerField(**_ID)  # type: ignore[arg-type]

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        banking.return_line(line_id=typed["line"], by=person(actor), now=now)
        return _("It goes back with the next batch.")


class ApprovePayout(Task):
    name, about, button = "approve", "payout", gettext_lazy("Approve")
    payout = forms.IntegerField(**_ID)  # type: ignore[arg-type]

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        row = payouts.approve(payout_id=typed["payout"], by=person(actor), now=now)
        return f"{row}: {row.get_state_display()}"


class CancelPayout(Task):
    name, about, button = "cancel", "payout", gettext_lazy("Cancel")
    payout = forms.IntegerField(**_ID)  # type: ignore[arg-type]

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        row = payouts.cancel(payout_id=typed["payout"], reason=f"cancelled by {person(actor)}", now=now)
        return f"{row}: {row.get_state_display()}"


class MakeBatch(Task):
    name, button = "batch", gettext_lazy("Make a batch of what is approved")

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        batch = payouts.make_batch(now=now)
        if batch is None:
            return _("Nothing is approved and not sent.")
        return _("Batch %(number)s over ¥%(amount)s is ready to download.") % {
            "number": batch.pk, "amount": yuan(batch.total_micro),
        }  # fmt: skip


class ImportResults(_File):
    name, button = "results", gettext_lazy("Import the bank's answer")
    fields_of_problems = {"content": "file"}

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        found = payouts.import_results(content=typed["file"].read(), now=now)
        return _("%(paid)s paid, %(failed)s failed, %(repeated)s known already, %(rejected)s rejected.") % {
            **found, "rejected": len(found["rejected"]),
        }  # fmt: skip


class DecideDispute(Task):
    name, about, button = "decide", "dispute", gettext_lazy("Decide")
    dispute = forms.IntegerField(**_ID)  # type: ignore[arg-type]
    credit = YuanField(
        max_length=20, allow_zero=True, label=gettext_lazy("Credit in ¥"), help_text=gettext_lazy("0 rejects it.")
    )
    decision = forms.CharField(max_length=500, label=gettext_lazy("Why"))

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        row = disputes.decide_dispute(
            dispute_id=typed["dispute"], credit_micro=typed["credit"], decision=typed["decision"], by=person(actor),
            now=now,
        )  # fmt: skip
        return f"{row.invoice.number}: {row.get_state_display()}"


class OfferBundle(Task):
    name, button = "bundle", gettext_lazy("Offer it")
    fields_of_problems = {"price": "cost"}
    title = forms.CharField(max_length=80, label=gettext_lazy("Name"))
    cost = YuanField(max_length=20, label=gettext_lazy("Price in ¥"))
    worth = YuanField(max_length=20, label=gettext_lazy("Usage that it pays for, in ¥"))
    valid_days = forms.IntegerField(
        min_value=1, max_value=credits.MOST_DAYS, label=gettext_lazy("Days that it is good")
    )

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        row = credits.offer_bundle(
            name=typed["title"], price_micro=typed["cost"], worth_micro=typed["worth"],
            valid_days=typed["valid_days"], now=now,
        )  # fmt: skip
        return _("%(name)s is on offer.") % {"name": row}


class WithdrawBundle(Task):
    name, about, button = "withdraw", "offer", gettext_lazy("Sell it no more")
    offer = forms.IntegerField(**_ID)  # type: ignore[arg-type]

    def perform(self, actor: Actor, typed: dict[str, Any], now: datetime) -> str:
        return _("%(name)s is sold no more.") % {"name": credits.withdraw_bundle(offer_id=typed["offer"], now=now)}


TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        ProposeClose, Close, ImportStatement, ResolveLine, ReturnLine, ApprovePayout, CancelPayout, MakeBatch,
        ImportResults, DecideDispute, OfferBundle, WithdrawBundle,
    )
}  # fmt: skip
