"""Who reports usage, and what the subjects in the reports mean."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from identity.models import Organization
from providers.models import Deployment


class Meter(models.Model):
    """
    One log of usage: whatever sends it, an event's (source, id) is counted once per meter, for ever.

    A contract's usage is what its provider's meters report; those of buyers and engines are compared with it.
    """

    class Role(models.TextChoices):
        PROVIDER = "provider", _("Provider")
        BUYER = "buyer", _("Buyer's gateway")
        ENGINE = "engine", _("Engine counters")

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="meters")
    name = models.CharField(max_length=80)
    role = models.CharField(max_length=10, choices=Role)
    deployment = models.ForeignKey(
        Deployment, models.PROTECT, null=True, related_name="meters", help_text="What it measures, unless a buyer's."
    )
    public_key = models.BinaryField(max_length=32, null=True, help_text="Ed25519; signs events and manifests.")
    created_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "name"], name="meter_name_once"),
            models.CheckConstraint(
                name="meter_measures_a_deployment_unless_a_buyers",
                condition=models.Q(role="buyer", deployment__isnull=True)
                | (~models.Q(role="buyer") & models.Q(deployment__isnull=False)),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class SubjectAlias(models.Model):
    """What a provider calls a buyer in its events. It may not be given to another buyer later: old events name it."""

    provider = models.ForeignKey(Organization, models.PROTECT, related_name="subject_aliases")
    subject = models.CharField(max_length=256)
    buyer = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "subject aliases"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider", "subject"], name="subject_alias_once"),
            models.CheckConstraint(name="subject_alias_not_empty", condition=~models.Q(subject="")),
        ]

    def __str__(self) -> str:
        return self.subject
