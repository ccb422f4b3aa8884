"""
The ASGI application: the usage door as a raw application beside Django, websockets by Channels, the rest Django.

The usage door skips Django's request handling because it takes most of the traffic.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

_django: Any = get_asgi_application()


def _optional(module: str) -> Any:
    return importlib.import_module(module) if importlib.util.find_spec(module) is not None else None


_ingest = _optional("metering_ingest.ingest_asgi")
_routing = _optional("exchange.routing")
_ingest_paths = frozenset(_ingest.PATHS) if _ingest is not None else frozenset()


async def _http(scope: Any, receive: Any, send: Any) -> None:
    if scope["method"] == "POST" and scope["path"] in _ingest_paths:
        await _ingest.application(scope, receive, send)
    else:
        await _django(scope, receive, send)


application = ProtocolTypeRouter(
    {
        "http": _http,
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter(_routing.websocket_urlpatterns if _routing is not None else []))
        ),
    }
)
