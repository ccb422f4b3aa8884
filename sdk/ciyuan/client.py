"""The clients: `Client` blocks, `AsyncClient` is awaited; both offer the same resources."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic

import httpx

from ciyuan import resources
from ciyuan.calls import Blocking, Mode, NonBlocking, Resource, endpoint, read
from ciyuan.calls import Call as _Call
from ciyuan.records import WhoAmI
from ciyuan.transport import AsyncTransport, Retry, Transport


class _Resources(Generic[Mode]):
    """What both clients offer."""

    def __init__(self, transport: Mode) -> None:
        self._self: _Self[Mode] = _Self(transport)
        self.organizations: resources.Organizations[Mode] = resources.Organizations(transport)
        self.keys: resources.Keys[Mode] = resources.Keys(transport)
        self.accelerators: resources.Accelerators[Mode] = resources.Accelerators(transport)
        self.models: resources.Models[Mode] = resources.Models(transport)
        self.grades: resources.Grades[Mode] = resources.Grades(transport)
        self.deployments: resources.Deployments[Mode] = resources.Deployments(transport)
        self.certificates: resources.Certificates[Mode] = resources.Certificates(transport)
        self.capacity: resources.Capacities[Mode] = resources.Capacities(transport)
        self.markets: resources.Markets[Mode] = resources.Markets(transport)
        self.quotes: resources.Quotes[Mode] = resources.Quotes(transport)
        self.auctions: resources.Auctions[Mode] = resources.Auctions(transport)
        self.orders: resources.Orders[Mode] = resources.Orders(transport)
        self.blocks: resources.Blocks[Mode] = resources.Blocks(transport)
        self.reservations: resources.Reservations[Mode] = resources.Reservations(transport)
        self.leases: resources.Leases[Mode] = resources.Leases(transport)
        self.limits: resources.Limits[Mode] = resources.Limits(transport)
        self.controls: resources.Controls[Mode] = resources.Controls(transport)
        self.trades: resources.Trades[Mode] = resources.Trades(transport)
        self.positions: resources.Positions[Mode] = resources.Positions(transport)
        self.contracts: resources.Contracts[Mode] = resources.Contracts(transport)
        self.deliveries: resources.Deliveries[Mode] = resources.Deliveries(transport)
        self.shortfalls: resources.Shortfalls[Mode] = resources.Shortfalls(transport)
        self.claims: resources.Claims[Mode] = resources.Claims(transport)
        self.service: resources.Service[Mode] = resources.Service(transport)
        self.exclusions: resources.Exclusions[Mode] = resources.Exclusions(transport)
        self.meters: resources.Meters[Mode] = resources.Meters(transport)
        self.events: resources.Events[Mode] = resources.Events(transport)
        self.manifests: resources.Manifests[Mode] = resources.Manifests(transport)
        self.budgets: resources.Budgets[Mode] = resources.Budgets(transport)
        self.authorizations: resources.Authorizations[Mode] = resources.Authorizations(transport)
        self.discrepancies: resources.Discrepancies[Mode] = resources.Discrepancies(transport)
        self.usage: resources.UsageQueries[Mode] = resources.UsageQueries(transport)
        self.invoices: resources.Invoices[Mode] = resources.Invoices(transport)
        self.statements: resources.Statements[Mode] = resources.Statements(transport)
        self.account: resources.Account[Mode] = resources.Account(transport)
        self.deposits: resources.Deposits[Mode] = resources.Deposits(transport)
        self.bank: resources.Bank[Mode] = resources.Bank(transport)
        self.payouts: resources.Payouts[Mode] = resources.Payouts(transport)
        self.tax_invoices: resources.TaxInvoices[Mode] = resources.TaxInvoices(transport)
        self.disputes: resources.Disputes[Mode] = resources.Disputes(transport)
        self.finance: resources.Finance[Mode] = resources.Finance(transport)
        self.card_payments: resources.CardPayments[Mode] = resources.CardPayments(transport)
        self.webhooks: resources.Webhooks[Mode] = resources.Webhooks(transport)
        self.exports: resources.Exports[Mode] = resources.Exports(transport)


class _Self(Resource[Mode]):
    @endpoint
    def whoami(self) -> _Call[WhoAmI]:
        return read("/v1/whoami", WhoAmI)


class Client(_Resources[Blocking]):
    """
    A client that waits for each answer.

        with Client() as ciyuan:                       # CIYUAN_API_KEY and CIYUAN_URL from the environment
            order = ciyuan.orders.buy(7, quantity=5_000_000, price="0.0000021")

    Requests are retried with backoff where that is safe, and writes always are: each carries an idempotency key.

    :param sleep: how to wait between attempts; a test gives its own.
    :raises CiyuanError: whatever the exchange refuses, with its code, sentence and field.
    """

    def __init__(
        self,
        api_key: str | None = None,
        url: str | None = None,
        *,
        timeout: float = 30.0,
        retry: Retry = Retry(),  # noqa: B008  immutable
        sleep: Callable[[float], None] = time.sleep,
        http: httpx.Client | None = None,
    ) -> None:
        self.transport = Transport(api_key, url, timeout=timeout, retry=retry, sleep=sleep, http=http)
        super().__init__(self.transport)

    def whoami(self) -> WhoAmI:
        """Whose key this is and what it may do."""
        return self._self.whoami()

    def close(self) -> None:
        self.transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(_Resources[NonBlocking]):
    """The same client for asyncio: methods are awaited, lists iterated with `async for`."""

    def __init__(
        self,
        api_key: str | None = None,
        url: str | None = None,
        *,
        timeout: float = 30.0,
        retry: Retry = Retry(),  # noqa: B008
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.transport = AsyncTransport(api_key, url, timeout=timeout, retry=retry, sleep=sleep, http=http)
        super().__init__(self.transport)

    async def whoami(self) -> WhoAmI:
        """Whose key this is and what it may do."""
        return await self._self.whoami()

    async def close(self) -> None:
        await self.transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
