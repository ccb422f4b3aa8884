"""What can go wrong between a client and the exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CiyuanError(Exception):
    """
    The exchange refused a request, in its own words (`application/problem+json`).

    :param code: stable, for programs: `insufficient-funds`, `idempotency-key-reused`, …
    :param detail: a sentence that says what is wrong and what would be right.
    :param field: the offending field, where there is one.
    :param status: the HTTP status; 0 where no answer came.
    :param request_id: names the request in the exchange's logs.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int = 0,
        field: str | None = None,
        request_id: str | None = None,
        problem: Mapping[str, Any] | None = None,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
        self.field = field
        self.request_id = request_id
        #: The whole problem document, with whatever further members it has.
        self.problem = dict(problem or {})
        #: Seconds that the exchange asks to wait before the next attempt.
        self.retry_after = retry_after

    def __str__(self) -> str:
        where = f" ({self.field})" if self.field and self.field not in self.detail else ""
        request = f" [request {self.request_id}]" if self.request_id else ""
        return f"{self.code}: {self.detail}{where}{request}"


class Unreachable(CiyuanError):
    """No answer came: the exchange could not be reached, or the connection broke, and retrying did not help."""


class Unauthenticated(CiyuanError):
    """No key, or one that is not valid now (401)."""


class Forbidden(CiyuanError):
    """The key may not do that (403)."""


class NotFound(CiyuanError):
    """There is no such thing, or none that the key may know of (404)."""


class Conflict(CiyuanError):
    """The state of things does not allow it (409)."""


class TooManyRequests(CiyuanError):
    """Slower, please (429); retrying did not help."""


class ConfigurationError(CiyuanError):
    """The client was not told enough to begin: no address, no key."""


_BY_STATUS: dict[int, type[CiyuanError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: TooManyRequests,
}


def error_of(
    status: int, body: Any, *, request_id: str | None, text: str = "", retry_after: float = 0.0
) -> CiyuanError:
    """Make the error of an answer with `status`; `body` is its problem document where it is one."""
    problem = body if isinstance(body, Mapping) else {}
    detail = str(problem.get("detail") or problem.get("title") or "")
    if not detail:
        # Not ours: a proxy's page, say. Its first words are better than nothing.
        words = " ".join(text.split())[:120]
        detail = f"the exchange answered {status}" + (f": {words}" if words else "")
    return _BY_STATUS.get(status, CiyuanError)(
        str(problem.get("code") or f"http-{status}"),
        detail,
        status=status,
        field=problem.get("field"),
        request_id=problem.get("request_id") or request_id,
        problem=problem,
        retry_after=retry_after,
    )
