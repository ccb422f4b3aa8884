"""Pages of webhooks: where events are sent, what came of each, the test button."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from core import clock
from identity import queries
from identity.access import Actor
from identity.actions import webhooks as actions
from identity.domain.webhooks import EVENT_TYPES
from identity.models import WebhookDelivery, WebhookEndpoint
from identity.page_forms import OnceForm
from identity.pages import require_actor

PER_PAGE = 50


class WebhookForm(OnceForm):
    """Where to send which events."""

    url = forms.CharField(max_length=500, label="URL", help_text=gettext_lazy("https://…; a public address."))
    description = forms.CharField(max_length=120, required=False, label=gettext_lazy("Description"))
    events = forms.MultipleChoiceField(
        required=False, label=gettext_lazy("Events"), widget=forms.CheckboxSelectMultiple,
        choices=[(name, name) for name in EVENT_TYPES if name != "webhook.test"],
        help_text=gettext_lazy("None chosen: all of them."),
    )  # fmt: skip


def _may_change(actor: Actor) -> bool:
    return {"trade", "billing"} <= actor.scopes


@require_GET
@require_actor("read")
def webhooks(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The organization's webhooks and a form for another one."""
    return _show(request, actor)


@require_POST
@require_actor("trade")
def new_webhook(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Make a webhook; its secret is shown on this one page."""
    actor.require_administration()
    form = WebhookForm(request.POST)

    def perform(typed: dict[str, Any]) -> dict[str, Any]:
        row = actions.create_endpoint(organization_id=actor.organization_id, **typed, now=clock.now(), actor=actor)
        return {"id": row.pk, "secret": row.secret}

    answer = form.send(actor, perform, secret_fields={"secret"})
    if answer is None:
        return _show(request, actor, form=form, status=422)
    if answer.repeated:
        messages.info(request, _("This webhook was made already; its secret was shown then."))
        return redirect("webhooks")
    response = _show(request, actor, secret=answer.body["secret"])
    response["Cache-Control"] = "no-store"
    return response


@require_GET
@require_actor("read")
def webhook(request: HttpRequest, actor: Actor, webhook_id: int) -> HttpResponse:
    """One webhook with its delivery log, the latest first; what is pending is looked at again every two seconds."""
    endpoint = _endpoint(actor, webhook_id)
    state = request.GET.get("state", "")
    rows = queries.webhook_deliveries(endpoint).order_by("-id")
    if state in WebhookDelivery.State.values:
        rows = rows.filter(state=state)
    page = Paginator(rows.prefetch_related("attempts"), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "endpoint": endpoint, "page": page, "state": state, "states": WebhookDelivery.State.choices,
        "query": f"state={state}" if state else "", "may_change": _may_change(actor),
        "pending": any(row.state == WebhookDelivery.State.PENDING for row in page),
    }  # fmt: skip
    part = request.headers.get("HX-Request") == "true"
    return render(request, "identity/_webhook_log.html" if part else "identity/webhook.html", context)


@require_POST
@require_actor("trade")
def change_webhook(request: HttpRequest, actor: Actor, webhook_id: int) -> HttpResponse:
    """Send a test, switch it on or off, replay what failed, rotate its secret, or delete it."""
    actor.require_administration()
    endpoint = _endpoint(actor, webhook_id)
    own = {"organization_id": actor.organization_id, "endpoint_id": endpoint.pk}
    what = request.POST.get("what", "")
    doings: dict[str, tuple[Callable[[], object], str]] = {
        "test": (lambda: actions.send_test(**own, now=clock.now()), _("A test event is on its way.")),
        "on": (lambda: _switch(own, actor, True), _("The webhook is switched on.")),
        "off": (lambda: _switch(own, actor, False), _("The webhook is switched off.")),
        "replay": (
            lambda: actions.replay_since(**own, since=endpoint.created_at, only_failed=True),
            _("What had failed is on its way again."),
        ),
        "delete": (
            lambda: actions.delete_endpoint(**own, now=clock.now(), actor=actor), _("The webhook is deleted."),
        ),
    }  # fmt: skip
    if what not in doings:
        raise Http404
    perform, said = doings[what]
    form = OnceForm(request.POST)

    def once(_typed: dict[str, Any]) -> dict[str, Any]:
        perform()
        return {"what": what}

    if form.send(actor, once) is None:
        messages.error(request, str(next(iter(form.errors.values()))[0]))
    else:
        messages.success(request, said)
    return redirect("webhooks") if what == "delete" else redirect("webhook", endpoint.pk)


@require_POST
@require_actor("trade")
def replay_delivery(request: HttpRequest, actor: Actor, delivery_id: UUID) -> HttpResponse:
    """Send one event again, with the same id."""
    actor.require_administration()
    delivery = queries.webhook_delivery(actor, delivery_id)
    if delivery is None:
        raise Http404
    form = OnceForm(request.POST)
    answer = form.send(
        actor,
        lambda _typed: {
            "delivery": str(actions.replay_delivery(organization_id=actor.organization_id, delivery_id=delivery_id).pk)
        },
    )
    if answer is None:
        messages.error(request, str(next(iter(form.errors.values()))[0]))
    else:
        messages.success(request, _("It is on its way again."))
    return redirect("webhook", delivery.endpoint_id)


def _switch(own: dict[str, int], actor: Actor, enabled: bool) -> WebhookEndpoint:
    return actions.change_endpoint(**own, changes={"enabled": enabled}, now=clock.now(), actor=actor)


def _endpoint(actor: Actor, webhook_id: int) -> WebhookEndpoint:
    found = queries.webhook_endpoints(actor).filter(pk=webhook_id).first()
    if found is None:
        raise Http404
    return found


def _show(request: HttpRequest, actor: Actor, *, status: int = 200, **more: Any) -> HttpResponse:
    context = {
        "endpoints": queries.webhook_endpoints(actor).order_by("-pk"),
        "types": EVENT_TYPES.items(),
        "form": WebhookForm(),
        "may_change": _may_change(actor),
    }
    return render(request, "identity/webhooks.html", context | more, status=status)
