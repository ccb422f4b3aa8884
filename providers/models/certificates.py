"""Certificates: what deployments were measured to do."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from identity.models import Organization
from providers.models.supply import Deployment


class Certificate(models.Model):
    """
    One run of the reference workload on a deployment. Insert-only: the next measurement is the next certificate.

    It names what it was measured on. None of that ever changes in a deployment, so a certificate ends with its 30 days
    or with the deployment: another model, engine, precision or accelerator is another deployment without one.
    """

    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="certificates")
    measured_by = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    workload = models.CharField(max_length=20, help_text="Version of the reference workload.")
    model = models.CharField(max_length=80)
    engine = models.CharField(max_length=60)
    precision = models.CharField(max_length=10)
    accelerator = models.CharField(max_length=80)
    accelerator_count = models.PositiveIntegerField()
    measured_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    valid_until = models.DateTimeField()
    tokens_per_minute = models.BigIntegerField(help_text="Standard tokens, of the slowest part.")
    input_tokens_per_minute = models.BigIntegerField(help_text="The model's own tokens.")
    output_tokens_per_minute = models.BigIntegerField(help_text="The model's own tokens.")
    ttft_p50_ms = models.PositiveIntegerField()
    ttft_p95_ms = models.PositiveIntegerField()
    token_p50_us = models.PositiveIntegerField(help_text="Mean time per further token of a request.")
    token_p95_us = models.PositiveIntegerField()
    accelerator_ns_per_st = models.BigIntegerField(help_text="Accelerator time per standard token, median run.")
    accelerator_ns_per_st_low = models.BigIntegerField()
    accelerator_ns_per_st_high = models.BigIntegerField()
    requests = models.PositiveIntegerField()
    failed = models.PositiveIntegerField()
    parts = models.JSONField()

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="certificate_figures_positive",
                condition=Q(tokens_per_minute__gt=0, accelerator_ns_per_st_low__gt=0, requests__gt=0),
            ),
            models.CheckConstraint(
                name="certificate_spread_ordered",
                condition=Q(
                    accelerator_ns_per_st_low__lte=F("accelerator_ns_per_st"),
                    accelerator_ns_per_st__lte=F("accelerator_ns_per_st_high"),
                ),
            ),
            models.CheckConstraint(
                name="certificate_times_ordered",
                condition=Q(measured_at__lte=F("recorded_at"), valid_until__gt=F("measured_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.deployment_id}: {self.tokens_per_minute:,} a minute until {self.valid_until:%Y-%m-%d}"
