"""What a key or a role may do."""

from collections.abc import Iterable

TRADE, METER, BILLING, READ, OPERATE = "trade", "meter", "billing", "read", "operate"
ALL_SCOPES = frozenset({TRADE, METER, BILLING, READ, OPERATE})

ROLE_SCOPES: dict[str, frozenset[str]] = {
    "owner": frozenset({TRADE, BILLING, READ}),
    "trader": frozenset({TRADE, READ}),
    "billing": frozenset({BILLING, READ}),
    "viewer": frozenset({READ}),
    "auditor": frozenset({READ}),
}


def scopes_of_role(role: str, *, operates: bool) -> frozenset[str]:
    """Return the scopes of a membership; owners of the operator may operate."""
    scopes = ROLE_SCOPES[role]
    return scopes | {OPERATE} if operates and role == "owner" else scopes


def unknown_scopes(scopes: Iterable[str]) -> list[str]:
    """Return the names that are no scopes, sorted."""
    return sorted(set(scopes) - ALL_SCOPES)
