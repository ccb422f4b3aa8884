"""Query parameters, read strictly."""

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
