"""
Every address: each app's `api_urlpatterns` under /v1/ and its `urlpatterns` (pages) under /.

Languages are chosen by cookie or header, never by a prefix, so that an address means one thing.
"""

from __future__ import annotations

import importlib
import importlib.util

from csp.decorators import csp_update
from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.i18n import JavaScriptCatalog, set_language
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from config import health

APPS = ("exchange", "identity", "providers", "billing", "metering_ingest")


def _of_apps(name: str) -> list[URLPattern | URLResolver]:
    found: list[URLPattern | URLResolver] = []
    for app in APPS:
        if importlib.util.find_spec(f"{app}.urls") is not None:
            found += getattr(importlib.import_module(f"{app}.urls"), name, [])
    return found


# Swagger's page starts itself with an inline script and styles itself inline; nothing else may.
_swagger = csp_update({"script-src": ["'unsafe-inline'"], "style-src": ["'unsafe-inline'"]})(
    SpectacularSwaggerView.as_view(url_name="schema")
)

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", health.metrics),
    path("v1/schema", SpectacularAPIView.as_view(), name="schema"),
    path("docs/api", _swagger, name="api-docs"),
    path("v1/", include(_of_apps("api_urlpatterns"))),
    path("i18n/setlang", set_language, name="set_language"),
    path("i18n/messages.js", JavaScriptCatalog.as_view(), name="javascript-catalog"),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    *_of_apps("urlpatterns"),
]

if settings.DEBUG:
    from django.contrib.staticfiles.urls import staticfiles_urlpatterns

    urlpatterns += staticfiles_urlpatterns()

handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"
