"""A month's reconciliation statement (对账单) as PDF, in one language."""

from datetime import date
from typing import Any

from billing import reconciliation
from billing.actions.invoices import party
from billing.documents.pdf import compiled
from billing.documents.present import party_of, thousands
from billing.documents.terms import Language, term
from billing.domain.periods import whole
from identity.models import Organization
from identity.queries import operator_organization

SUMS = ("opening", "closing")


def of(organization: Organization, month: date, language: Language) -> bytes:
    """Return an organization's statement of a month as PDF/A-2u: the same rows and answer give the same bytes."""
    rows = reconciliation.rows_of(organization.pk, month)
    digest = reconciliation.digest(rows)
    answered = reconciliation.confirmation_of(organization.pk, month, digest)

    def say(name: str) -> str:
        return term(name, language)

    answer = "none" if answered is None else "agrees" if answered.agrees else "disagrees"
    return compiled("reconciliation.typ", {
        "language": language.value,
        "title": say("title.reconciliation"),
        "house": say("house"),
        "number": f"{month:%Y-%m}",
        "total": {"label": say("total.balance"), "amount": thousands(rows[-1]["balance"])},
        "parties": [
            party_of(party(operator_organization()), say("kept_by"), language),
            party_of(party(organization), say("account_of"), language),
        ],
        "facts": [
            [say("month"), f"{month:%Y-%m}"], [say("currency"), say("cny")], [say("answer"), say(f"answer.{answer}")],
        ],
        "columns": [say(f"row.{name}") for name in reconciliation.COLUMNS],
        "rows": [_row(row, say(f"entry.{row['kind']}")) for row in rows],
        "notes": [say("note.balance"), say("note.statement_digest"), f"{say('statement_digest')} {digest}"],
        "signatures": [say("stamp.kept_by"), say("stamp.account_of")],
        "signed": say("signed"),
        "page": say("page"),
    }, whole(month).end)  # fmt: skip


def _row(row: dict[str, Any], kind: str) -> dict[str, Any]:
    billed, paid_in = (
        "" if row[name] in ("", "0.00") and row["kind"] not in SUMS else row[name] for name in ("billed", "paid_in")
    )
    amounts = [thousands(amount) if amount else "" for amount in (billed, paid_in, row["balance"])]
    return {"sum": row["kind"] in SUMS, "cells": [row["time"], kind, row["reference"], *amounts]}
