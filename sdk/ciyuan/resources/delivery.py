"""What is not delivered: withdrawals, claims, whom a buyer excludes, and what that leaves unplaced."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import given, time_text

Shortfalls_ = list[r.Shortfall]
Exclusions_ = list[r.Exclusion]


class Shortfalls(Resource[Mode]):
    @paged
    def list(self, *, contract: int | None = None) -> Call[Page[r.Shortfall]]:
        """What providers did not make available of one's contracts."""
        return read("/v1/shortfalls", page_of(r.Shortfall), contract=contract)

    @endpoint
    def report(
        self,
        *,
        quantity: int,
        contract: int | None = None,
        capacity: int | None = None,
        begins_at: datetime | str | None = None,
        note: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[Shortfalls_]:
        """
        Withdraw sold tokens after the gate (provider): of a contract, or of all that a capacity serves.

        :param quantity: standard tokens in lots of 1,000. :param begins_at: an hour ahead, it halves the penalty.
        """
        if (contract is None) == (capacity is None):
            raise ValueError("a shortfall is of a contract, or of a capacity and its contracts")
        body = given(
            contract=contract, capacity=capacity, quantity=quantity, begins_at=time_text("begins_at", begins_at),
            note=note,
        )  # fmt: skip
        return write("POST", "/v1/shortfalls", _shortfalls, body, idempotency_key=idempotency_key)


class Claims(Resource[Mode]):
    @paged
    def list(self, *, contract: int | None = None) -> Call[Page[r.Claim]]:
        """Claims that one made, or that are made on one."""
        return read("/v1/claims", page_of(r.Claim), contract=contract)

    @endpoint
    def get(self, claim: int) -> Call[r.Claim]:
        return read(f"/v1/claims/{claim}", r.Claim)

    @endpoint
    def make(
        self,
        *,
        contract: int,
        requests: Sequence[str],
        quantity: int,
        note: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Claim]:
        """Claim failed requests by their ids (buyer); `quantity` is what they would have been, in standard tokens."""
        body = given(contract=contract, requests=[*requests], quantity=quantity, note=note)
        return write("POST", "/v1/claims", r.Claim, body, idempotency_key=idempotency_key)

    @endpoint
    def accept(self, claim: int, *, note: str | None = None, idempotency_key: str | None = None) -> Call[r.Claim]:
        """Accept a claim as its provider."""
        path = f"/v1/claims/{claim}/acceptance"
        return write("POST", path, r.Claim, given(note=note), idempotency_key=idempotency_key)

    @endpoint
    def rule(
        self,
        claim: int,
        *,
        verdict: Literal["upheld", "rejected"],
        note: str,
        quantity: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Claim]:
        """Uphold a claim, whole or in part, or reject it (operator)."""
        body = given(verdict=verdict, quantity=quantity, note=note)
        return write("POST", f"/v1/claims/{claim}/ruling", r.Claim, body, idempotency_key=idempotency_key)


class Service(Resource[Mode]):
    """How contracts are served: what three sides saw, what was found by it, and disputes about that."""

    @paged
    def minutes(self, *, contract: int | None = None) -> Call[Page[r.ServiceMinute]]:
        """What guards and gateways reported, the newest minute first."""
        return read("/v1/service/minutes", page_of(r.ServiceMinute), contract=contract)

    @paged
    def probes(self, *, deployment: int | None = None) -> Call[Page[r.Probe]]:
        """The exchange's own requests."""
        return read("/v1/service/probes", page_of(r.Probe), deployment=deployment)

    @paged
    def findings(self, *, contract: int | None = None) -> Call[Page[r.ServiceFinding]]:
        return read("/v1/service/findings", page_of(r.ServiceFinding), contract=contract)

    @endpoint
    def finding(self, finding: int) -> Call[r.ServiceFinding]:
        return read(f"/v1/service/findings/{finding}", r.ServiceFinding)

    @endpoint
    def object(self, finding: int, *, note: str, idempotency_key: str | None = None) -> Call[r.ServiceFinding]:
        """Dispute a finding as its buyer or provider: the operator decides it then."""
        path = f"/v1/service/findings/{finding}/objection"
        return write("POST", path, r.ServiceFinding, {"note": note}, idempotency_key=idempotency_key)

    @endpoint
    def rule(
        self, finding: int, *, verdict: Literal["upheld", "rejected"], note: str, idempotency_key: str | None = None
    ) -> Call[r.ServiceFinding]:
        """Decide a finding (operator)."""
        path = f"/v1/service/findings/{finding}/ruling"
        body = {"verdict": verdict, "note": note}
        return write("POST", path, r.ServiceFinding, body, idempotency_key=idempotency_key)


class Exclusions(Resource[Mode]):
    @endpoint
    def list(self) -> Call[Exclusions_]:
        """Whom one excludes (buyer)."""
        return read("/v1/exclusions", _exclusions)

    @endpoint
    def add(self, provider: int, *, idempotency_key: str | None = None) -> Call[r.Exclusion]:
        """Exclude a provider, three at most; gates that close from now on honour it."""
        return write("POST", "/v1/exclusions", r.Exclusion, {"provider": provider}, idempotency_key=idempotency_key)

    @endpoint
    def remove(self, provider: int, *, idempotency_key: str | None = None) -> Call[Exclusions_]:
        return write("DELETE", f"/v1/exclusions/{provider}", _exclusions, idempotency_key=idempotency_key)

    @paged
    def unplaced(self) -> Call[Page[r.Unplaced]]:
        """What exclusions kept from being placed at gate closures, on either side, with what came back."""
        return read("/v1/unplaced", page_of(r.Unplaced))


def _shortfalls(body: Any) -> Shortfalls_:
    return [r.Shortfall(row) for row in body["items"]]


def _exclusions(body: Any) -> Exclusions_:
    return [r.Exclusion(row) for row in body["items"]]
