"""Pages of an organization's own affairs: its API keys and the people who act for it."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from core import clock
from identity.access import Actor
from identity.actions import keys as key_actions
from identity.actions import members as member_actions
from identity.actions.organizations import invite_member
from identity.models import ApiKey, Membership
from identity.page_forms import OnceForm
from identity.page_forms import new_key as page_key
from identity.pages import require_actor

SCOPES = {
    "read": gettext_lazy("read"), "trade": gettext_lazy("trade and publish"),
    "billing": gettext_lazy("see and settle money"), "meter": gettext_lazy("send usage events"),
    "operate": gettext_lazy("run the exchange"),
}  # fmt: skip


class KeyForm(OnceForm):
    """A new API key."""

    name = forms.CharField(
        max_length=80, label=gettext_lazy("Name"), help_text=gettext_lazy("What will use it, such as trading-bot.")
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("It may"),
        widget=forms.CheckboxSelectMultiple,
        choices=[(name, SCOPES[name]) for name in ("read", "trade", "billing")],
        initial=["read"],
        error_messages={"required": gettext_lazy("Choose at least one.")},
    )


class MemberForm(OnceForm):
    """A person who is to act for the organization."""

    email = forms.EmailField(max_length=254, label=gettext_lazy("E-mail"))
    name = forms.CharField(max_length=120, required=False, label=gettext_lazy("Name"))
    role = forms.ChoiceField(choices=Membership.Role.choices, label=gettext_lazy("Role"), initial="viewer")


def _administers(actor: Actor) -> bool:
    return {"trade", "billing"} <= actor.scopes


@require_GET
@require_actor("read")
def organization(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Keys and members of the organization."""
    return _show(request, actor)


@require_http_methods(["POST"])
@require_actor("trade")
def new_key(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Make a key; its secret is shown on this one page."""
    form = KeyForm(request.POST)
    actor.require_administration()

    def perform(typed: dict[str, Any]) -> dict[str, Any]:
        made = key_actions.create_key(
            organization=actor.organization, name=typed["name"], scopes=typed["scopes"], now=clock.now(), actor=actor
        )
        return {"secret": made.secret}

    answer = form.send(actor, perform, secret_fields={"secret"})
    if answer is None:
        return _show(request, actor, key_form=form, status=422)
    if answer.repeated:
        messages.info(request, _("This key was made already; its secret was shown then."))
        return redirect("organization")
    response = _show(request, actor, secret=answer.body["secret"])
    response["Cache-Control"] = "no-store"
    return response


@require_POST
@require_actor("trade")
def revoke_key(request: HttpRequest, actor: Actor, key_id: int) -> HttpResponse:
    """End a key at once."""
    actor.require_administration()
    form = OnceForm({"key": f"revoke:{key_id}"})
    answer = form.send(
        actor,
        lambda _typed: {
            "key": key_actions.revoke_key(
                organization_id=actor.organization_id, key_id=key_id, now=clock.now(), actor=actor
            ).pk
        },
    )
    if answer is None:
        messages.error(request, str(form.non_field_errors()[0]))
    else:
        messages.success(request, _("The key is revoked."))
    return redirect("organization")


@require_POST
@require_actor("trade")
def invite(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Let a person act for the organization."""
    actor.require_administration()
    form = MemberForm(request.POST)
    answer = form.send(
        actor,
        lambda typed: {
            "membership": invite_member(organization=actor.organization, actor=actor, now=clock.now(), **typed).pk
        },
    )
    if answer is None:
        return _show(request, actor, member_form=form, status=422)
    messages.success(request, _("Added. A new person sets a password by “forgotten password”."))
    return redirect("organization")


class RoleForm(OnceForm):
    """Another role for a member."""

    role = forms.ChoiceField(choices=Membership.Role.choices)


@require_POST
@require_actor("trade")
def change_member(request: HttpRequest, actor: Actor, membership_id: int) -> HttpResponse:
    """Give a member another role."""
    actor.require_administration()
    form = RoleForm({"role": request.POST.get("role"), "key": f"{membership_id}:{request.POST.get('key', '')[:36]}"})
    answer = form.send(
        actor,
        lambda typed: {
            "membership": member_actions.change_role(
                organization=actor.organization, membership_id=membership_id, role=typed["role"], now=clock.now(),
                actor=actor,
            ).pk
        },
    )  # fmt: skip
    return _after_member(request, form, answer is not None, _("The role is changed."))


@require_POST
@require_actor("trade")
def remove_member(request: HttpRequest, actor: Actor, membership_id: int) -> HttpResponse:
    """Let a person act for the organization no more."""
    actor.require_administration()
    form = OnceForm({"key": f"remove-member:{membership_id}"})
    answer = form.send(
        actor,
        lambda _typed: {
            "membership": member_actions.remove_member(
                organization=actor.organization, membership_id=membership_id, now=clock.now(), actor=actor
            ).pk
        },
    )
    return _after_member(request, form, answer is not None, _("Removed: they act for the organization no more."))


def _after_member(request: HttpRequest, form: OnceForm, done: bool, said: str) -> HttpResponse:
    if done:
        messages.success(request, said)
    else:
        messages.error(request, str(next(iter(form.errors.values()))[0]))
    return redirect("organization")


def _show(request: HttpRequest, actor: Actor, *, status: int = 200, **more: Any) -> HttpResponse:
    keys = ApiKey.objects.filter(organization_id=actor.organization_id).order_by("-pk")[:100]
    members = Membership.objects.select_related("user").filter(organization_id=actor.organization_id).order_by("pk")
    context = {
        "keys": keys,
        "scopes": SCOPES,
        "members": members,
        "now": clock.now(),
        "administers": _administers(actor),
        "roles": Membership.Role.choices,
        "member_key": page_key(),
        "key_form": KeyForm(),
        "member_form": MemberForm(),
    }
    return render(request, "identity/organization.html", context | more, status=status)
