"""Pages of delivery contracts."""

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from exchange import queries
from exchange.models import ContractLot
from identity.access import Actor
from identity.pages import require_actor

PER_PAGE = 50


@require_GET
@require_actor("read")
def contracts(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The organization's delivery contracts, as buyer and as provider."""
    rows = queries.contracts_readable(actor).order_by("-pk")
    return render(
        request, "exchange/contracts.html", {"page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))}
    )


@require_GET
@require_actor("read")
def contract(request: HttpRequest, actor: Actor, contract_id: int) -> HttpResponse:
    """One contract: what, when, from whom, at which prices."""
    row = queries.contracts_readable(actor).filter(pk=contract_id).first()
    if row is None:
        raise Http404(_("There is no such contract."))
    lots = ContractLot.objects.filter(contract=row).order_by("number")
    return render(request, "exchange/contract.html", {"contract": row, "lots": lots})
