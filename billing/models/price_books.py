"""Price books and their versions."""

from typing import ClassVar

from django.db import models


class PriceBook(models.Model):
    """A name under which versions of prices follow each other."""

    name = models.SlugField(max_length=60, unique=True)

    def __str__(self) -> str:
        return self.name


class PriceBookVersion(models.Model):
    """The prices in force from a time until the next version's. Insert-only: a change is a new version."""

    book = models.ForeignKey(PriceBook, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    effective_from = models.DateTimeField()
    terms = models.JSONField()
    published_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["book", "number"], name="price_book_version_once"),
            models.UniqueConstraint(fields=["book", "effective_from"], name="price_book_version_in_force_once"),
        ]

    def __str__(self) -> str:
        return f"{self.book} v{self.number}"
