"""Meters are opened and closed; subjects get their meaning."""

from datetime import datetime

from django.db import IntegrityError, transaction

from core.errors import BadRequest, Conflict
from core.transactions import assert_in_transaction
from identity.models import Organization
from metering_ingest.models import Meter, SubjectAlias
from providers.models import Deployment

PUBLIC_KEY_BYTES = 32


class MeterNameTaken(Conflict):
    """The organization has a meter of that name."""

    code = "meter-name-taken"


class MeterUnfit(BadRequest):
    """The role and the deployment do not go together."""

    code = "meter-unfit"


class SubjectTaken(Conflict):
    """The provider calls another buyer by that subject."""

    code = "subject-taken"


class NotABuyer(BadRequest):
    """An alias names an organization that buys."""

    code = "not-a-buyer"


def open_meter(
    *, organization: Organization, name: str, role: str, deployment: Deployment | None, public_key: bytes | None,
    now: datetime,
) -> Meter:  # fmt: skip
    """
    Open a meter of `organization`: a provider's or an engine's on one of its deployments, a buyer's on none.

    :raises MeterUnfit: a deployment where none belongs, or none or another's where one does.
    :raises MeterNameTaken: the name is in use.
    """
    assert_in_transaction()
    if role == Meter.Role.BUYER:
        if deployment is not None or not organization.buys:
            raise MeterUnfit("A buyer's meter belongs to a buyer and to no deployment.", field="deployment")
    elif deployment is None or deployment.provider_id != organization.pk:
        raise MeterUnfit("A provider's or an engine's meter measures one of its own deployments.", field="deployment")
    if public_key is not None and len(public_key) != PUBLIC_KEY_BYTES:
        raise MeterUnfit("An Ed25519 public key has 32 bytes; send it as 64 hexadecimal digits.", field="public_key")
    try:
        with transaction.atomic():
            return Meter.objects.create(
                organization=organization, name=name, role=role, deployment=deployment, public_key=public_key,
                created_at=now,
            )  # fmt: skip
    except IntegrityError:
        raise MeterNameTaken(f"You have a meter called “{name}” already; choose another name.", field="name") from None


def close_meter(*, meter: Meter, now: datetime) -> Meter:
    """Close a meter: its keys are refused from now on, what it reported stays. Again, nothing happens."""
    assert_in_transaction()
    Meter.objects.filter(pk=meter.pk, closed_at__isnull=True).update(closed_at=now)
    meter.refresh_from_db()
    return meter


def register_alias(*, provider: Organization, subject: str, buyer: Organization | None, now: datetime) -> SubjectAlias:
    """
    Register what a provider calls a buyer. The same again changes nothing.

    :raises SubjectTaken: it stands for another buyer, for good: old events name it.
    :raises NotABuyer: no such buyer.
    """
    assert_in_transaction()
    if buyer is None or not buyer.buys or buyer.pk == provider.pk:
        raise NotABuyer("There is no such buyer.", field="buyer")
    alias, _ = SubjectAlias.objects.get_or_create(
        provider=provider, subject=subject, defaults={"buyer": buyer, "created_at": now}
    )
    if alias.buyer_id != buyer.pk:
        raise SubjectTaken(
            f"“{subject}” stands for another buyer and cannot be given to a second one.", field="subject"
        )
    return alias
