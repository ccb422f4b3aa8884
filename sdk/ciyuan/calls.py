"""
One definition of each API method for both clients.

A resource's method builds a `Call` and sends nothing. The descriptors `endpoint` and `paged` turn it into a method
that, on a client, sends the call and returns its result, and on an async client returns an awaitable of it:

    class Markets(Resource[Mode]):
        @endpoint
        def get(self, market: int) -> Call[Market]:
            return Call("GET", f"/v1/markets/{market}", parse=Market)

    Client().markets.get(7)                # Market
    await AsyncClient().markets.get(7)     # Market
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload
from uuid import uuid4

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound="Resource[Any]")


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request and how its answer is read."""

    method: str
    path: str
    parse: Callable[[Any], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    #: Writes carry a key that makes them safe to send again.
    idempotency_key: str | None = None
    #: Sending it twice does no harm, even without a key.
    repeatable: bool = False
    #: The answer is a file: `parse` gets its bytes.
    binary: bool = False
    #: A body as it is, instead of `json`: what is signed must be sent byte for byte.
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def write(
    method: str, path: str, parse: Callable[[Any], T], json: Any = None, *, idempotency_key: str | None = None
) -> Call[T]:
    """A call that changes something. The same key twice does it once; without one, a new key is made."""
    return Call(method, path, parse, json=json, idempotency_key=idempotency_key or str(uuid4()))


def read(path: str, parse: Callable[[Any], T], **params: Any) -> Call[T]:
    return Call("GET", path, parse, params={name: value for name, value in params.items() if value is not None})


class Blocking(Protocol):
    """What a `Client` offers its resources."""

    is_async: ClassVar[bool]

    def send(self, call: Call[T], /) -> T: ...


class NonBlocking(Protocol):
    """What an `AsyncClient` offers its resources."""

    is_async: ClassVar[bool]

    async def send(self, call: Call[T], /) -> T: ...


Mode = TypeVar("Mode", Blocking, NonBlocking)


class Resource(Generic[Mode]):
    def __init__(self, client: Mode) -> None:
        self._client: Mode = client


class endpoint(Generic[P, T]):
    def __init__(self, build: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self._build = build
        functools.update_wrapper(self, build)  # type: ignore[arg-type]

    @overload
    def __get__(self, resource: Resource[Blocking], owner: Any) -> Callable[P, T]: ...
    @overload
    def __get__(self, resource: Resource[NonBlocking], owner: Any) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, resource: None, owner: Any) -> endpoint[P, T]: ...
    def __get__(self, resource: Any, owner: Any) -> Any:
        if resource is None:
            return self

        @functools.wraps(self._build)
        def send(*args: P.args, **kwargs: P.kwargs) -> Any:
            return resource._client.send(self._build(resource, *args, **kwargs))

        return send


@dataclass(frozen=True)
class Page(Generic[T]):
    items: list[T]
    next_cursor: str | None


def page_of(parse: Callable[[Any], T]) -> Callable[[Any], Page[T]]:
    def parse_page(body: Any) -> Page[T]:
        return Page([parse(item) for item in body["items"]], body.get("next_cursor"))

    return parse_page


class paged(Generic[P, T]):
    """A list: iterating it asks for page after page, as far as the caller goes."""

    def __init__(self, build: Callable[Concatenate[Any, P], Call[Page[T]]]) -> None:
        self._build = build
        functools.update_wrapper(self, build)  # type: ignore[arg-type]

    @overload
    def __get__(self, resource: Resource[Blocking], owner: Any) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, resource: Resource[NonBlocking], owner: Any) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, resource: None, owner: Any) -> paged[P, T]: ...
    def __get__(self, resource: Any, owner: Any) -> Any:
        if resource is None:
            return self
        walk = _walk_async if resource._client.is_async else _walk

        @functools.wraps(self._build)
        def iterate(*args: P.args, **kwargs: P.kwargs) -> Any:
            return walk(resource._client, self._build(resource, *args, **kwargs))

        return iterate


def _walk(client: Blocking, call: Call[Page[T]]) -> Iterator[T]:
    while True:
        page = client.send(call)
        yield from page.items
        if page.next_cursor is None:
            return
        call = replace(call, params={**call.params, "cursor": page.next_cursor})


async def _walk_async(client: NonBlocking, call: Call[Page[T]]) -> AsyncIterator[T]:
    while True:
        page = await client.send(call)
        for item in page.items:
            yield item
        if page.next_cursor is None:
            return
        call = replace(call, params={**call.params, "cursor": page.next_cursor})
