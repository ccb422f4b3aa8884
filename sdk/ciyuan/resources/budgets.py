"""Budgets, and asking them before a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import Money, decimal_text, given


class Budgets(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Budget]]:
        return read("/v1/budgets", page_of(r.Budget))

    @endpoint
    def get(self, budget: int) -> Call[r.Budget]:
        return read(f"/v1/budgets/{budget}", r.Budget)

    @endpoint
    def set(
        self, *, period: str, standard_tokens: int | None = None, yuan: Money | None = None, key: str | None = None,
        tag: tuple[str, str] | None = None, hard: bool = False, alert_thousandths: Sequence[int] | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Budget]:  # fmt: skip
        """
        Limit what the organization (or one of its keys, or a tag's value) uses in a period.

        :param period: day, month or contract.
        :param hard: refuse authorizations beyond it; else it only alerts.
        """
        body = given(
            subject="key" if key is not None else "tag" if tag is not None else "organization", period=period, key=key,
            tag=tag[0] if tag else None, value=tag[1] if tag else None, standard_tokens=standard_tokens,
            yuan=decimal_text("yuan", yuan), hard=hard,
            alert_thousandths=list(alert_thousandths) if alert_thousandths is not None else None,
        )  # fmt: skip
        return write("POST", "/v1/budgets", r.Budget, body, idempotency_key=idempotency_key)

    @endpoint
    def change(
        self, budget: int, *, standard_tokens: int | None = None, yuan: Money | None = None, hard: bool | None = None,
        alert_thousandths: Sequence[int] | None = None, idempotency_key: str | None = None,
    ) -> Call[r.Budget]:  # fmt: skip
        body = given(
            standard_tokens=standard_tokens, yuan=decimal_text("yuan", yuan), hard=hard,
            alert_thousandths=list(alert_thousandths) if alert_thousandths is not None else None,
        )  # fmt: skip
        return write("PATCH", f"/v1/budgets/{budget}", r.Budget, body, idempotency_key=idempotency_key)

    @endpoint
    def close(self, budget: int, *, idempotency_key: str | None = None) -> Call[r.Budget]:
        return write("DELETE", f"/v1/budgets/{budget}", r.Budget, idempotency_key=idempotency_key)


class Authorizations(Resource[Mode]):
    """
    Ask before a call, settle after it:

        allowed = exchange.authorizations.ask(standard_tokens=2_000, key="alice")  # or code budget-exceeded
        ...
        exchange.authorizations.settle(allowed.id, standard_tokens="812.5")
    """

    @paged
    def list(self, *, state: str | None = None) -> Call[Page[r.Authorization]]:
        return read("/v1/authorizations", page_of(r.Authorization), state=state)

    @endpoint
    def get(self, authorization: str) -> Call[r.Authorization]:
        return read(f"/v1/authorizations/{authorization}", r.Authorization)

    @endpoint
    def ask(
        self, *, standard_tokens: int, key: str | None = None, tags: Mapping[str, str] | None = None,
        contract: int | None = None, max_price: Money | None = None, lifetime_seconds: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Authorization]:  # fmt: skip
        """Reserve the most that a call may use, in every budget that it falls under."""
        body = given(
            standard_tokens=standard_tokens, key=key, tags=dict(tags) if tags is not None else None, contract=contract,
            max_price=decimal_text("max_price", max_price), lifetime_seconds=lifetime_seconds,
        )  # fmt: skip
        return write("POST", "/v1/authorizations", r.Authorization, body, idempotency_key=idempotency_key)

    @endpoint
    def settle(
        self, authorization: str, *, standard_tokens: Decimal | str | int, idempotency_key: str | None = None
    ) -> Call[r.Authorization]:
        """Put what was used in the place of what was reserved; 0 gives it back."""
        body = {"standard_tokens": decimal_text("standard_tokens", standard_tokens)}
        path = f"/v1/authorizations/{authorization}/settle"
        return write("POST", path, r.Authorization, body, idempotency_key=idempotency_key)
