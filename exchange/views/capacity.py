"""A provider's pages: what it has published."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from identity.access import Actor
from identity.pages import require_actor
from providers.models import Capacity

PER_PAGE = 50


@require_GET
@require_actor("read")
def capacity(request: HttpRequest, actor: Actor) -> HttpResponse:
    """What the organization has published."""
    rows = Capacity.objects.select_related("deployment", "grade").filter(provider_id=actor.organization_id)
    page = Paginator(rows.order_by("-pk"), PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "exchange/capacity.html", {"page": page})
