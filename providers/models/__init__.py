"""Rows of the providers app: what can be served (catalogue) and what is offered (supply)."""

from providers.models.catalogue import Accelerator, Grade, ModelCard
from providers.models.certificates import Certificate
from providers.models.supply import Capacity, DeliveryRecord, Deployment, ListPrice, ProviderScore

__all__ = [
    "Accelerator",
    "Capacity",
    "Certificate",
    "DeliveryRecord",
    "Deployment",
    "Grade",
    "ListPrice",
    "ModelCard",
    "ProviderScore",
]
