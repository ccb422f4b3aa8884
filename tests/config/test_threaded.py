"""Django behind ASGI: one thread a request, content made in one thread, and closed whatever happens."""

import asyncio
import threading

import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from django.utils import translation

from config.threaded import ThreadedHandler


def names(request):
    request_thread = getattr(request, "thread", None)
    return HttpResponse(f"{request_thread} {threading.current_thread().name} {translation.get_language()}")


def stream(request):
    def rows():
        try:
            for number in range(3):
                yield f"{number} {threading.current_thread().name}\n"
        finally:
            closed.append(threading.current_thread().name)

    return StreamingHttpResponse(rows())


def body(request):
    return HttpResponse(request.body[::-1])


closed: list[str] = []
urlpatterns = [path("names", names), path("stream", stream), path("body", body)]


def noting_middleware(get_response):
    """Synchronous: of those that Django's own handler gives a thread of their own."""

    def middleware(request):
        request.thread = threading.current_thread().name
        return get_response(request)

    return middleware


@pytest.fixture(scope="module")
def handler():
    stack = [
        "tests.config.test_threaded.noting_middleware", "django.middleware.locale.LocaleMiddleware",
        "django.middleware.common.CommonMiddleware",
    ]
    with override_settings(MIDDLEWARE=stack, ROOT_URLCONF="tests.config.test_threaded"):
        yield ThreadedHandler(2)


def call(handler, where, *, sent=b"", language=b"en", breaks_after=None):
    """Return status and body of one request, or what was answered before the client went away."""
    messages = [{"type": "http.request", "body": sent[:2], "more_body": True}]
    messages.append({"type": "http.request", "body": sent[2:]})
    answered = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        if breaks_after is not None and len(answered) > breaks_after:
            raise OSError("the client has gone")
        answered.append(message)

    scope = {"type": "http", "method": "POST", "path": where, "query_string": b"", "root_path": "",
             "headers": [(b"host", b"testserver"), (b"accept-language", language)]}
    asyncio.run(handler(scope, receive, send))
    return answered[0]["status"], b"".join(message.get("body", b"") for message in answered[1:]).decode()


def test_middleware_and_view_run_in_one_thread_and_languages_do_not_stay(handler):
    for language in (b"zh-hans", b"en", b"zh-hans"):
        status, text = call(handler, "/names", language=language)
        middleware, view, spoken = text.split()
        assert status == 200 and middleware == view and view.startswith("django")
        assert spoken == language.decode()


def test_a_body_in_parts_arrives_whole(handler):
    assert call(handler, "/body", sent=b"abcdef") == (200, "fedcba")


def test_a_stream_is_made_in_one_thread_and_closed_also_when_the_client_goes(handler):
    closed.clear()
    status, text = call(handler, "/stream")
    numbers, threads = zip(*(line.split() for line in text.splitlines()), strict=True)
    assert status == 200 and numbers == ("0", "1", "2") and len({*threads, *closed}) == 1
    closed.clear()
    with pytest.raises(OSError, match="gone"):
        call(handler, "/stream", breaks_after=1)
    assert len(closed) == 1
