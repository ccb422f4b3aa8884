"""Builders for webhooks, and an endpoint to send them to."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from django.db import transaction

from identity.actions.webhooks import create_endpoint, send_test
from tests.given import NOW, given_actor


def given_webhook(organization, url="https://hooks.example.com/ciyuan", events=(), **fields):
    with transaction.atomic():
        return create_endpoint(
            organization_id=organization.pk, url=url, events=events, description="", now=NOW,
            actor=given_actor(organization), **fields,
        )  # fmt: skip


def given_webhook_delivery(organization, endpoint=None):
    """A test event on its way."""
    endpoint = endpoint or given_webhook(organization)
    with transaction.atomic():
        return send_test(organization_id=organization.pk, endpoint_id=endpoint.pk, now=NOW)


class Receiver:
    """
    A web server of our own on a loopback port that keeps what it gets.

    `answers` is what it says next: a status, or a function of the handler; the last one goes on for ever.
    """

    def __init__(self, *answers):
        self.answers = list(answers) or [200]
        self.got = []
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with receiver._lock:
                    receiver.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                    answer = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer)
                self.send_header("content-length", "4")
                self.end_headers()
                self.wfile.write(b"done")

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128  # by default the sixth of those that call at once is left waiting for its timeout

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def wait_for(self, count, seconds=10):
        until = time.monotonic() + seconds
        while len(self.got) < count and time.monotonic() < until:
            time.sleep(0.01)
        return self.got
