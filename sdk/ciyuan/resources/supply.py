"""What is sold: accelerators, models, grades, deployments and their capacity."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import Money, decimal_text, given, window_body


class Accelerators(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Accelerator]]:
        return read("/v1/accelerators", page_of(r.Accelerator))


class Models(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Model]]:
        """Model cards, with the numbers that the standard token needs."""
        return read("/v1/models", page_of(r.Model))


class Grades(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Grade]]:
        return read("/v1/grades", page_of(r.Grade))

    @endpoint
    def get(self, grade: int | str) -> Call[r.Grade]:
        return read(f"/v1/grades/{grade}", r.Grade)

    @endpoint
    def index(self, grade: int | str, *, days: int | None = None) -> Call[r.SpotIndex]:
        """The spot token index over the last 24 hours, the off-peak discount, and the index of each day."""
        return read(f"/v1/grades/{grade}/index", r.SpotIndex, days=days)

    @endpoint
    def publish(self, /, *, idempotency_key: str | None = None, **terms: Any) -> Call[r.Grade]:
        """Publish a grade (operator). Its terms are frozen from then on."""
        for name in ("tick", "reference_price"):
            if name in terms:
                terms[name] = decimal_text(name, terms[name])
        return write("POST", "/v1/grades", r.Grade, terms, idempotency_key=idempotency_key)


class Deployments(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Deployment]]:
        return read("/v1/deployments", page_of(r.Deployment))

    @endpoint
    def register(
        self,
        *,
        name: str,
        grade: int | str,
        accelerator: int | str,
        accelerator_count: int,
        engine: str,
        precision: str,
        region: str,
        endpoint: str,
        rated_tokens_per_minute: int,
        idempotency_key: str | None = None,
    ) -> Call[r.Deployment]:
        body = given(
            name=name,
            grade=grade,
            accelerator=accelerator,
            accelerator_count=accelerator_count,
            engine=engine,
            precision=precision,
            region=region,
            endpoint=endpoint,
            rated_tokens_per_minute=rated_tokens_per_minute,
        )
        return write("POST", "/v1/deployments", r.Deployment, body, idempotency_key=idempotency_key)

    @endpoint
    def get(self, deployment: int) -> Call[r.Deployment]:
        return read(f"/v1/deployments/{deployment}", r.Deployment)

    @endpoint
    def set_list_price(
        self, deployment: int, price: Money | None, *, idempotency_key: str | None = None
    ) -> Call[r.Anything]:
        """Set the list price from now on; None takes it back."""
        path, body = f"/v1/deployments/{deployment}/list-prices", {"price": decimal_text("price", price)}
        return write("POST", path, r.Anything, body, idempotency_key=idempotency_key)


class Certificates(Resource[Mode]):
    @paged
    def list(self, *, deployment: int | None = None) -> Call[Page[r.Certificate]]:
        """What one's deployments were measured to do, the newest first."""
        return read("/v1/certificates", page_of(r.Certificate), deployment=deployment)

    @endpoint
    def record(self, /, *, idempotency_key: str | None = None, **report: Any) -> Call[r.Certificate]:
        """Certify a deployment by a run of the reference workload (`ciyuan.certify.measure` makes the report)."""
        return write("POST", "/v1/certificates", r.Certificate, report, idempotency_key=idempotency_key)


class Capacities(Resource[Mode]):
    @paged
    def list(self, *, deployment: int | None = None) -> Call[Page[r.Capacity]]:
        return read("/v1/capacity", page_of(r.Capacity), deployment=deployment)

    @endpoint
    def publish(
        self,
        *,
        deployment: int,
        quantity: int,
        tokens_per_minute: int,
        reserve_price: Money,
        list_price: Money,
        market: int | None = None,
        window: tuple[datetime | str, datetime | str] | None = None,
        wait: bool | None = None,
        rolls_over: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Capacity]:
        """
        Publish capacity for a market or a window, and offer it at its reserve price at once unless `wait`.

        :param quantity: standard tokens in all. :param tokens_per_minute: standard tokens per minute.
        :param rolls_over: offer what stays unsold in the next auction as well.
        """
        if (market is None) == (window is None):
            raise ValueError("capacity is published either for a market or for a window (start, end)")
        body = given(
            deployment=deployment,
            market=market,
            window=None if window is None else window_body(window),
            quantity=quantity,
            tokens_per_minute=tokens_per_minute,
            reserve_price=decimal_text("reserve_price", reserve_price),
            list_price=decimal_text("list_price", list_price),
            wait=wait,
            rolls_over=rolls_over,
        )
        return write("POST", "/v1/capacity", r.Capacity, body, idempotency_key=idempotency_key)

    @endpoint
    def get(self, capacity: int) -> Call[r.Capacity]:
        return read(f"/v1/capacity/{capacity}", r.Capacity)

    @endpoint
    def offer(self, capacity: int, *, idempotency_key: str | None = None) -> Call[r.Capacity]:
        """Offer capacity that was published with `wait`."""
        return write("POST", f"/v1/capacity/{capacity}/offer", r.Capacity, {}, idempotency_key=idempotency_key)

    @endpoint
    def withdraw(self, capacity: int, *, idempotency_key: str | None = None) -> Call[r.Capacity]:
        """Withdraw what is not sold; the exchange refuses to withdraw what is."""
        return write("DELETE", f"/v1/capacity/{capacity}", r.Capacity, idempotency_key=idempotency_key)
