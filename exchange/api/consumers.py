"""
The websocket doors: `/v1/stream`, public market data, and `/v1/stream/private`, a member's drop copy.

docs/MARKET_DATA.md shows what is said over both.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any

import msgspec
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from core import clock
from exchange import frame_queries, own_feed, wire
from exchange.feeds import FRAME_SECONDS, HEARTBEAT_SECONDS, Feed, encode, hub
from exchange.models import Market
from identity.access import Actor
from identity.auth import authenticate_key
from identity.models import User
from identity.pages import SESSION_KEY
from identity.queries import actor_for_user

MARKETS_AT_ONCE = 100
MOST_WAITING = 64
NOT_ALLOWED = 4403
decode = msgspec.json.Decoder(dict[str, Any]).decode


class _Said(ValueError):
    """What a client sent cannot be done: a stable code and a sentence."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class _Speaking(AsyncWebsocketConsumer):
    """A connection with a queue of its own, so that a slow client holds up nobody else."""

    channel_layer_alias = None  # type: ignore[assignment]  # the hub listens for all connections of the process

    async def connect(self) -> None:
        self.waiting: deque[str] = deque()
        self.something = asyncio.Event()
        await self.accept()
        self.speaking = asyncio.create_task(self._speak())

    def put(self, text: str) -> None:
        """Send a message when those before it have gone."""
        self.waiting.append(text)
        self.something.set()

    async def _speak(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # the client has gone
            while True:
                await self.something.wait()
                self.something.clear()
                while self.waiting:
                    await self.send(text_data=self.waiting.popleft())

    async def disconnect(self, code: int) -> None:
        if hasattr(self, "speaking"):
            self.speaking.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Do what a client asks; what cannot be done is answered by an error, and the connection stays."""
        asked: dict[str, Any] = {}
        try:
            try:
                asked = decode(text_data or bytes_data or b"")
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise _Said("not-json", 'Send one JSON object a message, such as {"op": "ping"}.') from None
            if asked.get("op") == "ping":
                self.put(encode({"type": "pong", "at": wire.time_text(clock.now())}).decode())
            else:
                await self.do(asked)
        except _Said as said:
            body = {"type": "error", "code": said.code, "detail": str(said)}
            self.put(encode(body | ({"id": asked["id"]} if "id" in asked else {})).decode())

    async def do(self, asked: dict[str, Any]) -> None:
        """
        Do what a message asks.

        :raises _Said: it cannot be done.
        """
        raise _Said("unknown-op", f"There is no op {str(asked.get('op'))[:40]!r}; here is only ping.")


class _Watching:
    """One connection's watch of one market."""

    def __init__(self, consumer: MarketData) -> None:
        self.consumer = consumer
        self.behind = False

    def put(self, text: str) -> None:
        """Pass a message on. To a client that does not keep up nothing more is sent until it can take a snapshot."""
        waiting = self.consumer.waiting
        if len(waiting) >= MOST_WAITING * max(1, len(self.consumer.watched)):
            self.behind = True
            return
        self.consumer.put(text)


class MarketData(_Speaking):
    """Public market data: subscribe to channels of markets, get a snapshot, then what changes."""

    async def connect(self) -> None:
        self.watched: dict[int, tuple[Feed, _Watching]] = {}
        await super().connect()

    async def disconnect(self, code: int) -> None:
        for feed, watching in self.watched.values():
            feed.watchers.pop(watching, None)
        await super().disconnect(code)

    async def do(self, asked: dict[str, Any]) -> None:
        op, market_id = asked.get("op"), asked.get("market")
        if op not in ("subscribe", "unsubscribe"):
            raise _Said("unknown-op", f"There is no op {str(op)[:40]!r}; there are subscribe, unsubscribe and ping.")
        if not isinstance(market_id, int) or isinstance(market_id, bool):
            raise _Said("market-not-found", "market is the number of a market.")
        if op == "unsubscribe":
            if market_id in self.watched:
                feed, watching = self.watched.pop(market_id)
                feed.watchers.pop(watching, None)
            self.put(encode({"type": "unsubscribed", "market": market_id}).decode())
            return
        channels = asked.get("channels", ["book", "trades", "phase", "indicative", "statistics"])
        known = isinstance(channels, list) and channels and all(one in wire.CHANNELS for one in channels)
        if not known:
            raise _Said("unknown-channel", f"channels is a list of some of {', '.join(wire.CHANNELS)}.")
        if market_id not in self.watched and len(self.watched) >= MARKETS_AT_ONCE:
            raise _Said("too-many-markets", f"A connection watches up to {MARKETS_AT_ONCE} markets.")
        market = await Market.objects.filter(pk=market_id).afirst() if 0 < market_id < 2**31 else None
        if market is None:
            raise _Said("market-not-found", f"There is no market {market_id}.")
        feed = await hub().feed(market)
        before, watching = self.watched.get(market_id) or (feed, _Watching(self))
        if before is not feed:
            before.watchers.pop(watching, None)
        self.watched[market_id] = (feed, watching)
        feed.watch(watching, frozenset(channels))


class Private(_Speaking):
    """A member's drop copy, for an API key (Authorization header) or a signed-in session that may read."""

    async def connect(self) -> None:
        actor = await self._actor()
        if actor is None:
            await self.close(NOT_ALLOWED)
            return
        self.actor = actor
        self.nudged = asyncio.Event()
        self.markets: set[int] = set()
        await super().connect()
        await hub().listen(actor.organization_id, self.hear)
        self.telling = asyncio.create_task(self._tell())

    async def disconnect(self, code: int) -> None:
        if hasattr(self, "telling"):
            self.telling.cancel()
            await hub().leave(self.actor.organization_id, self.hear)
        await super().disconnect(code)

    def hear(self, market_id: int) -> None:
        """Take note that something of the member's has changed in a market."""
        self.markets.add(market_id)
        self.nudged.set()

    async def _actor(self) -> Actor | None:
        """Return who is calling, if they may read; asked again at every heartbeat, so that a revoked key is cut off."""
        headers = dict(self.scope["headers"])
        kind, _, secret = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        user = self.scope.get("user")
        session: dict[str, Any] = self.scope.get("session") or {}
        found: Actor | None = None
        if kind.lower() == "bearer":
            found = await database_sync_to_async(authenticate_key)(secret.strip(), now=clock.now())
        elif not kind and isinstance(user, User):
            found = await database_sync_to_async(_of_session)(user.pk, session.get(SESSION_KEY))
        return found if found is not None and "read" in found.scopes else None

    async def _tell(self) -> None:
        """Begin with a snapshot, then tell what the member's frames say, and at least a heartbeat."""
        message, stands = await database_sync_to_async(own_feed.snapshot)(self.actor)
        self.put(encode(message).decode())
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self.nudged.wait()
                await asyncio.sleep(FRAME_SECONDS)
            except TimeoutError:
                if await self._actor() is None:
                    await self.close(NOT_ALLOWED)
                    return
            self.nudged.clear()
            named, self.markets = self.markets, set()
            messages = await database_sync_to_async(_updates)(self.actor, stands, named)
            for message in messages:
                stands[message["market"]] = message["seq"]
                self.put(encode(message).decode())
            if not messages:
                seqs = {str(market): sequence for market, sequence in stands.items()}
                beat = {"type": "heartbeat", "seqs": seqs, "at": wire.time_text(clock.now())}
                self.put(encode(beat).decode())


def _updates(actor: Actor, stands: dict[int, int], named: set[int]) -> list[dict[str, Any]]:
    """Return what has happened in live markets, in those where the member stands, and in those that were named."""
    after = dict.fromkeys({*frame_queries.live_markets(), *named}, 0) | stands
    frames = frame_queries.own_frames(actor.organization_id, after)
    return list(own_feed.updates(actor, frames))


def _of_session(user_id: int, chosen: int | None) -> Actor | None:
    user = User.objects.filter(pk=user_id, is_active=True).first()
    return None if user is None else actor_for_user(user, chosen) or actor_for_user(user, None)
