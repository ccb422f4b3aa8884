"""The one place where errors become `application/problem+json`."""

import logging
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import set_rollback

from core.errors import Problem
from core.money import BadAmount

log = logging.getLogger(__name__)

CODES = {
    400: ("bad-request", "Bad request"),
    401: ("unauthenticated", "Sign-in needed"),
    403: ("forbidden", "Not allowed"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    406: ("not-acceptable", "Not acceptable"),
    413: ("body-too-large", "Body too large"),
    415: ("unsupported-media-type", "Unsupported media type"),
    429: ("too-many-requests", "Too many requests"),
    503: ("temporarily-unavailable", "Temporarily unavailable"),
}
UNAVAILABLE = (
    "The exchange is too busy for this now, or its database is away. Send it again in a moment, with the same"
    " Idempotency-Key: it is done once."
)


class ProblemRenderer(JSONRenderer):
    """JSON under the media type of RFC 9457."""

    media_type = "application/problem+json"


def problem_body(status: int, detail: str, **extra: Any) -> dict[str, Any]:
    """Return a problem document for an HTTP status that has no exception of its own here."""
    code, title = CODES.get(status, ("error", "Error"))
    return {
        "type": f"urn:ciyuan:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
    } | extra


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an anticipated error as a problem document; leave the others to Django's handler (500)."""
    headers: dict[str, str] = {}
    if isinstance(error, Problem):
        body = error.as_dict()
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if "retry_after" in error.extra:
            headers["Retry-After"] = str(error.extra["retry_after"])
    elif isinstance(error, BadAmount):
        body = problem_body(400, str(error))
    elif isinstance(error, exceptions.ValidationError):
        body = _validation(error)
    elif isinstance(error, exceptions.APIException):
        body = problem_body(error.status_code, _sentence(error.detail))
        wait = getattr(error, "wait", None)
        if wait:
            headers["Retry-After"] = str(int(wait) + 1)
        if error.status_code == 401:
            headers["WWW-Authenticate"] = getattr(error, "auth_header", None) or "Bearer"
    elif isinstance(error, Http404):
        body = problem_body(404, "There is nothing at this address that this key may see.")
    elif isinstance(error, PermissionDenied):
        body = problem_body(403, str(error) or "This key may not do that.")
    elif isinstance(error, RequestDataTooBig):
        body = problem_body(413, "The body is larger than this address accepts.")
    elif isinstance(error, OperationalError | InterfaceError):
        log.warning("the database could not be used: %s", error)
        body, headers = problem_body(503, UNAVAILABLE), {"Retry-After": "1"}
    else:
        return None
    set_rollback()
    request_id = getattr(getattr(context.get("request"), "_request", None), "request_id", None)
    if request_id:
        body["request_id"] = request_id
    return Response(body, status=body["status"], headers=headers, content_type=ProblemRenderer.media_type)


def _validation(error: exceptions.ValidationError) -> dict[str, Any]:
    """Name every offending field; the first one also stands in `field` and `detail`."""
    errors = list(_flatten(error.detail, ()))
    first = errors[0]
    detail = f"{first['field']}: {first['detail']}" if first["field"] else first["detail"]
    body = problem_body(400, detail, errors=errors)
    if first["field"]:
        body["field"] = first["field"]
    body["code"] = "invalid"
    body["type"] = "urn:ciyuan:problem:invalid"
    return body


def _flatten(detail: Any, path: tuple[str, ...]) -> Any:
    if isinstance(detail, dict):
        for name, value in detail.items():
            yield from _flatten(value, path if name == "non_field_errors" else (*path, str(name)))
    elif isinstance(detail, list) and detail and all(isinstance(item, dict | list) for item in detail):
        for index, value in enumerate(detail):
            yield from _flatten(value, (*path, str(index)))
    else:
        for message in detail if isinstance(detail, list) else [detail]:
            if message:
                yield {"field": ".".join(path) or None, "detail": str(message)}


def _sentence(detail: Any) -> str:
    if isinstance(detail, dict):
        return "; ".join(str(value) for value in detail.values())
    return str(detail)
