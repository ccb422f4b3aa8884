"""Addresses of the exchange."""

from django.urls import path

from exchange.api import blocks, capacity, contracts, controls, delivery, market_data, markets, notices, orders, quotes
from exchange.views import blocks as block_pages
from exchange.views import capacity as capacity_pages
from exchange.views import contracts as contract_pages
from exchange.views import fairness, index, reference, ticket
from exchange.views import markets as market_pages
from exchange.views import notices as notice_page
from exchange.views import orders as order_pages
from exchange.views import positions as position_pages
from exchange.views import quote as quote_page

api_urlpatterns = [
    path("orders/batch", orders.OrderBatch.as_view()),  # Django tries one after the other: the most used come first
    path("orders", orders.Orders.as_view()),
    path("capacity", capacity.Capacities.as_view()),
    path("capacity/<int:capacity_id>", capacity.CapacityDetail.as_view()),
    path("capacity/<int:capacity_id>/offer", capacity.CapacityOffer.as_view()),
    path("markets", markets.Markets.as_view()),
    path("markets/<int:market_id>", markets.MarketDetail.as_view()),
    path("markets/<int:market_id>/trades", markets.MarketTrades.as_view()),
    path("markets/<int:market_id>/calls", markets.MarketCalls.as_view()),
    path("markets/<int:market_id>/controls", controls.MarketControls.as_view()),
    path("auctions/<int:auction_id>/annulment", controls.AuctionAnnulment.as_view()),
    path("organizations/<int:organization_id>/controls", controls.OrganizationControls.as_view()),
    path("surveillance", controls.Surveillance.as_view()),
    path("blocks", blocks.Blocks.as_view()),
    path("blocks/<uuid:block_id>", blocks.BlockDetail.as_view()),
    path("reservations", blocks.Reservations.as_view()),
    path("leases", controls.Leases.as_view()),
    path("limits", controls.LimitsView.as_view()),
    path("markets/<int:market_id>/book", market_data.MarketBook.as_view()),
    path("markets/<int:market_id>/frames", market_data.MarketFrames.as_view()),
    path("markets/<int:market_id>/candles", market_data.MarketCandles.as_view()),
    path("markets/<int:market_id>/statistics", market_data.MarketStatistics.as_view()),
    path("markets/<int:market_id>/indicative", market_data.MarketIndicative.as_view()),
    path("markets/<int:market_id>/phases", market_data.MarketPhases.as_view()),
    path("grades/<str:slug_or_id>/index", market_data.GradeIndex.as_view()),
    path("notices", notices.Notices.as_view()),
    path("quotes", quotes.Quotes.as_view()),
    path("auctions", markets.Auctions.as_view()),
    path("auctions/<int:auction_id>", markets.AuctionDetail.as_view()),
    path("auctions/<int:auction_id>/book", markets.AuctionBookDetail.as_view()),
    path("auctions/<int:auction_id>/curves", market_data.AuctionCurves.as_view()),
    path("auctions/<int:auction_id>/history", market_data.AuctionHistory.as_view()),
    path("orders/frames", orders.OrderFrames.as_view()),
    path("orders/<uuid:order_id>", orders.OrderDetail.as_view()),
    path("trades", orders.Trades.as_view()),
    path("positions", orders.Positions.as_view()),
    path("contracts", contracts.Contracts.as_view()),
    path("contracts/<int:contract_id>", contracts.ContractDetail.as_view()),
    path("contracts/<int:contract_id>/access", contracts.ContractAccess.as_view()),
    path("contracts/<int:contract_id>/substitutions", delivery.Substitution.as_view()),
    path("exclusions", delivery.Exclusions.as_view()),
    path("exclusions/<int:provider_id>", delivery.ExclusionDetail.as_view()),
    path("unplaced", delivery.UnplacedList.as_view()),
    path("deliveries", contracts.Deliveries.as_view()),
]

urlpatterns = [
    path(".well-known/ciyuan-keys.json", contracts.SigningKeys.as_view()),
    path("", market_pages.home, name="home"),
    path("markets", market_pages.markets, name="markets"),
    path("markets/<int:market_id>", market_pages.market, name="market"),
    path("markets/<int:market_id>/live", market_pages.market_live, name="market-live"),
    path("markets/<int:market_id>/estimate", ticket.estimate, name="order-estimate"),
    path("markets/<int:market_id>/orders", ticket.place, name="order-place"),
    path("markets/<int:market_id>/cancel", ticket.cancel_all, name="order-cancel-all"),
    path("auctions", market_pages.auctions, name="auctions"),
    path("standard-token", reference.standard_token, name="standard-token"),
    path("fairness/<str:slug>.csv", fairness.export, name="fairness-csv"),
    path("fairness/<str:slug>", fairness.page, name="fairness"),
    path("index", index.index, name="index"),
    path("fees", index.fees, name="fees"),
    path("quote", quote_page.page, name="quote"),
    path("notices", notice_page.notices, name="notices"),
    path("calendar", reference.calendar, name="calendar"),
    path("calendar.ics", reference.calendar_ics, name="calendar-ics"),
    path("orders", order_pages.orders, name="orders"),
    path("trades", order_pages.trades, name="trades"),
    path("orders/<uuid:order_id>/cancel", ticket.cancel, name="order-cancel"),
    path("capacity", capacity_pages.capacity, name="capacity"),
    path("capacity/new", capacity_pages.publish, name="capacity-new"),
    path("capacity/windows", capacity_pages.publish_in_windows, name="capacity-windows"),
    path("capacity/<int:capacity_id>/withdraw", capacity_pages.withdraw, name="capacity-withdraw"),
    path("deliveries", capacity_pages.deliveries, name="deliveries"),
    path("blocks", block_pages.blocks, name="blocks"),
    path("blocks/<uuid:block_id>/withdraw", block_pages.withdraw, name="block-withdraw"),
    path("positions", position_pages.positions, name="positions"),
    path("exclusions", position_pages.exclusions, name="exclusions"),
    path("exclusions/<int:provider_id>/readmit", position_pages.readmit, name="exclusion-readmit"),
    path("contracts", contract_pages.contracts, name="contracts"),
    path("contracts/<int:contract_id>", contract_pages.contract, name="contract"),
    path("contracts/<int:contract_id>/access", contract_pages.way_in, name="contract-access"),
]
