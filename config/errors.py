"""What is answered where no view is: JSON to programs, a page to people."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

from core.api.problem import problem_body

API_PREFIX = "/v1/"


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404."""
    if request.path.startswith(API_PREFIX):
        body = problem_body(404, f"There is no such address: {request.path}. The addresses stand at /docs/api.")
        return JsonResponse(body, status=404, content_type="application/problem+json")
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """500: the request id finds the cause in the logs."""
    if request.path.startswith(API_PREFIX):
        body = problem_body(500, "Something failed here. Nothing was stored; try again, with the same Idempotency-Key.")
        body |= {"code": "server-error", "title": "Server error", "request_id": getattr(request, "request_id", "")}
        return JsonResponse(body, status=500, content_type="application/problem+json")
    return defaults.server_error(request)
