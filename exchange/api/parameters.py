"""Query parameters, read strictly."""

from datetime import datetime

from django.utils.dateparse import parse_datetime
from rest_framework.request import Request

from core.errors import BadRequest


def whole_number(request: Request, name: str) -> int | None:
    """
    Return a query parameter that is a whole number, or None without it.

    :raises BadRequest: for anything else.
    """
    text = request.query_params.get(name)
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadRequest(f"{name} is a whole number.", field=name)
    return int(text)


def moment(request: Request, name: str) -> datetime | None:
    """
    Return a query parameter that is a time with its zone, or None without it.

    :raises BadRequest: for anything else.
    """
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        found = parse_datetime(text.replace(" ", "+"))  # an unescaped plus arrives as a space
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise BadRequest(f"{name} is a time with its zone, such as 2026-11-20T16:00:00Z.", field=name)
    return found
