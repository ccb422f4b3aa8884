"""Lists in pages by cursor: newest first, stable while rows are added."""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from rest_framework.request import Request

from core.errors import BadRequest

M = TypeVar("M", bound=Model)
DEFAULT_LIMIT, MAX_LIMIT = 50, 500


class BadCursor(BadRequest):
    """The cursor was not given out by this list."""

    code = "bad-cursor"


def page(
    request: Request, rows: "QuerySet[M]", present: Callable[[M], dict[str, Any]], *, by: str = "id"
) -> dict[str, Any]:
    """
    Return `{"items", "next_cursor"}` of the rows before the request's `cursor`, ordered by the unique field `by`.

    :raises BadRequest: a `limit` that is not 1 to 500.
    :raises BadCursor: a `cursor` that no page of this list gave.
    """
    limit = _limit(request.query_params.get("limit"))
    cursor = request.query_params.get("cursor")
    if cursor:
        try:
            rows = rows.filter(**{f"{by}__lt": _decode(cursor)})
        except (ValueError, TypeError, ValidationError):
            raise BadCursor("This cursor was given out by another list; begin without one.", field="cursor") from None
    found = list(rows.order_by(f"-{by}")[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    return {
        "items": [present(row) for row in found],
        "next_cursor": _encode(getattr(found[-1], by)) if more else None,
    }


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT):
        raise BadRequest(f"limit is a whole number from 1 to {MAX_LIMIT}.", field="limit")
    return int(text)


def _encode(value: Any) -> str:
    raw = json.dumps(value if isinstance(value, int) else str(value)).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(cursor: str) -> Any:
    try:
        value = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        value = None
    if isinstance(value, bool) or not isinstance(value, int | str) or (isinstance(value, int) and abs(value) >= 2**63):
        raise BadCursor("This cursor was not given out by this list; begin without one.", field="cursor")
    return value
