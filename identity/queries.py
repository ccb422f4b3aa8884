"""Named reads of organizations and people."""

from uuid import UUID

from django.db.models import QuerySet

from identity.access import Actor
from identity.domain.scopes import scopes_of_role
from identity.models import Membership, Organization, User, WebhookDelivery, WebhookEndpoint


def actor_for_user(user: User, organization_id: int | None) -> Actor | None:
    """
    Return the actor that `user` is for an organization of theirs; the first joined when none is named.

    None for a person without that membership.
    """
    return actor_of(memberships_of(user), organization_id)


def memberships_of(user: User) -> list[Membership]:
    """Return a person's memberships with their organizations, the first joined first."""
    rows = Membership.objects.select_related("organization", "user").filter(user=user)
    return list(rows.order_by("created_at", "id"))


def actor_of(memberships: list[Membership], organization_id: int | None) -> Actor | None:
    """Return who these memberships make their person for an organization; for the first one when none is named."""
    membership = next((one for one in memberships if organization_id in (None, one.organization_id)), None)
    if membership is None:
        return None
    operates = membership.organization.operates
    return Actor(
        organization=membership.organization,
        scopes=scopes_of_role(membership.role, operates=operates),
        user_id=membership.user_id,
        reads_everything=operates and membership.role == Membership.Role.AUDITOR,
    )


def operator_organization() -> Organization:
    """Return the organization that runs this exchange; made at set-up."""
    return Organization.objects.filter(kind=Organization.Kind.OPERATOR).order_by("id")[0]


def webhook_endpoints(actor: Actor) -> "QuerySet[WebhookEndpoint]":
    """Return the webhooks of the organization that is acting."""
    return WebhookEndpoint.objects.filter(organization_id=actor.organization_id)


def webhook_deliveries(endpoint: WebhookEndpoint) -> "QuerySet[WebhookDelivery]":
    """Return an endpoint's deliveries with their events: its log."""
    return WebhookDelivery.objects.select_related("event").filter(endpoint=endpoint)


def webhook_delivery(actor: Actor, delivery_id: UUID) -> WebhookDelivery | None:
    """Return one delivery of the organization that is acting."""
    rows = WebhookDelivery.objects.select_related("event", "endpoint")
    return rows.filter(pk=delivery_id, endpoint__organization_id=actor.organization_id).first()
