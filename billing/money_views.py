"""Pages of money from and to the outside: how to top up, and what is paid out to a provider."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from billing import payout_queries, queries
from billing.actions import payees, payouts
from billing.actions.stripe import ask_payment
from billing.domain.bank_files import payment_reference
from billing.domain.payouts import decide
from billing.models import BankAccount, Deposit, Payout, StripePayment
from billing.stripe_door import StripeRefused, StripeUnavailable
from billing.stripe_sweeps import door, open_checkout
from core import clock
from core.form_fields import YuanField
from core.templatetags.ciyuan import yuan
from identity.access import Actor
from identity.page_forms import OnceForm
from identity.pages import require_actor

PER_PAGE = 50
SHOWN = 20


class CardForm(OnceForm):
    """How much to pay by card, Alipay or WeChat Pay."""

    amount = YuanField(max_length=20, label=gettext_lazy("Amount in ¥"))


class BankAccountForm(OnceForm):
    """An account of one's own to be paid to."""

    holder = forms.CharField(
        max_length=120, label=gettext_lazy("Holder"),
        help_text=gettext_lazy("The organization itself, by its registered name."),
    )  # fmt: skip
    number = forms.CharField(max_length=40, label=gettext_lazy("Account number"))
    bank = forms.CharField(max_length=120, label=gettext_lazy("Bank"))


@require_GET
@require_actor("read")
def top_up(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Where to send money, what to write on it, and what has arrived."""
    return _show_top_up(request, actor)


@require_POST
@require_actor("billing")
def pay_by_card(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Pay an amount on the payment service's page."""
    form = CardForm(request.POST)
    stripe = door()
    if stripe is None:
        messages.error(request, _("This exchange takes no cards; pay by bank transfer."))
        return redirect("top-up")

    def perform(typed: dict[str, Any]) -> dict[str, Any]:
        asked = ask_payment(
            organization_id=actor.organization_id, amount_micro=typed["amount"], invoice_id=None, now=clock.now()
        )
        return {"id": asked.pk}

    answer = form.send(actor, perform)
    if answer is None:
        return _show_top_up(request, actor, card_form=form, status=422)
    payment = StripePayment.objects.get(pk=answer.body["id"])
    try:  # the transaction is over: nobody waits for the payment service with a lock in hand
        open_checkout(stripe, payment, base_url=settings.BASE_URL)
    except StripeUnavailable:
        messages.error(request, _("The payment service does not answer now. Try again in a minute."))
    except StripeRefused as error:
        messages.error(request, _("The payment service refused: %(reason)s") % {"reason": error})
    return redirect("top-up")  # where the way to its page stands: our forms lead nowhere else


def _show_top_up(request: HttpRequest, actor: Actor, *, status: int = 200, **more: Any) -> HttpResponse:
    rows = Deposit.objects.filter(organization_id=actor.organization_id).order_by("-pk")
    context = {
        "balance": queries.balance(actor.organization_id),
        "reference": payment_reference(actor.organization_id),
        "bank": settings.BANK_ACCOUNT,
        "page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page")),
        "card_form": CardForm() if settings.STRIPE_API_KEY and "billing" in actor.scopes else None,
        "pending": StripePayment.objects.filter(organization_id=actor.organization_id, state="pending")
        if settings.STRIPE_API_KEY else [],
    }  # fmt: skip
    return render(request, "billing/top_up.html", context | more, status=status)


@require_GET
@require_actor("read")
def payouts_page(request: HttpRequest, actor: Actor) -> HttpResponse:
    """What could be paid out now or what is in its way, the accounts, and what was paid."""
    return _show_payouts(request, actor)


@require_POST
@require_actor("billing")
def request_payout(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Ask for what settled statements come to."""
    form = OnceForm(request.POST)
    answer = form.send(
        actor,
        lambda _typed: {
            "payout": payouts.request_payout(
                organization_id=actor.organization_id, by=f"user:{actor.user_id}", now=clock.now()
            ).pk
        },
    )
    if answer is None:
        messages.error(request, str(form.non_field_errors()[0]))
    else:
        messages.success(request, _("The payout is asked for."))
    return redirect("payouts")


@require_POST
@require_actor("billing")
def new_bank_account(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Name an account to be paid to."""
    form = BankAccountForm(request.POST)

    def perform(typed: dict[str, Any]) -> dict[str, Any]:
        made = payees.add_bank_account(organization=actor.organization, **typed, now=clock.now(), actor=actor)
        return {"account": made.pk}

    if form.send(actor, perform) is None:
        return _show_payouts(request, actor, account_form=form, status=422)
    messages.success(request, _("The account is noted; it serves once the operator has verified it."))
    return redirect("payouts")


@require_POST
@require_actor("billing")
def close_bank_account(request: HttpRequest, actor: Actor, account_id: int) -> HttpResponse:
    """Use an account no more."""
    form = OnceForm({"key": f"close-bank-account:{account_id}"})
    answer = form.send(
        actor,
        lambda _typed: {
            "account": payees.close_bank_account(
                account_id=account_id, organization_id=actor.organization_id, now=clock.now(), actor=actor
            ).pk
        },
    )
    if answer is None:
        messages.error(request, str(form.non_field_errors()[0]))
    else:
        messages.success(request, _("The account is used no more."))
    return redirect("payouts")


def _show_payouts(request: HttpRequest, actor: Actor, *, status: int = 200, **more: Any) -> HttpResponse:
    own = actor.organization_id
    rows = Payout.objects.filter(organization_id=own).prefetch_related("statements__statement").order_by("-pk")
    rules, balance = payouts.rules(), queries.balance(own)
    standing = payout_queries.standing(own, rules, balance)
    decision = decide(standing, rules)
    context = {
        "balance": balance,
        "decision": decision,
        "in_the_way": _in_the_way(decision.code),
        "accounts": BankAccount.objects.filter(organization_id=own, closed_at=None).order_by("-pk")[:SHOWN],
        "page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page")),
        "request_form": OnceForm(),
        "account_form": BankAccountForm(initial={"holder": actor.organization.name_zh or actor.organization.name}),
        "may_ask": "billing" in actor.scopes,
        "needs_tax_invoice": rules.needs_tax_invoice,
        "minimum": yuan(rules.minimum_micro),
        "waiting": standing.waiting_invoice_micro,
    }
    return render(request, "billing/payouts.html", context | more, status=status)


def _in_the_way(code: str) -> str:
    """Return what keeps a payout from going, in the reader's language."""
    return {
        "": "",
        "payout-held": _("A discrepancy is open: payouts wait for its ruling."),
        "no-bank-account": _("There is no verified bank account that is open."),
        "tax-invoice-missing": _("Settlement statements wait for a tax invoice that matches them."),
        "nothing-to-pay": _("Nothing of settled windows is payable."),
        "below-minimum": _("What is payable is below the least payout."),
    }[code]
