"""
The usage door: a raw ASGI application beside Django, because most of the traffic comes through here.

It shares keys, problem documents and request ids with the API. A 2xx is sent only after the commit, with a result for
every event. Other clients' protocols come in by the same door through `dialects`.
"""

import asyncio
import logging
from typing import Any

import msgspec
import psycopg
from django.db import Error as DatabaseError

from core import clock, request_id
from core.errors import Problem, Unauthenticated
from core.rate_limit import limiter
from identity.access import Actor
from identity.auth import authenticate_key, cached_actor
from metering_ingest import dialects
from metering_ingest.actions.attribution import MeterAccess, MeterClosed, cached_access, meter_access
from metering_ingest.dialects.base import Reply
from metering_ingest.domain.events import Decoded, MalformedBody
from metering_ingest.ingest_body import BodyUnreadable, decompress, read_body
from metering_ingest.ingest_workers import Workers, release, threads_wanted
from metering_ingest.signatures import check_signature

log = logging.getLogger(__name__)

PATHS = dialects.PATHS
UNPACK_HERE_BYTES = 32_768  # smaller bodies are not worth the way to a thread

_encode = msgspec.json.Encoder().encode
_workers: dict[int, Workers] = {}


class MediaTypeUnknown(BodyUnreadable):
    """A content type that the address does not take."""

    code = "unsupported-media-type"
    status = 415
    title = "Unsupported media type"


class BodyMalformed(BodyUnreadable):
    """The body as a whole cannot be read."""

    code = "malformed-json"


class TemporarilyUnavailable(Problem):
    """The database is away: nothing was acknowledged, and sending the same again is safe."""

    code = "temporarily-unavailable"
    status = 503
    title = "Temporarily unavailable"


class StorageFull(Problem):
    """The database's disk is full: nothing was acknowledged, and the same can be sent again once there is room."""

    code = "storage-full"
    status = 503
    title = "Storage full"


class KeyInvalid(Unauthenticated):
    """The key is unknown, revoked, expired, or not a meter's."""

    code = "key-invalid"


class NotAMeterKey(Problem):
    """A key of another kind: usage comes in by keys that belong to one meter."""

    code = "scope-missing"
    status = 403
    title = "Not allowed"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reply one POST to one of `PATHS`."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    identifier = request_id.accept(headers.get(b"x-request-id"))
    token = request_id.current.set(identifier)
    told: list[tuple[bytes, bytes]] = []
    try:
        answer = await _answer(scope["path"], headers, receive, told)
    except Problem as problem:
        answer = _problem(problem, identifier)
    except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError, DatabaseError) as error:
        log.warning("usage not stored: %s", error)
        answer = _unavailable(error, identifier)
    except Exception:
        log.exception("usage door failed")
        failed = Problem("Something went wrong on our side; nothing was acknowledged, and sending it again is safe.")
        answer = _problem(failed, identifier, status=500)
    finally:
        request_id.current.reset(token)
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [
                (b"content-type", answer.content_type.encode()),
                (b"content-length", str(len(answer.body)).encode()),
                (b"x-request-id", identifier.encode()),
                *told,
                *answer.headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": answer.body})


async def _answer(path: str, headers: dict[bytes, str], receive: Any, told: list[tuple[bytes, bytes]]) -> Reply:
    """Answer a request; `told` gets the headers that any answer to its sender has, be it a problem."""
    workers = _pool()
    access = await _meter(workers, headers)
    try:
        if not limiter().take_held(access.organization_id):
            await workers.run(limiter().take, access.organization_id)
    finally:
        limits = limiter().headers(access.organization_id)
        told += [(name.lower().encode(), value.encode()) for name, value in limits.items()]
    length = headers.get(b"content-length", "")
    body = await read_body(receive, declared=int(length) if length.isdigit() else None)
    dialect = dialects.of(path, headers.get(b"content-type", "").partition(";")[0].strip().lower())
    if dialect is None:
        raise MediaTypeUnknown(dialects.what_is_taken(path), field="Content-Type")
    encoding = headers.get(b"content-encoding", "").strip().lower()
    signature = headers.get(b"ciyuan-signature", "")
    if len(body) <= UNPACK_HERE_BYTES and not encoding:
        check_signature(access, signature, body)
        decoded = _decode(dialect, body, encoding)
    else:
        if signature or access.must_sign:
            await workers.run(check_signature, access, signature, body)
        decoded = await workers.run(_decode, dialect, body, encoding)
    results = await workers.store(access, decoded) if decoded.events else []
    return dialect.answer(decoded, results)


def _pool() -> Workers:
    """The pool of the running event loop: one in a server process."""
    loop = id(asyncio.get_running_loop())
    if loop not in _workers:
        _workers.clear()
        _workers[loop] = Workers(threads_wanted())
    return _workers[loop]


def _decode(dialect: dialects.Dialect, body: bytes, encoding: str) -> Decoded:
    try:
        return dialect.decode(decompress(body, encoding))
    except MalformedBody as error:
        malformed = BodyMalformed(error.detail)
        malformed.code = error.code  # type: ignore[misc]
        raise malformed from None


async def _meter(workers: Workers, headers: dict[bytes, str]) -> MeterAccess:
    scheme, _, secret = headers.get(b"authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise KeyInvalid("This address needs a meter's key: “Authorization: Bearer ck_…”.")
    secret = secret.strip()
    actor = cached_actor(secret, now=clock.now())
    if actor is not None and actor.meter_id is not None:
        access = cached_access(actor.meter_id)
        if access is not None and access.organization_id == actor.organization_id:
            return access
    return await workers.run(_authenticate, secret)


def _authenticate(secret: str) -> MeterAccess:
    try:
        actor: Actor | None = authenticate_key(secret, now=clock.now())
        if actor is None:
            raise KeyInvalid("This API key is unknown, revoked or expired.")
        if "meter" not in actor.scopes or actor.meter_id is None:
            raise NotAMeterKey("Usage is sent with a key that belongs to one meter (scope “meter”); this one does not.")
        access = meter_access(actor.meter_id)
        if access.organization_id != actor.organization_id:
            raise MeterClosed("This key's meter belongs to another organization.")
        return access
    finally:
        release()


def _unavailable(error: Exception, identifier: str) -> Reply:
    """Say that nothing was stored, and when to come again: a full disk is not mended in a moment."""
    if isinstance(error, psycopg.errors.DiskFull) or isinstance(error.__cause__, psycopg.errors.DiskFull):
        full = StorageFull("The exchange's disk is full: nothing of this is stored; keep it and send it again later.")
        return _problem(full, identifier, ((b"retry-after", b"5"),))
    away = TemporarilyUnavailable("The exchange cannot store usage now; send the same again in a moment.")
    return _problem(away, identifier, ((b"retry-after", b"1"),))


def _problem(
    problem: Problem, identifier: str, headers: tuple[tuple[bytes, bytes], ...] = (), status: int | None = None
) -> Reply:
    body = problem.as_dict() | {"request_id": identifier}
    if status is not None:
        body |= {"status": status, "code": "internal-error", "type": "urn:ciyuan:problem:internal-error",
                 "title": "Internal error"}  # fmt: skip
    if "retry_after" in body:
        headers = (*headers, (b"retry-after", str(body["retry_after"]).encode()))
    if body["status"] == 401:
        headers = (*headers, (b"www-authenticate", b"Bearer"))
    return Reply(body["status"], _encode(body), "application/problem+json", headers)
