"""Addresses of identity."""

from django.urls import path

from identity import join_views, webhook_views
from identity import views as pages
from identity.api import views, webhooks
from identity.pages import switch_organization

api_urlpatterns = [
    path("whoami", views.WhoAmI.as_view()),
    path("organizations", views.Organizations.as_view()),
    path("organizations/<int:organization_id>", views.OrganizationDetail.as_view()),
    path("organizations/<int:organization_id>/members", views.Members.as_view()),
    path("organizations/<int:organization_id>/members/<int:membership_id>", views.MemberDetail.as_view()),
    path("keys", views.Keys.as_view()),
    path("keys/<int:key_id>", views.KeyDetail.as_view()),
    path("keys/<int:key_id>/rotate", views.KeyRotate.as_view()),
    path("webhooks", webhooks.Webhooks.as_view()),
    path("webhooks/<int:webhook_id>", webhooks.WebhookDetail.as_view()),
    path("webhooks/<int:webhook_id>/rotate", webhooks.WebhookRotate.as_view()),
    path("webhooks/<int:webhook_id>/test", webhooks.WebhookTest.as_view()),
    path("webhooks/<int:webhook_id>/replay", webhooks.WebhookReplay.as_view()),
    path("webhooks/<int:webhook_id>/deliveries", webhooks.WebhookDeliveries.as_view()),
    path("webhook-deliveries/<uuid:delivery_id>", webhooks.DeliveryDetail.as_view()),
    path("webhook-deliveries/<uuid:delivery_id>/replay", webhooks.DeliveryReplay.as_view()),
    path("webhook-events", webhooks.WebhookEvents.as_view()),
    path("webhook-event-types", webhooks.EventTypes.as_view()),
]
urlpatterns = [
    path("switch-organization", switch_organization, name="switch-organization"),
    path("organization/new", join_views.new_organization, name="organization-new"),
    path("rules", join_views.rules, name="rules"),
    path("rules/accept", join_views.accept, name="rules-accept"),
    path("rules/<str:version>", join_views.rules, name="rules-version"),
    path("organization", pages.organization, name="organization"),
    path("organization/keys", pages.new_key, name="key-new"),
    path("organization/keys/<int:key_id>/revoke", pages.revoke_key, name="key-revoke"),
    path("organization/members", pages.invite, name="member-new"),
    path("organization/members/<int:membership_id>/role", pages.change_member, name="member-role"),
    path("organization/members/<int:membership_id>/remove", pages.remove_member, name="member-remove"),
    path("webhooks", webhook_views.webhooks, name="webhooks"),
    path("webhooks/new", webhook_views.new_webhook, name="webhook-new"),
    path("webhooks/<int:webhook_id>", webhook_views.webhook, name="webhook"),
    path("webhooks/<int:webhook_id>/change", webhook_views.change_webhook, name="webhook-change"),
    path("webhook-deliveries/<uuid:delivery_id>/replay", webhook_views.replay_delivery, name="webhook-delivery-replay"),
]
