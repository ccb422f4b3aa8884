"""
Anticipated errors. Each action's module defines its own beside the action, from these.

A problem becomes `application/problem+json` (RFC 9457) in one place, `core.api.problem`.
"""

from typing import Any, ClassVar


class Problem(Exception):
    """
    An error that a caller can do something about.

    :param detail: one sentence that says what is wrong and what would be right.
    :param field: the offending field, as the caller named it.
    :param extra: further members of the answer, JSON values only.
    """

    code: ClassVar[str] = "bad-request"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Bad request"

    def __init__(self, detail: str, *, field: str | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.extra = extra

    def as_dict(self) -> dict[str, Any]:
        """Return the members of the problem document."""
        body: dict[str, Any] = {
            "type": f"urn:ciyuan:problem:{self.code}",
            "title": str(self.title),
            "status": self.status,
            "code": self.code,
            "detail": str(self.detail),
        }
        if self.field is not None:
            body["field"] = self.field
        return body | self.extra


class BadRequest(Problem):
    """The request is not well formed, or a field of it is not."""


class Unauthenticated(Problem):
    """No key or session, or one that is not valid now."""

    code = "unauthenticated"
    status = 401
    title = "Sign-in needed"


class Forbidden(Problem):
    """The caller is known and may not do this."""

    code = "forbidden"
    status = 403
    title = "Not allowed"


class NotFound(Problem):
    """There is no such thing, or none that the caller may know of."""

    code = "not-found"
    status = 404
    title = "Not found"


class Conflict(Problem):
    """The request is fine, but the state of things does not allow it."""

    code = "conflict"
    status = 409
    title = "Conflict"
