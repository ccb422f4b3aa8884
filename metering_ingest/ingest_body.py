"""Reading a request's body at the usage door: its size, its compression, its patience."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import zstandard

from core.errors import BadRequest

MAX_BODY_BYTES = 16 * 1024 * 1024
READ_SECONDS = 30.0

Receive = Callable[[], Awaitable[dict[str, Any]]]


class BodyTooLarge(BadRequest):
    """More than a batch may carry, compressed or not."""

    code = "body-too-large"
    status = 413
    title = "Body too large"


class BodyUnreadable(BadRequest):
    """The content encoding is unknown, or the body is not what it says."""

    code = "unreadable-body"


class BodyTooSlow(BadRequest):
    """The body did not arrive in time."""

    code = "body-too-slow"
    status = 408
    title = "Request timeout"


class BodyIncomplete(BadRequest):
    """The client stopped sending before the body was complete; it may still be listening."""

    code = "body-incomplete"


async def read_body(receive: Receive, *, declared: int | None) -> bytes:
    """
    Return the whole body.

    :param declared: the Content-Length, where there is one.
    :raises BodyTooLarge: beyond 16 MiB.
    :raises BodyTooSlow: after 30 seconds.
    :raises BodyIncomplete: when the client hangs up, or stops sending, before the body is whole.
    """
    if declared is not None and declared > MAX_BODY_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await _read(receive)
    except TimeoutError:
        raise BodyTooSlow(f"The body did not arrive within {READ_SECONDS:.0f} seconds; send it again.") from None


async def _read(receive: Receive) -> bytes:
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        return body
    chunks, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise BodyIncomplete("The body ended before it was complete; nothing of it is stored, send it again.")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > MAX_BODY_BYTES:
            raise _too_large()
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


def decompress(body: bytes, encoding: str) -> bytes:
    """
    Return the body without its content encoding: none, gzip or zstd.

    :raises BodyTooLarge: when it unpacks to more than 16 MiB.
    :raises BodyUnreadable: for another encoding or damaged data.
    """
    if encoding in ("", "identity"):
        return body
    try:
        if encoding in ("gzip", "x-gzip"):
            return _gunzip(body)
        if encoding == "zstd":
            with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(body) as reader:
                if len(reader.read(MAX_BODY_BYTES + 1)) > MAX_BODY_BYTES:
                    raise _too_large()
            # The reader does not tell a whole frame from one cut short; now that the size is known, this does.
            whole = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()
            plain: bytes = whole.decompress(body)
            if not whole.eof or whole.unused_data:
                raise EOFError("it is not one whole frame")
            return plain
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise BodyUnreadable(f"The body is not valid {encoding}: {error}.") from None
    raise BodyUnreadable(f"The content encoding “{encoding[:40]}” is not known; send gzip, zstd or plain.")


def _gunzip(body: bytes) -> bytes:
    parts, size = [], 0
    while body:
        stream = zlib.decompressobj(wbits=31)
        parts.append(stream.decompress(body, MAX_BODY_BYTES + 1 - size))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES or stream.unconsumed_tail:
            raise _too_large()
        if not stream.eof:
            raise EOFError("it ends too early")
        body = stream.unused_data
    return b"".join(parts)


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"A batch may have up to {MAX_BODY_BYTES // 2**20} MiB; send it in parts.")
