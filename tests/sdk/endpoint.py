"""
A small HTTP server for the client's own habits: what it sends, how it retries, how long it waits.

It keeps events exactly once by source and id as the real endpoint does, and answers other paths from a script. What the
exchange itself does is tested against the real one.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Endpoint(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.events = {}
        self.order = []
        self.requests = []
        self.script = []  # answers to give before normal service: (status, headers, body) or "drop" or "lose"
        self.refuse = {}  # event id → (code, detail, field)
        self.routes = {}  # (method, path) → (status, body) or a function of the request
        self.largest = 10_000
        self.mutex = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
        self.thread.join()

    def keep(self, events):
        results = []
        for event in events:
            if event["id"] in self.refuse:
                code, detail, field = self.refuse[event["id"]]
                results.append(
                    {"id": event["id"], "status": "rejected", "code": code, "detail": detail, "field": field}
                )
                continue
            key = (event["source"], event["id"])
            known = self.events.get(key)
            if known is None:
                self.events[key] = event
                self.order.append(event["id"])
            status = "accepted" if known is None else ("duplicate" if known == event else "conflict")
            results.append({"id": event["id"], "status": status})
        return {"results": results}

    def handle_error(self, request, client_address):
        """A client that was killed leaves a broken pipe; that is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        server = self.server
        with server.mutex:
            path, _, query = self.path.partition("?")
            server.requests.append((self.command, path, query, dict(self.headers), body))
            scripted = server.script.pop(0) if server.script else None
            if scripted == "drop":
                self.close_connection = True
                self.connection.close()
                return
            if path == "/v1/events" and (scripted is None or scripted == "lose"):
                events = json.loads(body)
                if len(events) > server.largest:
                    scripted = (413, {}, {"code": "body-too-large", "detail": "too many events"})
                else:
                    reply = server.keep(events)
                    if scripted == "lose":  # stored, but the answer never arrives
                        self.close_connection = True
                        self.connection.close()
                        return
                    scripted = (200, {}, reply)
            elif scripted is None:
                route = server.routes.get((self.command, path), (404, {"code": "not-found", "detail": "nothing here"}))
                status, reply = route(self.headers, query, body) if callable(route) else route
                scripted = (status, {}, reply)
        status, headers, reply = scripted
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Request-ID", "req-12345678")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = do_PATCH = answer

    def log_message(self, *_):
        pass
