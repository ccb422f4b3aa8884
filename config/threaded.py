"""
Django behind ASGI, each request in one thread from its first middleware to its last query.

Django's own handler carries a request from thread to event loop and back at every middleware that is not asynchronous,
and starts a thread for each request: that took more of the processor than the requests themselves. The views here are
synchronous, so one change of thread is enough; the threads stay, and a request waits for a free one.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.db import close_old_connections
from django.http import FileResponse
from django.urls import set_script_prefix

_END = object()


class ThreadedHandler(ASGIHandler):
    """
    An ASGI application.

    :param threads: how many requests are served at once.
    """

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="django")

    def load_middleware(self, is_async: bool = False) -> None:
        """Load the stack as synchronous, whatever is asked for."""
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request. It is finished even if its client has gone, as a write must be."""
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        loop = asyncio.get_running_loop()
        try:
            context = contextvars.copy_context()
            response = await loop.run_in_executor(self._threads, context.run, self._respond, scope, body)
            if not response.streaming:
                await self.send_response(response, send)
                return
            with ThreadPoolExecutor(1, thread_name_prefix="stream") as thread:
                try:
                    response.streaming_content = _chunks(iter(response.streaming_content), thread)
                    await self.send_response(response, send)
                finally:
                    await loop.run_in_executor(thread, response.close)
        finally:
            body.close()

    def _respond(self, scope: Any, body: Any) -> Any:
        """Return the response, closed unless its content is still to be made."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, refused = self.create_request(scope, body)
        response: Any = refused if request is None else self.get_response(request)
        response._handler_class = self.__class__
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        if not response.streaming:
            response.close()
        else:
            close_old_connections()  # this thread's: what comes of the content is read in another
        return response


async def _chunks(content: Iterator[bytes], thread: ThreadPoolExecutor) -> AsyncIterator[bytes]:
    """Yield what an iterator yields, made in one thread: it may read from that thread's connection."""
    loop = asyncio.get_running_loop()
    while (chunk := await loop.run_in_executor(thread, next, content, _END)) is not _END:
        yield chunk  # type: ignore[misc]
