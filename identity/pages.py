"""The gate for pages: the signed-in person, acting for the organization chosen in the session."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from core.errors import Forbidden
from identity.access import Actor
from identity.models import User
from identity.queries import actor_for_user

P = ParamSpec("P")
SESSION_KEY = "organization_id"


def page_actor(request: HttpRequest) -> Actor | None:
    """Return who the visitor acts for; None for a visitor, or a person who belongs to no organization."""
    if not isinstance(request.user, User):
        return None
    chosen = request.session.get(SESSION_KEY)
    return actor_for_user(request.user, chosen) or actor_for_user(request.user, None)


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
        def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            actor = page_actor(request)
            if actor is None:
                raise PermissionDenied(_("Your account belongs to no organization yet. Ask its owner to add you."))
            try:
                actor.require(scope)
            except Forbidden as error:
                raise PermissionDenied(error.detail) from error
            return view(request, actor, *args, **kwargs)

        return guarded

    return decorate


def actor_context(request: HttpRequest) -> dict[str, Any]:
    """Give every template the actor and the organizations that the person can switch to."""
    if not getattr(request, "user", None) or not request.user.is_authenticated:
        return {"actor": None, "memberships": []}
    assert isinstance(request.user, User)
    memberships = request.user.memberships.select_related("organization").order_by("created_at", "id")
    return {"actor": page_actor(request), "memberships": memberships}
