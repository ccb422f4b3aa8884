"""Reports that no chip could have produced."""

from typing import ClassVar

from django.db import models

from providers.models import Deployment


class ImplausibleHour(models.Model):
    """An hour for which a deployment's meters report more than its accelerators can do. Gone when the report is."""

    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="+")
    hour = models.DateTimeField()
    floor_seconds = models.BigIntegerField(help_text="What the reported tokens take at least, rounded down.")
    bound = models.CharField(max_length=7, help_text="compute or memory.")
    input_tokens = models.BigIntegerField(help_text="Not read from a cache.")
    output_tokens = models.BigIntegerField()
    flagged_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "hour"], name="implausible_hour_once"),
        ]

    def __str__(self) -> str:
        return f"{self.deployment_id} {self.hour:%Y-%m-%d %H}"
