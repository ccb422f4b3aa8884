"""
Live market data with a book that is always right: `MarketData` blocks, `AsyncMarketData` is awaited.

    with MarketData() as data:
        for event in data.watch(12):
            print(event.book.bids[:1], event.book.asks[:1], event.trades)

Each event is what one frame of the exchange changed, after the book of `event.market` took it and its checksum agreed.
Frames that were lost are fetched over REST, so none is missing among the events; where that cannot be, or a checksum
disagrees, the book begins anew from a snapshot. A broken connection is made again.

What to do when is decided by one generator without any input or output (`_follow`); the two clients carry it out.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeAlias

from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect

from ciyuan.client import AsyncClient, Client
from ciyuan.errors import CiyuanError, Unreachable
from ciyuan.local_book import ChecksumMismatch, LocalBook, OutOfStep
from ciyuan.records import PublicTrade
from ciyuan.transport import Retry

CHANNELS = ("book", "trades", "phase", "indicative", "statistics")
PATIENCE_SECONDS = 20.0
"""A heartbeat comes every few seconds: after so long without a word the connection is given up."""
LARGEST_MESSAGE = 2**27


@dataclass(frozen=True)
class MarketEvent:
    """
    One step of a market.

    :ivar kind: `snapshot` or `update`.
    :ivar book: the market's book after it; the same object each time.
    :ivar message: what the exchange said, in full.
    :ivar healed: it had been lost, and was fetched.
    """

    market: int
    kind: str
    book: LocalBook
    message: Mapping[str, Any]
    trades: Sequence[PublicTrade] = field(default_factory=tuple)
    healed: bool = False


@dataclass(frozen=True)
class _Say:
    body: Mapping[str, Any]


@dataclass(frozen=True)
class _Fetch:
    """Frames of a market (of one's own orders there) after a number."""

    market: int
    after: int


_Steps: TypeAlias = Generator["_Say | _Fetch | MarketEvent", Any, None]


def _subscription(market: int, channels: Sequence[str]) -> dict[str, Any]:
    return {"op": "subscribe", "market": market, "channels": list(channels)}


def _follow(books: dict[int, LocalBook], channels: Sequence[str], message: Mapping[str, Any]) -> _Steps:
    """What to do about a message: events to pass on, frames to fetch, things to say."""
    if message["type"] == "error":
        raise CiyuanError(message["code"], message["detail"])
    book = books.get(message.get("market", 0))
    if book is None:
        return
    try:
        if message["type"] == "snapshot":
            if book.seq is not None and book.seq < message["seq"]:
                yield from _heal(book)
            book.begin(message)
            yield MarketEvent(book.market, "snapshot", book, message)
        elif message["type"] == "update":
            if book.seq is not None and message["prev_seq"] > book.seq:
                yield from _heal(book)
            if book.apply(message):
                yield _event(book, message)
        elif message["type"] == "heartbeat" and book.seq is not None and message["seq"] > book.seq:
            yield from _heal(book)
    except (OutOfStep, ChecksumMismatch):
        book.seq = None
        yield _Say(_subscription(book.market, channels))


def _heal(book: LocalBook) -> _Steps:
    """Fetch what was lost. A refusal leaves the book as it was: whoever goes on finds it out of step."""
    more = True
    while more and book.seq is not None:
        answer = yield _Fetch(book.market, book.seq)
        if answer is None:
            return
        for frame in answer["frames"]:
            if book.apply(frame):
                yield _event(book, frame, healed=True)
        more = answer["more"]


def _event(book: LocalBook, message: Mapping[str, Any], *, healed: bool = False) -> MarketEvent:
    trades = tuple(PublicTrade({**row, "market": book.market}) for row in message.get("trades", ()))
    return MarketEvent(book.market, "update", book, message, trades, healed)


def _follow_own(
    stands: dict[str, int], message: Mapping[str, Any]
) -> Generator[_Fetch | Mapping[str, Any], Any, None]:
    """The same for one's own orders: messages to pass on and frames to fetch."""
    if message["type"] == "snapshot":
        for market, seq in message["seqs"].items():
            if stands.get(market, seq) < seq:
                yield from _fetch_own(stands, market)
        stands.update(message["seqs"])
        yield message
    elif message["type"] == "heartbeat":
        for market, seq in message["seqs"].items():
            if seq > stands.get(market, 0):
                yield from _fetch_own(stands, market)
    elif message["type"] == "update":
        market = str(message["market"])
        if message["prev_seq"] > stands.get(market, 0):
            yield from _fetch_own(stands, market)
        if message["seq"] > stands.get(market, 0):
            if not message.get("more"):
                stands[market] = message["seq"]
            yield message


def _fetch_own(stands: dict[str, int], market: str) -> Generator[_Fetch | Mapping[str, Any], Any, None]:
    more = True
    while more:
        answer = yield _Fetch(int(market), stands.get(market, 0))
        if answer is None:
            return
        for frame in answer["frames"]:
            stands[market] = frame["seq"]
            yield frame
        more = answer["more"]


def _address(url: str, path: str) -> str:
    return url.replace("http", "ws", 1) + path


def _refused(error: InvalidStatus) -> CiyuanError | None:
    if error.response.status_code in (401, 403, 404):
        return CiyuanError(
            "forbidden", "this key may not read the private channel", status=error.response.status_code
        )
    return None


class MarketData:
    """
    Live market data for code that waits.

    :param client: whose address and key to use, and by which lost frames are fetched; made if not given.
    :param retry: how patiently to connect again.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        api_key: str | None = None,
        url: str | None = None,
        retry: Retry = Retry(attempts=10),  # noqa: B008  immutable
    ) -> None:
        self._own_client = client is None
        self.client = client or Client(api_key, url)
        self._retry = retry

    def watch(self, *markets: int, channels: Sequence[str] = CHANNELS) -> Iterator[MarketEvent]:
        """
        Follow markets; ends only with the `for` loop.

        :raises CiyuanError: the exchange refuses a market or channel, or cannot be reached any more.
        """
        books = {market: LocalBook(market) for market in markets}
        opening = [_subscription(market, channels) for market in markets]
        for socket, message in self._messages("/v1/stream", opening):
            steps = _follow(books, channels, message)
            answer: Any = None
            while True:
                try:
                    step = steps.send(answer)
                except StopIteration:
                    break
                answer = None
                if isinstance(step, _Fetch):
                    answer = self._fetch(self.client.markets.frames, step)
                elif isinstance(step, _Say):
                    socket.send(json.dumps(step.body))
                else:
                    yield step

    def own(self) -> Iterator[Mapping[str, Any]]:
        """
        Follow one's own orders, fills and holds: a snapshot, then updates, as docs/MARKET_DATA.md shows them.

        :raises CiyuanError: this key may not, or the exchange cannot be reached any more.
        """
        stands: dict[str, int] = {}
        for _, message in self._messages("/v1/stream/private", []):
            steps = _follow_own(stands, message)
            answer: Any = None
            while True:
                try:
                    step = steps.send(answer)
                except StopIteration:
                    break
                answer = None
                if isinstance(step, _Fetch):
                    answer = self._fetch(self.client.orders.frames, step)
                else:
                    yield step

    def _fetch(self, frames: Any, step: _Fetch) -> Any:
        try:
            return frames(step.market, after=step.after).raw
        except Unreachable:
            raise
        except CiyuanError:
            return None

    def _messages(self, path: str, opening: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Any, Any]]:
        """Yield messages with the connection that they came by; connect again whenever it breaks."""
        failures = 0
        settings = self.client.transport.settings
        while True:
            try:
                with connect(
                    _address(settings.url, path), additional_headers=settings.headers(), max_size=LARGEST_MESSAGE
                ) as socket:
                    for body in opening:
                        socket.send(json.dumps(body))
                    while True:
                        message = json.loads(self._receive(socket))
                        failures = 0
                        yield socket, message
            except (WebSocketException, OSError, TimeoutError) as error:
                if isinstance(error, InvalidStatus) and (refusal := _refused(error)):
                    raise refusal from error
                failures += 1
                if failures >= self._retry.attempts:
                    raise Unreachable("unreachable", f"no live data from {settings.url}: {error}") from error
                time.sleep(self._retry.wait(failures))

    def _receive(self, socket: Any) -> str | bytes:
        text: str | bytes = socket.recv(timeout=PATIENCE_SECONDS)
        return text

    def close(self) -> None:
        if self._own_client:
            self.client.close()

    def __enter__(self) -> MarketData:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncMarketData:
    """The same for asyncio: `async for event in data.watch(12)`."""

    def __init__(
        self,
        client: AsyncClient | None = None,
        *,
        api_key: str | None = None,
        url: str | None = None,
        retry: Retry = Retry(attempts=10),  # noqa: B008
    ) -> None:
        self._own_client = client is None
        self.client = client or AsyncClient(api_key, url)
        self._retry = retry

    async def watch(self, *markets: int, channels: Sequence[str] = CHANNELS) -> AsyncIterator[MarketEvent]:
        """
        Follow markets; ends only with the loop.

        :raises CiyuanError: the exchange refuses a market or channel, or cannot be reached any more.
        """
        books = {market: LocalBook(market) for market in markets}
        opening = [_subscription(market, channels) for market in markets]
        async with aclosing(self._messages("/v1/stream", opening)) as messages:
            async for socket, message in messages:
                with closing(_follow(books, channels, message)) as steps:
                    answer: Any = None
                    while True:
                        try:
                            step = steps.send(answer)
                        except StopIteration:
                            break
                        answer = None
                        if isinstance(step, _Fetch):
                            answer = await self._fetch(self.client.markets.frames, step)
                        elif isinstance(step, _Say):
                            await socket.send(json.dumps(step.body))
                        else:
                            yield step

    async def own(self) -> AsyncIterator[Mapping[str, Any]]:
        """
        Follow one's own orders, fills and holds.

        :raises CiyuanError: this key may not, or the exchange cannot be reached any more.
        """
        stands: dict[str, int] = {}
        async with aclosing(self._messages("/v1/stream/private", [])) as messages:
            async for _, message in messages:
                with closing(_follow_own(stands, message)) as steps:
                    answer: Any = None
                    while True:
                        try:
                            step = steps.send(answer)
                        except StopIteration:
                            break
                        answer = None
                        if isinstance(step, _Fetch):
                            answer = await self._fetch(self.client.orders.frames, step)
                        else:
                            yield step

    async def _fetch(self, frames: Any, step: _Fetch) -> Any:
        try:
            return (await frames(step.market, after=step.after)).raw
        except Unreachable:
            raise
        except CiyuanError:
            return None

    async def _messages(self, path: str, opening: Sequence[Mapping[str, Any]]) -> AsyncGenerator[tuple[Any, Any], None]:
        failures = 0
        settings = self.client.transport.settings
        while True:
            try:
                async with connect_async(
                    _address(settings.url, path), additional_headers=settings.headers(), max_size=LARGEST_MESSAGE
                ) as socket:
                    for body in opening:
                        await socket.send(json.dumps(body))
                    while True:
                        message = json.loads(await self._receive(socket))
                        failures = 0
                        yield socket, message
            except (WebSocketException, OSError, TimeoutError) as error:
                if isinstance(error, InvalidStatus) and (refusal := _refused(error)):
                    raise refusal from error
                failures += 1
                if failures >= self._retry.attempts:
                    raise Unreachable("unreachable", f"no live data from {settings.url}: {error}") from error
                await asyncio.sleep(self._retry.wait(failures))

    async def _receive(self, socket: Any) -> str | bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            text: str | bytes = await socket.recv()
        return text

    async def close(self) -> None:
        if self._own_client:
            await self.client.close()

    async def __aenter__(self) -> AsyncMarketData:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
