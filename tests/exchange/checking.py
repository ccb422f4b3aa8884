"""What tests ask of the books at their end."""

from billing import audit as billing_audit
from core.audit import Finding
from exchange import audit as exchange_audit


def findings() -> list[Finding]:
    """Everything that the audit finds wrong in ledger and exchange."""
    checks = [*billing_audit.CHECKS, *exchange_audit.CHECKS]
    return [found for _, check in checks for found in check()]
