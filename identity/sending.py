"""
Sends webhooks over HTTP: many at once, each within ten seconds in all, to addresses that are public.

The host's name is looked up here and the connection goes to the address that was checked, so that a name cannot
answer with a public address first and a private one afterwards. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from identity.actions.deliveries import Message, Outcome
from identity.domain.addresses import AddressRefused, Network, check_url, is_reachable
from identity.domain.webhooks import headers

SECONDS_IN_ALL = 10.0
ANSWER_BYTES = 1_000
AT_ONCE = 20


def send_all(messages: Sequence[Message], *, allowed: Sequence[Network], timestamp: int) -> list[Outcome]:
    """Send messages and return their outcomes in order. `timestamp`: real Unix seconds, part of the signature."""
    return asyncio.run(_send_all(messages, tuple(allowed), timestamp))


async def _send_all(messages: Sequence[Message], allowed: tuple[Network, ...], timestamp: int) -> list[Outcome]:
    gate = asyncio.Semaphore(AT_ONCE)
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(
        follow_redirects=False, trust_env=False, timeout=SECONDS_IN_ALL, limits=limits
    ) as client:

        async def one(message: Message) -> Outcome:
            async with gate:
                return await _send(client, message, allowed, timestamp)

        return list(await asyncio.gather(*map(one, messages)))


async def _send(client: httpx.AsyncClient, message: Message, allowed: tuple[Network, ...], timestamp: int) -> Outcome:
    started = time.monotonic()
    status, error, answer = None, "", b""
    try:
        async with asyncio.timeout(SECONDS_IN_ALL):
            url, host, address = await _resolve(message.url, allowed)
            request = client.build_request(
                "POST",
                url.copy_with(host=address),
                content=message.body,
                headers={
                    **headers(message.secrets, message.message_id, timestamp, message.body),
                    "host": url.netloc.decode(),
                    "accept-encoding": "identity",
                },
                extensions={"sni_hostname": host},
            )
            response = await client.send(request, stream=True)
            try:
                status = response.status_code
                async for chunk in response.aiter_raw():
                    answer += chunk
                    if len(answer) >= ANSWER_BYTES:
                        break
            finally:
                await response.aclose()
    except TimeoutError:
        error = f"no complete answer within {SECONDS_IN_ALL:.0f} seconds"
    except AddressRefused as refused:
        error = str(refused)
    except httpx.HTTPError as failed:
        error = f"{type(failed).__name__}: {failed}"
    except OSError as failed:
        error = f"{type(failed).__name__}: {failed.strerror or failed}"
    if error and status is not None and not answer:
        status = None
    milliseconds = int((time.monotonic() - started) * 1000)
    return Outcome(message, status, milliseconds, error[:200], answer[:ANSWER_BYTES].decode("utf-8", "replace"))


async def _resolve(text: str, allowed: tuple[Network, ...]) -> tuple[httpx.URL, str, str]:
    """
    Return the URL, the host's name and the one address to connect to.

    :raises AddressRefused: any of the host's addresses is not reachable for webhooks.
    """
    host, port = check_url(text, allowed)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not is_reachable(address, allowed):
            raise AddressRefused(f"{urlsplit(text).hostname} has the address {address}, which is not public.")
    return httpx.URL(text), host, addresses[0]
