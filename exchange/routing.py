"""Addresses of the websocket doors."""

from typing import Any

from django.urls import path

from exchange.api.consumers import MarketData, Private

websocket_urlpatterns: list[Any] = [
    path("v1/stream", MarketData.as_asgi()),  # type: ignore[arg-type]  # Channels routes ASGI applications
    path("v1/stream/private", Private.as_asgi()),  # type: ignore[arg-type]
]
