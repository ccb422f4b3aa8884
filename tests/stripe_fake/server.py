"""
A Stripe of our own, for tests: `python -m tests.stripe_fake.server` prints its port and serves until it is killed.

It keeps idempotency keys, refuses unknown parameters and wrong amounts, settles Alipay and WeChat Pay later, and fails
on demand. `/control/…` is what a test does in place of people, banks and bad luck.
"""

import itertools
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from tests.stripe_fake.shapes import CALLS, Unknown, check_answer, check_params, required

numbers = itertools.count(1)
things: dict[str, dict] = {}
events: list[dict] = []
ledger: list[dict] = []
keys: dict[str, tuple] = {}
busy: set[str] = set()
trouble: list[str] = []
calls: list[dict] = []
lock = threading.RLock()


class Refusal(Exception):
    def __init__(self, status, type, message, **fields):
        self.status = status
        self.body = {"error": {"type": type, "message": message, **fields}}


def invalid(message, **fields):
    return Refusal(400, "invalid_request_error", message, **fields)


def new(prefix, kind, **fields):
    thing = {"id": f"{prefix}_{next(numbers):06d}", "object": kind, **fields}
    things[thing["id"]] = thing
    return thing


def announce(type, thing):
    events.append({
        "id": f"evt_{next(numbers):06d}", "object": "event", "type": type, "created": int(time.time()),
        "api_version": "2026-10-28.endive", "livemode": False, "pending_webhooks": 1, "request": None,
        "data": {"object": json.loads(json.dumps(thing))},
    })  # fmt: skip


def amount_of(text, least=400):
    if not re.fullmatch(r"\d{1,18}", text or ""):
        raise invalid("Invalid integer: amount", param="amount")
    amount = int(text)
    if amount < least:
        raise invalid("Amount must convert to at least 4.00 cny.", code="amount_too_small", param="amount")
    if amount > 99_999_999_99:
        raise invalid("Amount must be no more than ¥99,999,999.99", code="amount_too_large", param="amount")
    return amount


def customers(given):
    return new("cus", "customer", name=given.get("name"), metadata=given.get("metadata", {}), created=int(time.time()),
               livemode=False)  # fmt: skip


def need(id_, kind):
    thing = things.get(id_ or "")
    if thing is None or thing["object"] != kind:
        raise Refusal(404, "invalid_request_error", f"No such {kind}: '{id_}'", code="resource_missing")
    return thing


def intent(amount, customer, metadata, **fields):
    return new("pi", "payment_intent", amount=amount, amount_received=0, currency="cny", customer=customer,
               metadata=metadata, status="requires_payment_method", last_payment_error=None, payment_method=None,
               created=int(time.time()), livemode=False, latest_charge=None, **fields)  # fmt: skip


def sessions(given):
    need(given["customer"], "customer")
    [item] = given["line_items"]
    price = item["price_data"]
    if price["currency"] != "cny":
        raise invalid("Only cny here", param="currency")
    if "wechat_pay" in given["allowed_payment_method_types"] and not (
        given.get("payment_method_options", {}).get("wechat_pay", {}).get("client") == "web"
    ):
        raise invalid("You must specify payment_method_options[wechat_pay][client].")
    amount = amount_of(price["unit_amount"]) * int(item["quantity"])
    metadata = given.get("payment_intent_data", {}).get("metadata", {})
    made = new("cs_test", "checkout.session", amount_total=amount, currency="cny", customer=given["customer"],
               client_reference_id=given.get("client_reference_id"), status="open", payment_status="unpaid",
               mode=given["mode"], payment_intent=None, metadata=given.get("metadata", {}), livemode=False,
               url=None, created=int(time.time()))  # fmt: skip
    made["url"] = f"https://checkout.stripe.example/{made['id']}"
    hidden[made["id"]] = metadata
    return made


hidden: dict[str, dict] = {}
cards: dict[str, list] = {}


def succeed(thing, method):
    thing.update(status="succeeded", amount_received=thing["amount"], last_payment_error=None, payment_method=method)
    charge = new("ch", "charge", amount=thing["amount"], currency="cny", payment_intent=thing["id"], paid=True,
                 amount_refunded=0)  # fmt: skip
    thing["latest_charge"] = charge["id"]
    book("charge", thing["amount"], charge)
    announce("payment_intent.succeeded", thing)


def book(category, amount, source):
    ledger.append({
        "id": f"txn_{next(numbers):06d}", "object": "balance_transaction", "amount": amount, "currency": "cny",
        "created": int(time.time()), "fee": 0, "net": amount, "reporting_category": category, "type": category,
        "status": "available", "source": source["id"],
    })  # fmt: skip


def payment_intents(given):
    amount = amount_of(given["amount"])
    customer = need(given.get("customer"), "customer")["id"]
    made = intent(amount, customer, given.get("metadata", {}))
    if given.get("confirm") == "true":
        if given["payment_method"] not in [card["id"] for card in cards.get(customer, [])]:
            raise invalid(f"No such PaymentMethod: '{given['payment_method']}'", code="resource_missing")
        if given["payment_method"].endswith("declined"):
            made["last_payment_error"] = {"message": "Your card was declined.", "type": "card_error"}
            announce("payment_intent.payment_failed", made)
            raise Refusal(402, "card_error", "Your card was declined.", code="card_declined",
                          decline_code="insufficient_funds", payment_intent=made)  # fmt: skip
        succeed(made, given["payment_method"])
    return made


def refunds(given):
    paid = need(given["payment_intent"], "payment_intent")
    charge = things.get(paid["latest_charge"] or "")
    if charge is None:
        raise invalid("This PaymentIntent does not have a successful charge to refund.")
    amount = amount_of(given["amount"], least=1)
    left = charge["amount"] - charge["amount_refunded"]
    if amount > left:
        raise invalid(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount")
    charge["amount_refunded"] += amount
    slow = paid["payment_method"] == "pm_alipay"
    made = new("re", "refund", amount=amount, currency="cny", payment_intent=paid["id"], charge=charge["id"],
               status="pending" if slow else "succeeded", failure_reason=None, created=int(time.time()),
               metadata=given.get("metadata", {}))  # fmt: skip
    book("refund", -amount, made)
    announce("refund.created", made)
    return made


def transfers(given):
    if given["destination"].endswith("closed"):
        raise invalid("The destination account is closed.", code="account_closed", param="destination")
    made = new("tr", "transfer", amount=amount_of(given["amount"], least=1), currency=given["currency"],
               destination=given["destination"], metadata=given.get("metadata", {}), created=int(time.time()),
               livemode=False, reversed=False, amount_reversed=0)  # fmt: skip
    announce("transfer.created", made)
    return made


MAKE = {"customers": customers, "checkout/sessions": sessions, "payment_intents": payment_intents, "refunds": refunds,
        "transfers": transfers}  # fmt: skip


def listed(path, given):
    if path == "payment_methods":
        return cards.get(given.get("customer", ""), [])
    rows = list(reversed(events if path == "events" else ledger))
    since = int(given.get("created", {}).get("gte", 0)) if isinstance(given.get("created"), dict) else 0
    rows = [row for row in rows if row["created"] >= since]
    if "starting_after" in given:
        ids = [row["id"] for row in rows]
        rows = rows[ids.index(given["starting_after"]) + 1 :]
    if "data.source" in given.get("expand", []):
        rows = [row | {"source": things[row["source"]]} for row in rows]
    return rows


def parsed(text):
    """Form fields with brackets as nested objects and lists."""
    root: dict = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        parts = re.findall(r"[^\[\]]+", name)
        here = root
        for part in parts[:-1]:
            here = here.setdefault(part, {})
        here[parts[-1]] = value

    def lists(value):
        if isinstance(value, dict):
            value = {key: lists(inner) for key, inner in value.items()}
            if value and all(key.isdigit() for key in value):
                return [value[key] for key in sorted(value, key=int)]
        return value

    return lists(root)


class Stripe(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.serve("GET")

    def do_POST(self):
        self.serve("POST")

    def serve(self, method):
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        if parts.path.startswith("/control/"):
            with lock:
                return self.answer(200, control(parts.path.removeprefix("/control/"), json.loads(body or "{}")))
        text = parts.query if method == "GET" else body
        calls.append({"method": method, "path": parts.path, "key": self.headers.get("Idempotency-Key"),
                      "version": self.headers.get("Stripe-Version")})  # fmt: skip
        what = trouble.pop(0) if trouble else ""
        if what == "429":
            return self.answer(429, {"error": {"type": "rate_limit_error", "message": "Too many"}})
        if what == "500":
            return self.answer(500, {"error": {"type": "api_error", "message": "Stripe is down"}})
        if what == "hang":
            time.sleep(3)
            self.close_connection = True
            return None
        status, answer = self.idempotent(method, parts.path, text)
        if what == "lost":  # it happened, and nobody hears of it
            self.close_connection = True
            return None
        return self.answer(status, answer)

    def idempotent(self, method, path, text):
        key = self.headers.get("Idempotency-Key")
        with lock:
            if method == "POST" and key in keys:
                before, *answer = keys[key]
                if before != (path, text):
                    return 400, {"error": {"type": "idempotency_error", "message":
                        f"Keys can only be used with the same parameters: '{key}'"}}  # fmt: skip
                return answer
            try:
                status, answer = 200, self.perform(method, path.removeprefix("/v1/"), parsed(text))
            except Unknown as error:
                status, answer = 400, {"error": {"type": "invalid_request_error", "message": str(error),
                                                 "param": error.path, "code": "parameter_unknown"}}  # fmt: skip
            except Refusal as error:
                status, answer = error.status, error.body
            if method == "POST" and key:
                keys[key] = ((path, text), status, answer)
            return status, json.loads(json.dumps(answer))

    def perform(self, method, path, given):
        head, _, last = path.rpartition("/")
        name = path if (method, path) in CALLS else f"{head}/*"
        if (method, name) not in CALLS:
            raise Refusal(404, "invalid_request_error", f"Unrecognized request URL ({method}: /v1/{path})")
        if not self.headers.get("Authorization", "").startswith(("Bearer sk_test_", "Basic ")):
            raise Refusal(401, "invalid_request_error", "Invalid API Key provided")
        typed, resource = CALLS[method, name]
        check_params(typed, given)
        if missing := [field for field in required(typed) if field not in given]:
            raise invalid(f"Missing required param: {missing[0]}.", param=missing[0], code="parameter_missing")
        if name.endswith("*"):
            return check_answer(resource, need(last, kind_of(resource)))
        if method == "GET":
            rows = [check_answer(resource, row) for row in listed(path, given)]
            limit = int(given.get("limit", 10))
            return {"object": "list", "url": f"/v1/{path}", "data": rows[:limit], "has_more": len(rows) > limit}
        return check_answer(resource, MAKE[path](given))

    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Request-Id", f"req_{next(numbers)}")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def kind_of(resource):
    return resource.OBJECT_NAME


def control(what, given):
    """What people, banks and bad luck do."""
    if what == "pay":  # the payer on Stripe's page
        session = things[given["session"]]
        made = intent(given.get("amount") or session["amount_total"], session["customer"], hidden[session["id"]])
        made["currency"] = given.get("currency", "cny")
        session.update(status="complete", payment_intent=made["id"])
        if given["method"] == "card":
            cards.setdefault(session["customer"], []).append(
                {"id": f"pm_{next(numbers)}{given.get('suffix', '')}", "object": "payment_method", "type": "card",
                 "card": {"brand": "visa", "last4": "4242"}, "customer": session["customer"]})  # fmt: skip
            session["payment_status"] = "paid"
            succeed(made, cards[session["customer"]][-1]["id"])
        else:
            made.update(status="processing", payment_method=f"pm_{given['method']}")
        announce("checkout.session.completed", session)
        return session
    if what == "settle":  # what a wallet says later
        session = things[given["session"]]
        made = things[session["payment_intent"]]
        if given["ok"]:
            session["payment_status"] = "paid"
            succeed(made, made["payment_method"])
            announce("checkout.session.async_payment_succeeded", session)
        else:
            made.update(status="requires_payment_method", last_payment_error={"message": "The payer gave up."})
            announce("payment_intent.payment_failed", made)
            announce("checkout.session.async_payment_failed", session)
        return session
    if what == "expire":
        session = things[given["session"]]
        session.update(status="expired", url=None)
        announce("checkout.session.expired", session)
        return session
    if what == "refund":
        made = things[given["refund"]]
        made.update(status=given["status"], failure_reason=given.get("reason"))
        announce("refund.updated" if given["status"] == "succeeded" else "refund.failed", made)
        return made
    if what == "trouble":
        trouble[:] = given["next"]
        return {}
    if what == "events":
        return {"events": events}
    if what == "calls":
        return {"calls": calls}
    if what == "things":
        return {"things": [thing for thing in things.values() if thing["object"] == given["object"]]}
    raise AssertionError(what)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stripe)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
