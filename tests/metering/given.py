"""Builders for metering: a market in delivery with its contract, a meter with its key, the raw door in-process."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx
import msgspec
from django.db import transaction

from exchange.models import ContractDeployment, ContractLot, DeliveryContract, Market
from identity.actions.keys import create_key
from identity.models import Organization
from metering_ingest.actions.meters import open_meter
from metering_ingest.ingest_asgi import application
from metering_ingest.models import Meter
from providers.models import Deployment, Grade
from tests.given import NOW, given_deployment, given_grade, given_organization


def given_market(grade: Grade | None = None, start: datetime | None = None, hours: int = 1, **fields: Any) -> Market:
    """A market in delivery: its window began an hour ago unless `start` says otherwise."""
    start = start or NOW - timedelta(hours=1)
    grade = grade or given_grade()
    values: dict[str, Any] = {
        "window_kind": "custom", "mode": "auction", "phase": "delivering", "tick_nano": grade.tick_nano,
        "min_order_tokens": grade.min_order_tokens, "cap_price_nano": 10_000_000, "created_at": start,
        "gate_closed_at": start - timedelta(minutes=15),
    }  # fmt: skip
    return Market.objects.create(
        grade=grade, window_start=start, window_end=start + timedelta(hours=hours),
        call_opens_at=start - timedelta(hours=2), call_closes_at=start - timedelta(hours=1),
        gate_closes_at=start - timedelta(minutes=15), **values | fields,
    )  # fmt: skip


def given_contract(
    deployment: Deployment | None = None, buyer: Organization | None = None, market: Market | None = None,
    lots: list[tuple[int, int, int]] | None = None,
) -> DeliveryContract:  # fmt: skip
    """A contract of a market, with lots of (tokens, buyer's price, seller's price); by default 1,000,000 at ¥3/M."""
    deployment = deployment or given_deployment()
    market = market or given_market(deployment.grade)
    lots = lots or [(1_000_000, 3_000, 3_000)]
    contract = DeliveryContract.objects.create(
        kind="spot", market=market, grade=market.grade, buyer=buyer or given_organization(),
        provider=deployment.provider, quantity_tokens=sum(lot[0] for lot in lots), window_start=market.window_start,
        window_end=market.window_end, rate_tokens_per_minute=1_000_000, created_at=market.gate_closed_at or NOW,
    )  # fmt: skip
    for number, (tokens, buyer_price, seller_price) in enumerate(lots, 1):
        ContractLot.objects.create(
            contract=contract, number=number, quantity_tokens=tokens, buyer_price_nano=buyer_price,
            seller_price_nano=seller_price,
        )  # fmt: skip
    ContractDeployment.objects.create(
        contract=contract, deployment=deployment, quantity_tokens=contract.quantity_tokens, since=market.window_start
    )
    return contract


def given_meter(deployment: Deployment | None = None, organization: Organization | None = None, **fields: Any) -> Meter:
    """A provider's meter on a deployment; a buyer's where only an organization is given."""
    if organization is None:
        deployment = deployment or given_deployment()
    role = fields.pop("role", "provider" if deployment else "buyer")
    with transaction.atomic():
        return open_meter(
            organization=organization or deployment.provider, name=fields.pop("name", f"meter {Meter.objects.count()}"),  # type: ignore[union-attr]
            role=role, deployment=deployment, public_key=fields.pop("public_key", None), now=NOW,
        )  # fmt: skip


def given_meter_key(meter: Meter) -> str:
    """The secret of a key that sends events of one meter."""
    with transaction.atomic():
        return create_key(
            organization=meter.organization, name="meter", scopes=["meter"], meter_id=meter.pk, now=NOW
        ).secret


class Door:
    """The raw usage door, called in-process: `Door(secret).post([event()])`."""

    def __init__(self, secret: str | None) -> None:
        self.headers = {"Authorization": f"Bearer {secret}"} if secret else {}

    def post(self, body: Any, path: str = "/v1/events", **headers: str) -> httpx.Response:
        """Send one body (JSON values or bytes); header names with underscores."""
        return self.post_together([body], path, **headers)[0]

    def post_together(self, bodies: list[Any], path: str = "/v1/events", **headers: str) -> list[httpx.Response]:
        """Send bodies at the same moment."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}

        async def send() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app=application, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://exchange") as client:
                return await asyncio.gather(
                    *(
                        client.post(
                            path, content=body if isinstance(body, bytes) else msgspec.json.encode(body),
                            headers={"Content-Type": "application/json"} | self.headers | names,
                        )
                        for body in bodies
                    )
                )  # fmt: skip

        return asyncio.run(send())
