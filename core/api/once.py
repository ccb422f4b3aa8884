"""Writes from outside: once per organization and key, whatever is resent."""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from rest_framework.utils.encoders import JSONEncoder

from core import prepared
from core.errors import BadRequest, Conflict
from core.models import IdempotencyRecord
from core.transactions import durable

MAX_KEY_LENGTH = 200


class IdempotencyKeyReused(Conflict):
    """The key was used before, for another content."""

    code = "idempotency-key-reused"
    title = "Idempotency key reused"


class IdempotencyKeyMissing(BadRequest):
    """A write came without its key, or with one that cannot be stored."""

    code = "idempotency-key-missing"
    title = "Idempotency key missing"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON body of a write; `repeated` when it was given before."""

    status: int
    body: Any
    repeated: bool = False


def content_hash(content: Any) -> bytes:
    """Return 32 bytes that stand for a JSON content; the order of members does not matter."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), cls=DjangoJSONEncoder, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()


def once(
    *,
    organization_id: int,
    key: str,
    content: Any,
    perform: Callable[[], tuple[int, Any]],
    now: datetime,
    secret_fields: Collection[str] = (),
) -> Answer:
    """
    Run `perform` in one transaction with the record of its answer, or return the answer that it gave before.

    Two at once with the same key: the second waits for the first's commit, then gets its answer. A `perform` that
    raises leaves no record, so the caller may mend the request and use the key again. Members of the answer named in
    `secret_fields` are shown the first time only and never stored.

    :raises IdempotencyKeyReused: the same key came with other content.
    :raises IdempotencyKeyMissing: the key is empty or longer than 200 characters.
    """
    check_key(key)
    digest = content_hash(content)

    def work() -> Answer:
        if not _claim(organization_id, key, digest, now):
            earlier = IdempotencyRecord.objects.get(organization_id=organization_id, key=key)
            if bytes(earlier.content_hash) != digest:
                raise IdempotencyKeyReused(
                    "This Idempotency-Key was used before with other content. Use a new key for a new request.",
                    field="Idempotency-Key",
                )
            assert earlier.status is not None
            return Answer(earlier.status, earlier.body, repeated=True)
        status, body = perform()
        body = json.loads(_encoded(body))
        stored = (
            {name: None if name in secret_fields else value for name, value in body.items()} if secret_fields else body
        )
        prepared.execute(_ANSWER, [status, json.dumps(stored), organization_id, key])
        return Answer(status, body)

    return durable(work)


def once_each(
    *, organization_id: int, writes: Sequence[tuple[str, bytes]], perform: Callable[[list[int]], list[Any]],
    status: int, now: datetime,
) -> list[Answer | None]:  # fmt: skip
    """
    Run several writes of an organization in one transaction, each with the record of its answer.

    :param writes: the key of each, checked, and its content's hash.
    :param perform: gets the places of those that are new, and returns the body of each.
    :return: an answer for each; None for one whose key is there already, which is for `once`.
    """

    def work() -> list[Answer | None]:
        first = {key: place for place, (key, _) in reversed(list(enumerate(writes)))}
        keys = sorted(first)  # as everybody else takes them, so that nobody waits crosswise
        rows = prepared.execute(_CLAIM_EACH, [organization_id, now, keys, [writes[first[key]][1] for key in keys]])
        places = sorted(first[key] for (key,) in rows.fetchall())
        answers: list[Answer | None] = [None] * len(writes)
        if not places:
            return answers
        texts = [_encoded(body) for body in perform(places)]
        # One document: as a Postgres array each quotation mark of the bodies would be escaped by itself.
        bodies = f"[{','.join(texts)}]"
        prepared.execute(_ANSWER_EACH, [status, [writes[place][0] for place in places], bodies, organization_id])
        for place, text in zip(places, texts, strict=True):
            answers[place] = Answer(status, json.loads(text))
        return answers

    return durable(work)


def check_key(key: str) -> None:
    """:raises IdempotencyKeyMissing: the key is empty or longer than 200 characters."""
    if not key or len(key) > MAX_KEY_LENGTH or "\x00" in key:
        raise IdempotencyKeyMissing(
            "Every write takes an Idempotency-Key header of 1 to 200 characters; a UUID is a good one.",
            field="Idempotency-Key",
        )


def _encoded(body: Any) -> str:
    return json.dumps(body, cls=JSONEncoder)  # as every other answer is encoded


_CLAIM = """
INSERT INTO core_idempotencyrecord (organization_id, key, content_hash, created_at) VALUES (%s, %s, %s, %s)
ON CONFLICT (organization_id, key) DO NOTHING
"""
_ANSWER = "UPDATE core_idempotencyrecord SET status = %s, body = %s::jsonb WHERE organization_id = %s AND key = %s"

_CLAIM_EACH = """
INSERT INTO core_idempotencyrecord (organization_id, key, content_hash, created_at)
SELECT %s, w.key, w.hash, %s FROM unnest(%s::text[], %s::bytea[]) WITH ORDINALITY AS w (key, hash, number)
ORDER BY w.number
ON CONFLICT (organization_id, key) DO NOTHING RETURNING key
"""
_ANSWER_EACH = """
UPDATE core_idempotencyrecord AS r SET status = %s, body = w.body
FROM ROWS FROM (unnest(%s::text[]), jsonb_array_elements(%s::jsonb)) AS w (key, body)
WHERE r.organization_id = %s AND r.key = w.key
"""


def _claim(organization_id: int, key: str, digest: bytes, now: datetime) -> bool:
    """Insert the record; False when it is there. Waits while another transaction holds the same key."""
    return prepared.execute(_CLAIM, [organization_id, key, digest, now]).rowcount == 1
