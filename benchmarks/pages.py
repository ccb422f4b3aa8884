"""
How long the main pages take against a signed-in page without content: `python -m benchmarks.pages`.

Each page is asked for through Django's own handler on a database with a market of a hundred orders, its auction,
contracts and invoices; the page without content is the frame alone. Target: no page above five times it.
"""

from benchmarks import database
from benchmarks.harness import Case, environment, interleave, report


def main() -> None:
    print(environment())
    database.start(with_valkey=True)
    from django.shortcuts import render
    from django.test import Client
    from django.urls import path

    from billing.actions.invoices import issue_invoices
    from config import urls
    from core import clock
    from core.transactions import durable
    from tests.given import (
        advanced,
        given_market,
        given_money,
        given_orders,
        given_organization,
        given_seller,
        given_user,
    )

    urls.urlpatterns.append(path("benchmark-frame", lambda request: render(request, "base.html")))
    given_organization("operator")
    now = clock.now()
    market = given_market(now=now)
    buyer = given_money(given_organization("buyer"))
    sellers = [given_seller(market) for _ in range(5)]
    for seller in sellers:
        given_orders(
            seller, *({"market": market, "side": "sell", "lots": 10, "price": 20 + n} for n in range(10)), now=now
        )
    given_orders(
        buyer, *({"market": market, "side": "buy", "lots": 10, "price": 25 + n % 10} for n in range(50)), now=now
    )
    advanced(market)
    durable(lambda: issue_invoices(organization_id=buyer.pk, now=now))
    open_market = given_market(market.grade, now=now, window=_next_window(market))
    client = Client(headers={"Accept-Language": "en"})
    client.force_login(given_user(buyer))
    pages = {
        "market, cleared": f"/markets/{market.pk}",
        "market, in call": f"/markets/{open_market.pk}",
        "landing": "/",
        "markets": "/markets",
        "auctions": "/auctions",
        "orders": "/orders",
        "contracts": "/contracts",
        "overview": "/overview",
        "usage": "/usage",
        "invoices": "/invoices",
        "account": "/account",
    }

    def ask(address: str) -> Case:
        def run(_prepared: object = None) -> None:
            assert client.get(address).status_code == 200, address

        return Case(run=run, prepare=lambda: None)

    timings = interleave(
        {"frame": ask("/benchmark-frame"), **{name: ask(at) for name, at in pages.items()}}, repeats=15
    )
    print(timings.table("A page, signed in"))
    ratios = {name: timings.ratio(name, "frame") for name in pages}
    report(
        {f"{name}_vs_frame".replace(", ", "_").replace(" ", "_"): ratio for name, ratio in ratios.items()}
        | {"slowest_page_vs_frame": max(ratios.values())}
    )


def _next_window(market):
    from core.periods import Period

    length = market.window_end - market.window_start
    return Period(market.window_end, market.window_end + length)


if __name__ == "__main__":
    main()
