"""Addresses of metering. POST /v1/events is not here: the raw door beside Django takes it."""

from django.urls import path

from metering_ingest import views
from metering_ingest.api import meters, usage

api_urlpatterns = [
    path("meters", meters.Meters.as_view()),
    path("meters/<int:meter_id>", meters.MeterDetail.as_view()),
    path("aliases", meters.Aliases.as_view()),
    path("usage", usage.Usage.as_view()),
    path("events/rejected", usage.Rejected.as_view()),
    path("events/rejected/replay", usage.Replay.as_view()),
]

urlpatterns = [
    path("usage", views.usage, name="usage"),
    path("usage/rejected", views.rejected, name="rejected-events"),
]
