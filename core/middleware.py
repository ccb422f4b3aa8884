"""What every request passes through: its id, the local time of pages, the policy of the admin's."""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from core import request_id

Handler = Callable[[HttpRequest], HttpResponse]


class RequestIdMiddleware:
    """Bind the request's id while it is served, and return it in the answer."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        identifier = request_id.accept(request.headers.get(request_id.HEADER))
        token = request_id.current.set(identifier)
        try:
            response = self.get_response(request)
        finally:
            request_id.current.reset(token)
        response[request_id.HEADER] = identifier
        return response


class LocalTimeMiddleware:
    """Pages show Asia/Shanghai; the API speaks UTC."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response
        self.zone = ZoneInfo(settings.LOCAL_TIME_ZONE)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/v1/"):
            return self.get_response(request)
        with timezone.override(self.zone):
            return self.get_response(request)


class AdminPolicyMiddleware:
    """The admin's theme runs Alpine, which compiles expressions, and styles itself inline; its pages alone may."""

    ALLOWED = {"script-src": ["'unsafe-inline'", "'unsafe-eval'"], "style-src": ["'unsafe-inline'"]}

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith("/admin/"):
            response._csp_update = self.ALLOWED  # type: ignore[attr-defined]
        return response
