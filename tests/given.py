"""Builders for tests: `given_…()` makes one thing with sensible defaults; name only what the test is about."""

import itertools
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

from ciyuan.standard_token import REFERENCE_7B
from django.db import transaction
from rest_framework.test import APIClient

from billing.actions.deposits import record_deposit
from core.periods import Period
from exchange.actions.accept import accept
from exchange.actions.advance import advance
from exchange.actions.gate import begin_delivery, close_gate
from exchange.actions.markets import create_market
from exchange.actions.positions import add_capacity
from exchange.domain.requests import OrderRequest
from exchange.models import Market
from identity.access import Actor
from identity.actions.keys import create_key
from identity.actions.organizations import add_member, create_organization
from identity.models import Membership, Organization, User
from providers.actions.capacity import publish_capacity
from providers.actions.catalogue import AcceleratorFacts, ModelFacts, publish_model_card, put_accelerator
from providers.actions.deployments import register_deployment
from providers.actions.grades import GradeTerms, publish_grade
from providers.models import Accelerator, Capacity, Deployment, Grade, ModelCard

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
_numbers = itertools.count(1)


class Api(APIClient):
    """An API client with a key; every write gets a fresh Idempotency-Key unless one is given as `key=`."""

    def __init__(self, secret: str | None = None) -> None:
        super().__init__()
        self.secret = secret
        if secret:
            self.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")

    def _write(self, method, path, data, key, **extra):
        headers = {"Idempotency-Key": key if key is not None else str(uuid4())}
        return getattr(super(), method)(path, data, format="json", headers=headers, **extra)

    def post(self, path, data=None, key=None, **extra):
        return self._write("post", path, data if data is not None else {}, key, **extra)

    def patch(self, path, data=None, key=None, **extra):
        return self._write("patch", path, data if data is not None else {}, key, **extra)

    def delete(self, path, data=None, key=None, **extra):
        return self._write("delete", path, data, key, **extra)


def given_organization(kind: str = "buyer", name: str | None = None, **fields) -> Organization:
    with transaction.atomic():
        return create_organization(kind=kind, name=name or f"{kind.title()} {next(_numbers)}", now=NOW, **fields)


DEFAULT_SCOPES = {
    "buyer": ["trade", "billing", "read"],
    "provider": ["trade", "billing", "read"],
    "both": ["trade", "billing", "read"],
    "operator": ["trade", "billing", "read", "operate"],
}


def given_api(organization: Organization, scopes: list[str] | None = None, **fields) -> Api:
    """An API client acting for `organization`."""
    with transaction.atomic():
        new = create_key(
            organization=organization,
            name="test",
            scopes=scopes or DEFAULT_SCOPES[organization.kind],
            now=fields.pop("now", NOW),
            **fields,
        )
    return Api(new.secret)


def given_user(organization: Organization | None = None, role: str = "owner", **fields) -> User:
    user = User.objects.create_user(fields.pop("email", f"user{next(_numbers)}@example.com"), "correct horse", **fields)
    if organization is not None:
        with transaction.atomic():
            add_member(organization=organization, user=user, role=role, now=NOW)
    return user


def given_actor(organization: Organization, role: str = "owner") -> Actor:
    from identity.domain.scopes import scopes_of_role

    return Actor(organization=organization, scopes=scopes_of_role(role, operates=organization.operates))


def given_accelerator(slug: str = "h100", **fields) -> Accelerator:
    """An accelerator; by default with the H100's numbers."""
    facts = AcceleratorFacts(
        **{
            "slug": slug,
            "vendor": "NVIDIA",
            "name": slug.upper(),
            "memory_bytes": 80 * 2**30,
            "bandwidth_bytes_per_second": 3_350 * 10**9,
            "gflops": {"bf16": 989_000, "fp16": 989_000, "fp8": 1_979_000, "int8": 1_979_000},
            "source": "datasheet",
            "as_of": date(2023, 3, 21),
            **fields,
        }
    )
    with transaction.atomic():
        return put_accelerator(facts=facts, now=NOW)[0]


def given_model(slug: str = "reference-7b", **fields) -> ModelCard:
    """A model card; by default the reference model's, whose output token at 2,048 is one standard token."""
    card = {key: value for key, value in REFERENCE_7B.to_dict().items() if key != "name"}
    values = {"name": slug, "card": card, "total_params": 7_000_000_000, "source": "config", "as_of": date(2026, 1, 1)}
    with transaction.atomic():
        return publish_model_card(facts=ModelFacts(slug=slug, **{**values, **fields}), now=NOW)[0]


def given_grade(slug: str | None = None, **terms) -> Grade:
    """An active grade of the reference model, prices in steps of ¥0.0001 a token, orders from one lot."""
    values = {
        "slug": slug or f"grade-{next(_numbers)}",
        "name": "A grade",
        "model": terms.pop("model", None) or given_model().slug,
        "precisions": ("bf16", "fp16", "fp8", "int8"),
        "service_class": "realtime",
        "region": "cn",
        "max_context_tokens": 32_768,
        "max_output_tokens": 8_192,
        "tick_nano": 100_000,
        "reference_price_nano": 3_000_000,
    }
    with transaction.atomic():
        return publish_grade(terms=GradeTerms(**{**values, **terms}), now=NOW)[0]


def given_deployment(provider: Organization | None = None, grade: Grade | None = None, **fields) -> Deployment:
    """A deployment of one H100 rated at 60,000 standard tokens a minute."""
    provider = provider or given_organization("provider")
    values = {
        "name": f"deployment {next(_numbers)}",
        "grade": (grade or given_grade()).slug,
        "accelerator": fields.pop("accelerator", None) or given_accelerator().slug,
        "accelerator_count": 1,
        "engine": "vLLM 0.11",
        "precision": "bf16",
        "region": "cn-north",
        "endpoint": "https://api.provider.example/v1",
        "rated_tokens_per_minute": 60_000,
    }
    with transaction.atomic():
        return register_deployment(provider_id=provider.pk, now=NOW, **{**values, **fields})


def given_capacity(deployment: Deployment | None = None, window: Period | None = None, **fields) -> Capacity:
    """An hour's capacity from tomorrow at `NOW`'s hour: 600,000 standard tokens, reserve ¥0.002, list ¥0.005."""
    deployment = deployment or given_deployment()
    values = {
        "quantity_tokens": 600_000,
        "tokens_per_minute": 10_000,
        "reserve_price_nano": 2_000_000,
        "list_price_nano": 5_000_000,
        "wait": False,
    }
    with transaction.atomic():
        return publish_capacity(
            deployment_id=deployment.pk, window=window or given_window(), now=NOW, **{**values, **fields}
        )


def given_window(start: datetime | None = None, hours: int = 1) -> Period:
    start = start or NOW + timedelta(days=1)
    return Period(start, start + timedelta(hours=hours))


def given_market(grade: Grade | None = None, phase: str = "call", now: datetime = NOW, **fields) -> Market:
    """A market whose call is open and closes in 10 minutes; its window is the hour after the next. Cap ¥0.005."""
    values = {
        "grade": grade or given_grade(),
        "window": Period(now + timedelta(hours=1), now + timedelta(hours=2)),
        "window_kind": "noon",
        "call_opens_at": now,
        "call_closes_at": now + timedelta(minutes=10),
        "gate_closes_at": now + timedelta(minutes=20),
        "cap_price_nano": 5_000_000,
    }
    with transaction.atomic():
        market = create_market(now=now, **{**values, **fields})
    if phase == "call":
        with transaction.atomic():
            advance(market_id=market.pk, now=now)
        market.refresh_from_db()
    return market


def given_money(organization: Organization, yuan: int = 1_000_000) -> Organization:
    """The organization, with a deposit."""
    with transaction.atomic():
        record_deposit(
            organization_id=organization.pk, amount_micro=yuan * 1_000_000, reference=str(uuid4()), now=NOW
        )
    return organization


def given_seller(market: Market, lots: int = 1_000, name: str | None = None) -> Organization:
    """A provider with capacity in the market that it has not offered yet."""
    seller = given_money(given_organization("provider", name))
    with transaction.atomic():
        add_capacity(market_id=market.pk, organization_id=seller.pk, tokens=lots * 1_000)
    return seller


def given_orders(organization: Organization, *orders: dict, now: datetime = NOW) -> list[UUID]:
    """Accepted orders, given as fields of `OrderRequest` with `lots` and a `price` in ¥0.0001."""
    requests = []
    for order in orders:
        fields = {"quantity_tokens": order.pop("lots", 1) * 1_000, **order}
        if (price := fields.pop("price", None)) is not None:
            fields["price_nano"] = price * 100_000
        market = fields.pop("market")
        requests.append(OrderRequest(market_id=getattr(market, "pk", market), **fields))
    with transaction.atomic():
        outcomes = accept(organization=organization, requests=requests, now=now)
    refused = [outcome for outcome in outcomes if not hasattr(outcome, "id")]
    assert not refused, refused
    return [outcome.id for outcome in outcomes]


def advanced(market: Market, now: datetime | None = None) -> Market:
    """The market after everything that is due at `now` (by default at its gate closure) has been done."""
    now = now or market.gate_closes_at
    with transaction.atomic():
        advance(market_id=market.pk, now=now)
    with transaction.atomic():
        close_gate(market_id=market.pk, now=now)
    with transaction.atomic():
        begin_delivery(market_id=market.pk, now=now)
    market.refresh_from_db()
    return market


__all__ = [
    "NOW",
    "Api",
    "Membership",
    "advanced",
    "given_accelerator",
    "given_actor",
    "given_api",
    "given_capacity",
    "given_deployment",
    "given_grade",
    "given_market",
    "given_model",
    "given_money",
    "given_orders",
    "given_organization",
    "given_seller",
    "given_user",
    "given_window",
]
