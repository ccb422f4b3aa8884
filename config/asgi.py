"""
The ASGI application: the usage door as a raw application beside Django, websockets by Channels, the rest Django.

The usage door skips Django's request handling because it takes most of the traffic.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any
from urllib.parse import urlsplit

import django
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import WebsocketDenier

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402
from django.urls import get_resolver  # noqa: E402

from config.threaded import ThreadedHandler  # noqa: E402

_django = ThreadedHandler(settings.WEB_THREADS)
# Django imports the addresses, and with them most of the product, at the first request: whom each of the processes
# meets first, perhaps hours after its start, would wait for seconds, and so would all who came at the same time.
_ = get_resolver().url_patterns


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


class _SameOrigin:
    """
    Pages of other sites may not open websockets here: what a page's Origin names must be the host that it asks for.

    Who sends no Origin is no browser and carries nobody's cookies unawares: such programs come in, and prove who they
    are by a key.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        origin, host = headers.get(b"origin"), headers.get(b"host", b"").decode("latin-1")
        same = origin is None or urlsplit(origin.decode("latin-1")).netloc == host
        await (self.inner if same else WebsocketDenier())(scope, receive, send)


application = ProtocolTypeRouter(
    {
        "http": _http,
        "websocket": _SameOrigin(
            AuthMiddlewareStack(URLRouter(_routing.websocket_urlpatterns if _routing is not None else []))
        ),
    }
)
