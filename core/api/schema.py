"""What the OpenAPI document says of every operation alike: paging, the Idempotency-Key, problems."""

from __future__ import annotations

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from core.api.once import MAX_KEY_LENGTH
from core.api.paging import DEFAULT_LIMIT, MAX_LIMIT

WRITES = ("POST", "PUT", "PATCH", "DELETE")

CURSOR = OpenApiParameter("cursor", str, description="`next_cursor` of the page before; none for the first page.")
LIMIT = OpenApiParameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    description="Items a page.",
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH},
    OpenApiParameter.HEADER,
    required=True,
    description="Chosen by the caller, a UUID for instance. The same key and content again get the first answer again; "
    "the same key with other content is refused with 409.",
)


class ProblemOut(serializers.Serializer[Any]):
    """An anticipated error, RFC 9457. Further members depend on `code`."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="Stable; what programs look at.")
    detail = serializers.CharField(help_text="A sentence that a user can act on.")
    field = serializers.CharField(required=False, help_text="The offending field, as the caller named it.")


class ApiSchema(AutoSchema):
    """Adds to what a view declares: the parameters and answers that its kind always has."""

    def get_operation_id(self) -> str:
        if self._is_page():
            return "_".join([*(token.replace("-", "_") for token in self._tokenize_path()), "list"])
        return super().get_operation_id()

    def get_override_parameters(self) -> list[Any]:
        parameters = super().get_override_parameters()
        if self._is_page():
            return [*parameters, CURSOR, LIMIT]
        if self.method in WRITES and self.method in getattr(self.view, "scopes", {}):
            return [*parameters, IDEMPOTENCY_KEY]
        return parameters

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        if "4XX" not in bodies:
            answer_for: Any = self._get_response_for_code
            problem = answer_for(ProblemOut, "4XX", ["application/problem+json"], direction)
            bodies["4XX"] = {**problem, "description": "A problem: see `code` and `detail`."}
        return bodies

    def _is_page(self) -> bool:
        answer = self.get_response_serializers()
        return self.method == "GET" and isinstance(answer, type) and answer.__name__.endswith("Page")
