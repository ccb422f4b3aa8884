"""Days whose events lie in files."""

from typing import ClassVar

from django.db import models


class ArchivedPart(models.Model):
    """
    Events of one UTC day that were moved to files; a day has another part when late events were archived too.

    The names are relative to the archive's folder. `sums` are what the events add up to.
    """

    day = models.DateField()
    number = models.IntegerField()
    events = models.BigIntegerField()
    sums = models.JSONField()
    parquet = models.CharField(max_length=200)
    parquet_digest = models.CharField(max_length=64, help_text="BLAKE2b-256.")
    identities = models.CharField(max_length=200)
    identities_digest = models.CharField(max_length=64, help_text="BLAKE2b-256.")
    archived_at = models.DateTimeField()

    class Meta:
        db_table = "archived_part"
        constraints: ClassVar = [models.UniqueConstraint(fields=["day", "number"], name="archived_part_once")]

    def __str__(self) -> str:
        return self.parquet
