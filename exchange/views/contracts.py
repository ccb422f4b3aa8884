"""Pages of delivery contracts."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from core import clock
from core.listing import Listing
from core.transactions import durable
from exchange import contract_queries
from exchange.actions import access
from exchange.models import ContractLot
from exchange.views.tables import contracts_table
from identity.access import Actor
from identity.pages import require_actor


@require_GET
@require_actor("read")
def contracts(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The organization's delivery contracts, as buyer and as provider."""
    listing = Listing(request, contracts_table(actor.organization_id))
    rows = contract_queries.contracts_readable(actor)
    if listing.wants_csv:
        return listing.csv(rows)
    context = {"page": listing.page(rows), "listing": listing, "query": listing.query}
    return render(request, "exchange/contracts.html", context)


@require_GET
@require_actor("read")
def contract(request: HttpRequest, actor: Actor, contract_id: int) -> HttpResponse:
    """One contract: what, when, from whom, at which prices."""
    row = contract_queries.contracts_readable(actor).filter(pk=contract_id).first()
    if row is None:
        raise Http404(_("There is no such contract."))
    lots = ContractLot.objects.filter(contract=row).order_by("number")
    callable_now = row.window_end is not None and row.window_end > clock.now()
    is_buyer = row.buyer_id == actor.organization_id and "trade" in actor.scopes
    context = {
        "contract": row,
        "lots": lots,
        "may_call": is_buyer and callable_now,
        "may_claim": is_buyer and row.market is not None and row.market.window_start <= clock.now(),
        "shortfalls": contract_queries.shortfalls_shown(row.pk),
    }
    return render(request, "exchange/contract.html", context)


@require_GET
@require_actor("trade")
def way_in(request: HttpRequest, actor: Actor, contract_id: int) -> HttpResponse:
    """Where the buyer's contract is served and the signed token for it, with lines to copy; a fragment of its page."""
    now = clock.now()
    rows = contract_queries.contracts_readable(actor).select_related("grade__model_card")
    row = rows.filter(pk=contract_id, buyer=actor.organization).first()
    if row is None:
        raise Http404(_("There is no such contract."))
    served = contract_queries.served_by(row) if row.window_end is not None and row.window_end > now else []
    tokens = durable(lambda: [access.access_token(contract=row, served=place, now=now) for place in served])
    answer = render(
        request,
        "exchange/_way_in.html",
        {"contract": row, "ways": list(zip(served, tokens, strict=True)), "model": row.grade.model_card.slug},
    )
    answer["Cache-Control"] = "no-store"
    return answer
