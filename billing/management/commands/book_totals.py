"""`manage.py book_totals`: all documents together, against all charges and the ledger."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.book_totals import book_totals, documents_are_charges_are_ledger
from core.money import format_yuan

NAMES = {"buyer": "invoices", "provider": "statements"}


class Command(BaseCommand):
    """Exit status 1 when sums differ; the audit's check of the same name says where."""

    help = "Print the sums of documents, charges, rounding lines and the ledger."

    def handle(self, *args: Any, **options: Any) -> None:
        for row in book_totals():
            charged = row.charged_micro - row.waiting_micro
            self.stdout.write(
                f"{row.documents} {NAMES[row.side]}: ¥{format_yuan(row.total_micro)}"
                f" = charges {format_yuan(charged)} + rounding {format_yuan(row.rounding_micro)}"
                f" (ledger's rounding {format_yuan(row.ledger_rounding_micro)});"
                f" deliveries {format_yuan(row.delivered_micro)} = ledger {format_yuan(row.ledger_micro)};"
                f" on no document yet {format_yuan(row.waiting_micro)}"
            )
        findings = [str(finding) for finding in documents_are_charges_are_ledger()]
        if findings:
            raise CommandError("\n".join(findings))
