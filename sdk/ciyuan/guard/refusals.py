"""Why the guard does not serve a request, in the shape of OpenAI's errors. Codes are stable and counted by name."""

from __future__ import annotations

import json

INVALID, DENIED, LIMITED, FAILED = (
    "invalid_request_error", "authentication_error", "rate_limit_error", "server_error",
)  # fmt: skip


class Refusal(Exception):
    """
    :param status: of HTTP. :param code: stable. :param message: a sentence that says what would be right.
    :param kind: OpenAI's `type`. :param retry_after: whole seconds after which it may succeed.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        retry_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.kind, self.param = status, code, message, kind, param
        self.retry_after = retry_after

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}, ensure_ascii=False).encode()

    def headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.retry_after:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers
