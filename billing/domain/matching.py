"""Whose money a bank line is: by reference, by payer, by amount. What is not certain goes to a person."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from billing.domain.bank_files import references_in


class Payer(NamedTuple):
    """What is known of an organization that might have paid."""

    organization_id: int
    names: frozenset[str]
    accounts: frozenset[str]     # from which its money came before
    owed_micro: frozenset[int]   # what single open documents, and all of them together, ask for


class Match(NamedTuple):
    """Whose money it is (None: nobody knows), and why."""

    organization_id: int | None
    reason: str
    suggestion_id: int | None = None


def plain_name(name: str) -> str:
    """Return a name as it is compared: without spaces, brackets of either width, and case."""
    return "".join(name.split()).replace("（", "(").replace("）", ")").casefold()


def match(*, purpose: str, payer: str, payer_account: str, amount_micro: int, payers: Mapping[int, Payer]) -> Match:
    """
    Return whose money a line is. A reference decides, unless the payer is named and is somebody else; without one, the
    payer and the amount together do.
    """
    named = {id_ for id_ in references_in(purpose) if id_ in payers}
    by_payer = _by_payer(payer, payer_account, payers.values())
    if len(named) > 1:
        return Match(None, "it names several payment references")
    if named:
        [id_] = named
        known = payers[id_]
        own = id_ in by_payer or not payer or not known.names
        return Match(id_, "reference") if own else Match(None, "the payer is not whom the reference names", id_)
    if len(by_payer) > 1:
        return Match(None, "several organizations pay under this name or from this account")
    if by_payer:
        [id_] = by_payer
        if amount_micro in payers[id_].owed_micro:
            return Match(id_, "payer and amount")
        return Match(None, "no reference, and the amount is not what this payer owes", id_)
    return Match(None, "no reference, and the payer is not known")


def _by_payer(payer: str, account: str, payers: Collection[Payer]) -> set[int]:
    by_account = {one.organization_id for one in payers if account and account in one.accounts}
    return by_account or {one.organization_id for one in payers if payer and plain_name(payer) in one.names}
