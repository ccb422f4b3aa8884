"""Organizations, the people and keys that act for them, what operators changed, and where webhooks go."""

from identity.models.people import ApiKey, AuditEntry, Membership, Organization, User, UserManager
from identity.models.rules import RulebookAcceptance
from identity.models.webhooks import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookEvent

__all__ = [
    "ApiKey",
    "AuditEntry",
    "Membership",
    "Organization",
    "RulebookAcceptance",
    "User",
    "UserManager",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
]
