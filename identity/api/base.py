"""What every API view stands on: authentication, the gate, strict parsing, writes once."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from django.utils import translation
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core import clock
from core.api.once import Answer, once
from core.errors import BadRequest, NotFound, Unauthenticated
from core.rate_limit import limiter
from identity.access import Actor
from identity.auth import authenticate_key
from identity.models import Organization

MAX_BODY_BYTES = 4 * 1024 * 1024
S = TypeVar("S", bound=serializers.BaseSerializer[Any])
Perform = Callable[[], Any]


class KeyInvalid(Unauthenticated):
    """The key is unknown, revoked or expired."""

    code = "key-invalid"


class BodyTooLarge(BadRequest):
    """More than an API request may carry."""

    code = "body-too-large"
    status = 413
    title = "Body too large"


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer ck_…`."""

    def authenticate(self, request: Request) -> tuple[Any, Actor] | None:
        parts = get_authorization_header(request).split()
        if not parts:
            return None
        if len(parts) != 2 or parts[0].lower() != b"bearer":
            raise KeyInvalid("Send the key as “Authorization: Bearer ck_…”.")
        actor = authenticate_key(parts[1].decode("latin-1"), now=clock.now())
        if actor is None:
            raise KeyInvalid("This API key is unknown, revoked or expired.")
        return actor, actor

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document names the scheme."""

    target_class = "identity.api.base.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "ck_…"}


class ApiView(APIView):
    """
    A view that translates and calls one action or query.

    `scopes` maps a method to the scope it needs; a method without an entry needs `public = True`.
    """

    authentication_classes = (ApiKeyAuthentication,)
    permission_classes = ()
    scopes: ClassVar[dict[str, str]] = {}
    public: ClassVar[bool] = False

    actor: Actor
    now: datetime

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if "Accept-Language" not in request.headers:
            translation.activate("en")  # programs get one language unless they ask for another
        super().initial(request, *args, **kwargs)
        self.now = clock.now()
        if isinstance(request.auth, Actor):
            self.actor = request.auth
            limiter().take(self.actor.organization_id)
        scope = self.scopes.get(request.method or "")
        if scope is not None:
            if not hasattr(self, "actor"):
                raise Unauthenticated("This address needs an API key: “Authorization: Bearer ck_…”.")
            self.actor.require(scope)
        elif (
            not self.public and request.method != "OPTIONS" and (request.method or "").lower() in self.http_method_names
        ):
            self.http_method_not_allowed(request)
        if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"A request may carry up to {MAX_BODY_BYTES // 2**20} MiB.")

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        if hasattr(self, "actor"):
            for name, value in limiter().headers(self.actor.organization_id).items():
                final.headers[name] = value
        return final

    def parse(self, serializer: type[S]) -> dict[str, Any]:
        """Return the body's validated fields; an unknown or wrong one is refused by name."""
        parsed = serializer(data=self.request.data)
        parsed.is_valid(raise_exception=True)
        return dict(parsed.validated_data)

    def once(
        self, perform: Perform, *, content: Any = None, status: int = 201, secret_fields: Collection[str] = ()
    ) -> Response:
        """
        Run a write once per `Idempotency-Key` and answer what it returns (JSON values).

        `content` is what must be the same for the key to be used again: by default method, path and body.
        """
        request = self.request
        answer = once(
            organization_id=self.actor.organization_id,
            key=request.headers.get("Idempotency-Key", ""),
            content=content if content is not None else [request.method, request.path, request.data],
            perform=lambda: (status, perform()),
            now=self.now,
            secret_fields=secret_fields,
        )
        return self.answered(answer)

    def answered(self, answer: Answer) -> Response:
        """Return the response to a write that has run once."""
        headers = {"Idempotent-Replayed": "true"} if answer.repeated else {}
        return Response(answer.body, status=answer.status, headers=headers)

    def subject(self, organization_id: int | None) -> Organization:
        """
        Return the organization that a request is about: the caller's own, or another one for the operator.

        :raises NotFound: another organization's id from anybody else.
        """
        if organization_id is None or organization_id == self.actor.organization_id:
            return self.actor.organization
        found = (
            self.actor.organizations_readable().filter(pk=organization_id).first() if self.actor.is_operator else None
        )
        if found is None:
            raise NotFound("There is no such organization.", field="organization")
        return found
