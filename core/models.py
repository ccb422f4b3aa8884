"""The one row that core keeps: what a write answered, so that its repetition answers the same."""

from django.db import models


class IdempotencyRecord(models.Model):
    """The answer to an organization's write, by the key that the caller chose."""

    organization_id = models.BigIntegerField()
    key = models.CharField(max_length=200)
    content_hash = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization_id", "key"], name="idempotency_key_once")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_created")]

    def __str__(self) -> str:
        return f"{self.organization_id}/{self.key}"
