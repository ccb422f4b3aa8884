"""Meters, the usage they report, and what was settled from it."""

from metering_ingest.models.archive import ArchivedPart
from metering_ingest.models.budgets import Authorization, AuthorizationHold, Budget, BudgetAlert, BudgetWindow
from metering_ingest.models.claims import Claim, ClaimedRequest, ClaimRuling
from metering_ingest.models.manifests import UsageGap, UsageManifest
from metering_ingest.models.meters import Meter, SubjectAlias
from metering_ingest.models.plausibility import ImplausibleHour
from metering_ingest.models.reconciliation import (
    CounterReading,
    Discrepancy,
    DiscrepancyEntry,
    MeterComparison,
    MeterScore,
    ReconciliationMark,
)
from metering_ingest.models.service import (
    FindingObjection,
    FindingRuling,
    Probe,
    ProbePayment,
    ServiceFinding,
    ServiceMinute,
    ServiceReport,
    ServiceReview,
    ServiceWarning,
)
from metering_ingest.models.settlements import ContractSettlement, LateUsage, OverageMonth
from metering_ingest.models.usage import (
    RejectedEvent,
    UntimedIdentity,
    UsageEvent,
    UsageRollup,
    UsageTagRollup,
    UsageVoid,
)

__all__ = [
    "ArchivedPart",
    "Authorization",
    "AuthorizationHold",
    "Budget",
    "BudgetAlert",
    "BudgetWindow",
    "Claim",
    "ClaimRuling",
    "ClaimedRequest",
    "ContractSettlement",
    "CounterReading",
    "Discrepancy",
    "DiscrepancyEntry",
    "FindingObjection",
    "FindingRuling",
    "ImplausibleHour",
    "LateUsage",
    "Meter",
    "MeterComparison",
    "MeterScore",
    "OverageMonth",
    "Probe",
    "ProbePayment",
    "ReconciliationMark",
    "RejectedEvent",
    "ServiceFinding",
    "ServiceMinute",
    "ServiceReport",
    "ServiceReview",
    "ServiceWarning",
    "SubjectAlias",
    "UntimedIdentity",
    "UsageEvent",
    "UsageGap",
    "UsageManifest",
    "UsageRollup",
    "UsageTagRollup",
    "UsageVoid",
]
