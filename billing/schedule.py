"""What billing does by itself, and how often."""

from datetime import timedelta
from typing import Any

BEAT: dict[str, dict[str, Any]] = {
    "issue-due-invoices": {"task": "billing.tasks.issue_due_invoices", "schedule": timedelta(seconds=5)},
    "sweep-settled-markets": {"task": "billing.tasks.sweep_settled_markets", "schedule": timedelta(minutes=1)},
    "return-unused-credits": {"task": "billing.tasks.return_unused_credits", "schedule": timedelta(seconds=5)},
    "expire-credits": {"task": "billing.tasks.expire_credits", "schedule": timedelta(minutes=1)},
    "seal-journal": {"task": "billing.tasks.seal_journal", "schedule": timedelta(minutes=5)},
    "book-bank-lines": {"task": "billing.tasks.book_bank_lines", "schedule": timedelta(seconds=2)},
    "pay-providers": {"task": "billing.tasks.pay_providers", "schedule": timedelta(hours=6)},
    "request-monthly-tax-invoices": {
        "task": "billing.tasks.request_monthly_tax_invoices", "schedule": timedelta(hours=1)
    },
    "dun": {"task": "billing.tasks.dun", "schedule": timedelta(minutes=1)},
    "talk-with-stripe": {"task": "billing.tasks.talk_with_stripe", "schedule": timedelta(seconds=5)},
    "reconcile-stripe": {"task": "billing.tasks.reconcile_stripe", "schedule": timedelta(minutes=10)},
}
