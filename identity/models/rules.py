"""Which organization has accepted which version of the rulebook."""

from typing import ClassVar

from django.db import models


class RulebookAcceptance(models.Model):
    """That a person accepted a version of the rulebook for an organization, once. Insert-only."""

    organization = models.ForeignKey("identity.Organization", models.PROTECT, related_name="rulebook_acceptances")
    user = models.ForeignKey("identity.User", models.PROTECT, related_name="+")
    version = models.CharField(max_length=20)
    digest = models.BinaryField(max_length=32, help_text="SHA-256 of the text as it was shown.")
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "version"], name="rulebook_accepted_once"),
        ]

    def __str__(self) -> str:
        return f"{self.organization}: {self.version}"
