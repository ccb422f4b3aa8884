"""The gate for pages: the signed-in person, acting for the organization chosen in the session."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast
from urllib.parse import urlsplit

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from core import clock
from core.errors import Forbidden
from identity.access import Actor
from identity.models import Membership, User
from identity.problem_texts import in_readers_language
from identity.queries import actor_for_user, actor_of, memberships_of

P = ParamSpec("P")
SESSION_KEY = "organization_id"


def page_actor(request: HttpRequest) -> Actor | None:
    """Return who the visitor acts for; None for a visitor, or a person who belongs to no organization."""
    if not isinstance(request.user, User):
        return None
    chosen = request.session.get(SESSION_KEY)
    memberships = _memberships(request)
    return actor_of(memberships, chosen) or actor_of(memberships, None)


def _memberships(request: HttpRequest) -> list[Membership]:
    """Return the visitor's memberships, read once a request."""
    known: list[Membership] | None = getattr(request, "_memberships", None)
    if known is None:
        known = memberships_of(cast(User, request.user))
        request._memberships = known  # type: ignore[attr-defined]
    return known


def require_actor(
    scope: str,
) -> Callable[
    [Callable[Concatenate[HttpRequest, Actor, P], HttpResponseBase]],
    Callable[Concatenate[HttpRequest, P], HttpResponseBase],
]:
    """Let a page view be called only with an actor who has `scope`; visitors are asked to sign in."""

    def decorate(
        view: Callable[Concatenate[HttpRequest, Actor, P], HttpResponseBase],
    ) -> Callable[Concatenate[HttpRequest, P], HttpResponseBase]:
        @wraps(view)
        def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return redirect_to_login(_page_of(request))
            actor = page_actor(request)
            if actor is None:
                return redirect("organization-new")  # or its owner adds the person, meanwhile
            try:
                actor.require(scope)
                return view(request, actor, *args, **kwargs)  # which may require more of the actor
            except Forbidden as error:
                raise PermissionDenied(in_readers_language(error.detail)) from error

        return guarded

    return decorate


def _page_of(request: HttpRequest) -> str:
    """Return the page to come back to after sign-in: a form's own page, for what it sends has no page."""
    if request.method == "GET":
        return request.get_full_path()
    page = urlsplit(request.headers.get("Referer", ""))
    return page.path if page.path and page.netloc == request.get_host() else "/"


def page_context(request: HttpRequest) -> dict[str, Any]:
    """Give every template the actor, the organizations to switch to, the navigation and the product's time."""
    context: dict[str, Any] = {
        "actor": None,
        "memberships": [],
        "product_now": clock.now(),
        "product_speed": clock.speed(),
    }
    if isinstance(getattr(request, "user", None), User):
        context["actor"] = page_actor(request)
        context["memberships"] = _memberships(request)
    context["navigation"] = [
        {
            "href": href,
            "label": label,
            "current": request.path == href or (href != "/" and request.path.startswith(href)),
        }
        for href, label in _navigation(context["actor"])
    ]
    return context


def _navigation(actor: Actor | None) -> list[tuple[str, str]]:
    items = [("/markets", _("Markets")), ("/auctions", _("Auctions"))]
    if actor is not None:
        items += [("/overview", _("Overview")), ("/orders", _("Orders")), ("/contracts", _("Contracts"))]
        if actor.organization.provides:
            items += [("/deployments", _("Deployments")), ("/capacity", _("Capacity"))]
            items += [("/deliveries", _("Deliveries"))]
        items += [("/meters", _("Meters")), ("/usage", _("Usage"))]
        if actor.organization.provides:
            items += [("/statements", _("Statements"))]
        if actor.organization.buys:
            items += [("/invoices", _("Invoices"))]
        if "operate" in actor.scopes:
            items += [("/finance", _("Finance"))]
        return [*items, ("/account", _("Account")), ("/organization", _("Organization"))]
    return [*items, ("/index", _("Index")), ("/standard-token", _("The standard token")), ("/docs/api", "API")]


@require_POST
def switch_organization(request: HttpRequest) -> HttpResponse:
    """Act for another of one's organizations from now on."""
    chosen = request.POST.get("organization", "")
    numeric = chosen.isascii() and chosen.isdigit() and len(chosen) < 19
    if isinstance(request.user, User) and numeric and actor_for_user(request.user, int(chosen)) is not None:
        request.session[SESSION_KEY] = int(chosen)
    following = request.POST.get("next", "/")
    safe = url_has_allowed_host_and_scheme(following, {request.get_host()}, require_https=request.is_secure())
    return redirect(following if safe else "/")
