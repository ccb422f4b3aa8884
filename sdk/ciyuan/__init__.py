"""
Client, meter and command line of the Ciyuan token exchange.

The names below are loaded when they are first used, so that `ciyuan.standard_token` and `ciyuan.usage` need nothing but
the standard library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ciyuan.client import AsyncClient, Client
    from ciyuan.errors import CiyuanError
    from ciyuan.market_data import AsyncMarketData, MarketData
    from ciyuan.meter import Meter
    from ciyuan.transport import Retry

__all__ = ["AsyncClient", "AsyncMarketData", "CiyuanError", "Client", "MarketData", "Meter", "Retry"]

_HOMES = {
    "AsyncClient": "ciyuan.client",
    "AsyncMarketData": "ciyuan.market_data",
    "CiyuanError": "ciyuan.errors",
    "Client": "ciyuan.client",
    "MarketData": "ciyuan.market_data",
    "Meter": "ciyuan.meter",
    "Retry": "ciyuan.transport",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ciyuan' has no attribute {name!r}")
