"""Addresses of metering. POST /v1/events is not here: the raw door beside Django takes it."""

from django.urls import path

from metering_ingest import budget_views, claim_views, discrepancy_views, service_views, usage_views, views
from metering_ingest.api import budgets, delivery, manifests, meters, plausibility, reconciliation, service, usage

api_urlpatterns = [
    path("meters", meters.Meters.as_view()),
    path("meters/<int:meter_id>", meters.MeterDetail.as_view()),
    path("aliases", meters.Aliases.as_view()),
    path("manifests", manifests.Manifests.as_view()),
    path("manifests/gaps", manifests.Gaps.as_view()),
    path("usage", usage.Usage.as_view()),
    path("plausibility", plausibility.Plausibility.as_view()),
    path("budgets", budgets.Budgets.as_view()),
    path("budgets/<int:budget_id>", budgets.BudgetDetail.as_view()),
    path("authorizations", budgets.Authorizations.as_view()),
    path("authorizations/<uuid:authorization_id>", budgets.AuthorizationDetail.as_view()),
    path("authorizations/<uuid:authorization_id>/settle", budgets.AuthorizationSettle.as_view()),
    path("readings", reconciliation.Readings.as_view()),
    path("reconciliation", reconciliation.Reconciliation.as_view()),
    path("discrepancies", reconciliation.Discrepancies.as_view()),
    path("discrepancies/<int:discrepancy_id>", reconciliation.DiscrepancyDetail.as_view()),
    path("discrepancies/<int:discrepancy_id>/entries", reconciliation.Entries.as_view()),
    path(
        "discrepancies/<int:discrepancy_id>/entries/<int:entry_id>/attachment",
        reconciliation.EntryAttachment.as_view(),
    ),
    path("discrepancies/<int:discrepancy_id>/decision", reconciliation.Decision.as_view()),
    path("shortfalls", delivery.Shortfalls.as_view()),
    path("claims", delivery.Claims.as_view()),
    path("claims/<int:claim_id>", delivery.ClaimDetail.as_view()),
    path("claims/<int:claim_id>/acceptance", delivery.ClaimAcceptance.as_view()),
    path("claims/<int:claim_id>/ruling", delivery.ClaimRulingView.as_view()),
    path("service/reports", service.Reports.as_view()),
    path("service/minutes", service.Minutes.as_view()),
    path("service/probes", service.Probes.as_view()),
    path("service/findings", service.Findings.as_view()),
    path("service/findings/<int:finding_id>", service.FindingDetail.as_view()),
    path("service/findings/<int:finding_id>/objection", service.Objection.as_view()),
    path("service/findings/<int:finding_id>/ruling", service.Ruling.as_view()),
    path("events/rejected", usage.Rejected.as_view()),
    path("events/rejected/replay", usage.Replay.as_view()),
]

urlpatterns = [
    path("overview", views.overview, name="overview"),
    path("meters", views.meters, name="meters"),
    path("meters/<int:meter_id>", views.meter, name="meter"),
    path("usage", usage_views.usage, name="usage"),
    path("discrepancies", discrepancy_views.discrepancies, name="discrepancies"),
    path("discrepancies/<int:discrepancy_id>", discrepancy_views.discrepancy, name="discrepancy"),
    path(
        "discrepancies/<int:discrepancy_id>/entries/<int:entry_id>",
        discrepancy_views.attachment,
        name="discrepancy-attachment",
    ),
    path("claims", claim_views.claims, name="claims"),
    path("claims/<int:claim_id>", claim_views.claim, name="claim"),
    path("contracts/<int:contract_id>/claim", claim_views.new_claim, name="claim-new"),
    path("contracts/<int:contract_id>/service", service_views.service, name="contract-service"),
    path("service/findings/<int:finding_id>", service_views.finding, name="service-finding"),
    path("budgets", budget_views.budgets, name="budgets"),
    path("budgets/<int:budget_id>", budget_views.budget, name="budget"),
    path("usage/rejected", views.rejected, name="rejected-events"),
    path("usage/rejected/replay", views.replay_rejected, name="replay-rejected"),
]
