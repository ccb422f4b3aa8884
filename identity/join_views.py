"""The rulebook, and how a person who signed up opens an organization under it."""

from typing import cast

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from core import clock
from core.errors import Problem
from core.transactions import durable
from identity import rulebook
from identity.access import Actor
from identity.actions.joining import KINDS, accept_rules, join
from identity.models import Organization, RulebookAcceptance, User
from identity.page_forms import told
from identity.pages import page_actor, require_actor


class JoinForm(forms.Form):
    """A new organization and the version of the rulebook that was shown."""

    name = forms.CharField(
        max_length=120, label=gettext_lazy("Name in Latin letters"),
        help_text=gettext_lazy("As it stands in files for abroad, such as Lantern Search Ltd."),
    )  # fmt: skip
    name_zh = forms.CharField(
        max_length=120, required=False, label=gettext_lazy("Registered Chinese name"),
        help_text=gettext_lazy("As it stands on invoices."),
    )  # fmt: skip
    kind = forms.ChoiceField(
        choices=[(kind.value, kind.label) for kind in KINDS], label=gettext_lazy("It will"),
        widget=forms.RadioSelect, initial=Organization.Kind.BUYER,
    )  # fmt: skip
    rules_version = forms.CharField(max_length=20, widget=forms.HiddenInput)
    accepted = forms.BooleanField(
        label=gettext_lazy("We accept the rulebook and the fee schedule"),
        error_messages={"required": gettext_lazy("Without the rulebook there is no trading here.")},
    )


@login_required
@require_http_methods(["GET", "POST"])
def new_organization(request: HttpRequest) -> HttpResponse:
    """Open an organization; who has one already is shown it."""
    if page_actor(request) is not None and request.method == "GET":
        return redirect("organization")
    book = rulebook.in_force(clock.now())
    form = JoinForm(request.POST or None, initial={"rules_version": book.version})
    if request.method == "POST" and form.is_valid():
        typed = {name: form.cleaned_data[name] for name in ("name", "name_zh", "kind", "rules_version")}
        try:
            made = durable(lambda: join(user=cast(User, request.user), now=clock.now(), **typed))
        except Problem as problem:
            form.add_error(problem.field if problem.field in form.fields else None, told(problem))
        else:
            if made.status == Organization.Status.SUSPENDED:
                messages.info(request, _("The organization is open; the operator reviews it before it may trade."))
            else:
                messages.success(request, _("The organization is open."))
            return redirect("top-up" if made.buys else "deployments")
    return render(request, "identity/join.html", {"form": form, "book": book}, status=422 if form.errors else 200)


@require_GET
def rules(request: HttpRequest, version: str = "") -> HttpResponse:
    """The rulebook: the version in force, or another one by its name."""
    now = clock.now()
    current = rulebook.in_force(now)
    book = rulebook.version(version) if version else current
    if book is None:
        raise Http404
    actor = page_actor(request)
    accepted = None
    if actor is not None:
        rows = RulebookAcceptance.objects.select_related("user").filter(organization_id=actor.organization_id)
        accepted = rows.filter(version=book.version).first()
    may_accept = (
        actor is not None and accepted is None and book is current and {"trade", "billing"} <= actor.scopes
        and not actor.organization.operates
    )  # fmt: skip
    context = {
        "book": book, "current": current, "versions": rulebook.versions()[::-1], "accepted": accepted,
        "may_accept": may_accept, "digest": book.digest.hex(),
    }  # fmt: skip
    return render(request, "identity/rules.html", context)


@require_POST
@require_actor("trade")
def accept(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Accept the rulebook in force for one's organization."""
    actor.require_administration()
    version = request.POST.get("version", "")[:20]
    try:
        durable(lambda: accept_rules(actor=actor, rules_version=version, now=clock.now()))
    except Problem as problem:
        messages.error(request, told(problem))
    else:
        messages.success(request, _("The rulebook is accepted."))
    return redirect("rules")
