"""Addresses of the exchange."""

from django.urls import path

from exchange import views
from exchange.api import capacity, contracts, markets, orders

api_urlpatterns = [
    path("capacity", capacity.Capacities.as_view()),
    path("capacity/<int:capacity_id>", capacity.CapacityDetail.as_view()),
    path("capacity/<int:capacity_id>/offer", capacity.CapacityOffer.as_view()),
    path("markets", markets.Markets.as_view()),
    path("markets/<int:market_id>", markets.MarketDetail.as_view()),
    path("markets/<int:market_id>/trades", markets.MarketTrades.as_view()),
    path("auctions", markets.Auctions.as_view()),
    path("auctions/<int:auction_id>", markets.AuctionDetail.as_view()),
    path("auctions/<int:auction_id>/book", markets.AuctionBookDetail.as_view()),
    path("orders", orders.Orders.as_view()),
    path("orders/batch", orders.OrderBatch.as_view()),
    path("orders/<uuid:order_id>", orders.OrderDetail.as_view()),
    path("trades", orders.Trades.as_view()),
    path("positions", orders.Positions.as_view()),
    path("contracts", contracts.Contracts.as_view()),
    path("contracts/<int:contract_id>", contracts.ContractDetail.as_view()),
    path("contracts/<int:contract_id>/access", contracts.ContractAccess.as_view()),
    path("deliveries", contracts.Deliveries.as_view()),
]

urlpatterns = [
    path(".well-known/ciyuan-keys.json", contracts.SigningKeys.as_view()),
    path("", views.home, name="home"),
    path("markets", views.markets, name="markets"),
    path("markets/<int:market_id>", views.market, name="market"),
    path("auctions", views.auctions, name="auctions"),
    path("orders", views.orders, name="orders"),
    path("capacity", views.capacity, name="capacity"),
    path("contracts", views.contracts, name="contracts"),
    path("contracts/<int:contract_id>", views.contract, name="contract"),
]
