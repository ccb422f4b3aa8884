"""What meters say they have recorded by the hour, and what of it has not arrived."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from metering_ingest.models.meters import Meter


class UsageManifest(models.Model):
    """
    The latest manifest of one log and hour, as it was sent, so that anybody with the meter's public key can check it.

    `sums` holds the counts by class. `state` is that of the meter's source and hour as a whole.
    """

    class State(models.TextChoices):
        COMPLETE = "complete", _("Complete")
        MISSING = "missing", _("Missing")
        SURPLUS = "surplus", _("More than recorded")

    meter = models.ForeignKey(Meter, models.PROTECT, related_name="manifests")
    source = models.TextField()
    log = models.CharField(max_length=64)
    hour = models.DateTimeField()
    revision = models.IntegerField()
    events = models.BigIntegerField()
    sums = models.JSONField()
    state = models.CharField(max_length=8, choices=State)
    body = models.BinaryField()
    signature = models.BinaryField(null=True, help_text="Ed25519 over the body; null where the meter has no key.")
    received_at = models.DateTimeField()
    checked_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["meter", "hour", "source", "log"], name="usage_manifest_once"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.hour:%Y-%m-%d %H}"


class UsageGap(models.Model):
    """Usage that a meter recorded and that has not arrived: which source, hour and class, and how much of it."""

    meter = models.ForeignKey(Meter, models.PROTECT, related_name="gaps")
    source = models.TextField()
    hour = models.DateTimeField()
    token_class = models.CharField(max_length=40, help_text="A class, or “events” for their number.")
    expected = models.BigIntegerField()
    received = models.BigIntegerField()
    set_aside = models.BigIntegerField(help_text="Events of the hour that were rejected and wait for replay.")
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, help_text="When all of it had arrived.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["meter", "hour", "source", "token_class"], name="usage_gap_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["hour"], name="usage_gap_open", condition=models.Q(closed_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.hour:%Y-%m-%d %H} {self.token_class}"
