"""
The live channel of one process: a feed for each market that somebody here watches, which all its watchers share.

A feed follows the market's frames. They come with the messages that drains send on commit; whatever is missing between
two of them is read from its rows, so a lost message costs a read and never a hole. What has come within an eighth of a
second goes out as one frame, encoded once for all who read the same channels. When nothing comes for a while, the feed
looks into the rows all the same and says how far they go: a heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from time import monotonic
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import msgspec
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import DatabaseError
from redis.exceptions import RedisError

from core import clock
from exchange import frame_queries, wire
from exchange.domain.frames import Frame, FrameGap, PublicMarket, unpack
from exchange.models import Market

log = logging.getLogger(__name__)
FRAME_SECONDS = 0.125
HEARTBEAT_SECONDS = 5.0
MERGED_AT_ONCE = 2_000
encode = msgspec.json.Encoder().encode


class Watcher(Protocol):
    """Who gets a feed's messages, as JSON text. `behind` is set when some were dropped: a snapshot is due."""

    behind: bool

    def put(self, text: str) -> None: ...


class Feed:
    """One market as watched by this process."""

    def __init__(self, market: Market) -> None:
        self.market_id = market.pk
        self.units = wire.Units.of(market)
        self.row = market
        self.state = PublicMarket(market.pk)
        self.watchers: dict[Watcher, frozenset[str]] = {}
        self.came: list[bytes | None] = []
        self.nudged = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    @property
    def sealed(self) -> bool:
        """Whether the market's bids are sealed."""
        return wire.is_sealed(self.row, clock.now())

    async def start(self) -> None:
        """Read the market as it is now and follow it from there."""
        self.state = await database_sync_to_async(frame_queries.public_market)(self.market_id)
        self.task = asyncio.create_task(self._run())

    def nudge(self, content: bytes | None) -> None:
        """Take in what a message brought: a frame, or only that there is something to read."""
        self.came.append(content)
        self.nudged.set()

    def watch(self, watcher: Watcher, channels: frozenset[str]) -> None:
        """Send a snapshot of these channels, then what changes in them."""
        self.watchers[watcher] = channels
        watcher.behind = False
        watcher.put(self._snapshot(channels))

    def _snapshot(self, channels: Collection[str]) -> str:
        return encode(wire.snapshot(self.units, self.state, channels, sealed=self.sealed, phase=self._phase())).decode()

    async def _run(self) -> None:
        sent = heard = monotonic()
        while True:
            try:
                async with asyncio.timeout(max(0.0, heard + HEARTBEAT_SECONDS - monotonic())):
                    await self.nudged.wait()
                await asyncio.sleep(max(0.0, sent + FRAME_SECONDS - monotonic()))
            except TimeoutError:
                self.came.append(None)
            looked = monotonic() >= heard + HEARTBEAT_SECONDS
            if looked and not self.watchers and await hub().end(self):
                return
            try:
                said = await self._go_on(looked=looked)
            except Exception:
                log.exception("the feed of market %s begins anew", self.market_id)
                await self._begin_anew()
                continue
            sent = monotonic()
            if said or looked:
                heard = sent

    async def _begin_anew(self) -> None:
        """After an error: read the market again, and give every watcher a snapshot of it."""
        await asyncio.sleep(1)
        for watcher in self.watchers:
            watcher.behind = True
        try:
            self.state = await database_sync_to_async(frame_queries.public_market)(self.market_id)
        except (DatabaseError, OSError) as error:
            log.warning("market %s could not be read: %s", self.market_id, error)

    async def _go_on(self, *, looked: bool) -> bool:
        """Bring the market up to date and tell the watchers; say whether there was anything to tell."""
        came, self.came = self.came, []
        self.nudged.clear()
        update = wire.Update(self.state.sequence)
        frames: list[Frame] = [unpack(content) for content in came if content is not None]
        read = any(content is None for content in came) or looked
        for frame in frames:
            if frame.sequence <= self.state.sequence:
                continue
            try:
                update.add(self.state, frame)
            except FrameGap:
                read = True
                break
        if read:
            phase = self.row.phase
            missed = await database_sync_to_async(self._read)()
            for frame in missed:
                update.add(self.state, frame)
            update.phase = update.phase or phase != self.row.phase
        changed = self.state.sequence != update.prev_sequence or update.phase
        if changed:
            self._tell(lambda channels: update.shown(self.units, self.state, channels, phase=self._phase()))
        elif looked:
            beat = {
                "type": "heartbeat",
                "market": self.market_id,
                "seq": self.state.sequence,
                "at": wire.time_text(clock.now()),
            }
            self._tell(lambda _: beat)
        return changed

    def _read(self) -> list[Frame]:
        """Read the market's row and the frames that this feed has not got."""
        self.row = Market.objects.get(pk=self.market_id)
        return list(frame_queries.frames_after(self.market_id, self.state.sequence, most=MERGED_AT_ONCE))

    def _phase(self) -> str | None:
        """Return the phase where only the row knows it: delivery and settlement are no part of the journal."""
        return self.row.phase if self.row.phase in (Market.Phase.DELIVERING, Market.Phase.SETTLED) else None

    def _tell(self, message_for: Callable[[Collection[str]], dict[str, Any]]) -> None:
        texts: dict[frozenset[str], str] = {}
        hidden = {"quote", "book", "orders"} if self.sealed else set()
        for watcher, channels in list(self.watchers.items()):
            if watcher.behind:
                watcher.behind = False
                watcher.put(self._snapshot(channels))
                continue
            text = texts.get(channels)
            if text is None:
                text = texts[channels] = encode(message_for(channels - hidden)).decode()
            watcher.put(text)


class Hub:
    """The feeds of this process, and the one channel by which messages reach it."""

    def __init__(self) -> None:
        self.feeds: dict[int, Feed] = {}
        self.members: dict[int, set[Callable[[int], None]]] = {}
        self._starting: dict[int, asyncio.Lock] = {}
        self._channel: str | None = None
        self._receiving: asyncio.Task[None] | None = None

    async def feed(self, market: Market) -> Feed:
        """Return the feed of a market, started if need be."""
        async with self._starting.setdefault(market.pk, asyncio.Lock()):
            feed = self.feeds.get(market.pk)
            if feed is None or feed.task is None or feed.task.done():
                feed = self.feeds[market.pk] = Feed(market)
                await self._join(f"market.{market.pk}")
                await feed.start()
            return feed

    async def end(self, feed: Feed) -> bool:
        """Let go of a feed that nobody watches; say whether it is to end."""
        async with self._starting.setdefault(feed.market_id, asyncio.Lock()):
            if feed.watchers:
                return False
            if self.feeds.get(feed.market_id) is feed:
                del self.feeds[feed.market_id]
                await self._part(f"market.{feed.market_id}")
            return True

    async def listen(self, member: int, heard: Callable[[int], None]) -> None:
        """Call `heard` with the market whenever something of a member's has changed there."""
        self.members.setdefault(member, set()).add(heard)
        await self._join(f"member.{member}")

    async def leave(self, member: int, heard: Callable[[int], None]) -> None:
        """Call it no more."""
        callers = self.members.get(member, set())
        callers.discard(heard)
        if not callers:
            self.members.pop(member, None)
            await self._part(f"member.{member}")

    async def _join(self, group: str) -> None:
        """Subscribe to a group. Without Valkey nothing is heard, and feeds live on what they read at heartbeats."""
        layer: Any = get_channel_layer()
        try:
            if self._channel is None:
                self._channel = await layer.new_channel()
            await layer.group_add(group, self._channel)
        except (RedisError, OSError) as error:
            log.warning("group %s not joined: %s", group, error)
            return
        if self._receiving is None or self._receiving.done():
            self._receiving = asyncio.create_task(self._receive(layer, self._channel))

    async def _part(self, group: str) -> None:
        layer: Any = get_channel_layer()
        try:
            await layer.group_discard(group, self._channel)
        except (RedisError, OSError) as error:
            log.warning("group %s not left: %s", group, error)

    async def _receive(self, layer: Any, channel: str) -> None:
        while True:
            message = (await layer.receive(channel)).get("message", {})
            market, member = message.get("market"), message.get("member")
            if member is not None:
                for heard in list(self.members.get(member, ())):
                    heard(market)
            elif (feed := self.feeds.get(market)) is not None:
                feed.nudge(message.get("frame"))


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """Return this event loop's hub."""
    loop = asyncio.get_running_loop()
    found = _hubs.get(loop)
    if found is None:
        found = _hubs[loop] = Hub()
    return found
