"""An answer in server-sent events on its way through: counted, and without usage that the client did not ask for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ciyuan.guard.counting import NOTHING, Asked, Counts, believable, final, running, timed
from ciyuan.usage import UsageError

_USAGE = b'"usage"'
_LAST_USAGE = b',"usage":'
_TIMINGS = b'"timings"'


class StreamReader:
    """
    Takes the engine's bytes as they come and gives whole events for the client.

    :param keep_text: collect the answer's text, for a tokenizer; it is never written anywhere.

    `counts` is what is known so far; without any report of the engine, an event with text counts as one output token.
    `complaint` says why a report was not believed; `finished` that the engine ended the answer in its own time;
    `failed` that it reported an error in mid-stream.
    """

    def __init__(self, asked: Asked, *, keep_text: bool = False, on_text: Callable[[], None] = lambda: None) -> None:
        self._asked = asked
        self._rest = b""
        self._on_text = on_text
        self.reported: Counts | None = None
        self.pieces = 0
        self.text: list[str] | None = [] if keep_text else None
        self.complaint: str | None = None
        self.finished = self.failed = False

    @property
    def counts(self) -> Counts:
        if self.reported is not None:
            return self.reported
        if not self.pieces:
            return NOTHING
        return Counts(inputs=self._asked.estimate().inputs, outputs=self.pieces)

    def feed(self, data: bytes) -> bytes:
        """The whole events of what has come so far, ready to be sent on."""
        buffer = self._rest + data if self._rest else data
        end = buffer.rfind(b"\n\n")
        if end < 0 and b"\r\n\r\n" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n")
            end = buffer.rfind(b"\n\n")
        if end < 0:
            self._rest = buffer
            return b""
        self._rest = buffer[end + 2 :]
        if b"\n\n" not in buffer[:end]:  # one event, as nearly always
            return self._event(buffer[: end + 2])
        return b"".join(self._event(event + b"\n\n") for event in buffer[:end].split(b"\n\n"))

    def end(self) -> bytes:
        """What is left when the engine has closed the stream."""
        rest, self._rest = self._rest, b""
        return self._event(rest) if rest.strip() else rest

    def _event(self, event: bytes) -> bytes:
        start = 5 if event.startswith(b"data:") else event.find(b"\ndata:") + 6
        if start < 6 and not event.startswith(b"data:"):
            return event  # a comment that keeps the connection open
        payload = event[start:].strip()
        if self.text is None and (at := payload.rfind(_LAST_USAGE)) > 0 and payload[-2:] == b"}}":
            quick = self._quickly(event, payload, at)
            if quick is not None:
                return quick
        if payload == b"[DONE]":
            self.finished = True
            return event
        try:
            body = json.loads(payload)
        except ValueError:
            return event
        if not isinstance(body, dict):
            return event
        if body.get("error"):
            self.failed = True
        choices = body.get("choices")
        if choices:
            for choice in choices:
                self._look(choice)
        if _TIMINGS in payload and choices and "usage" not in body and isinstance(body.get("timings"), dict):
            return self._with_timings(body)
        if _USAGE not in payload or "usage" not in body:
            return event
        return self._with_usage(event, payload, body, bool(choices))

    def _quickly(self, event: bytes, payload: bytes, at: int) -> bytes | None:
        """
        A chunk whose last member is its usage, as engines write it, without reading the rest; None for any other.

        What follows the mark is a whole object only if it is the outermost last member: inside a text the mark's
        quotation marks would be escaped, and deeper down more brackets would follow.
        """
        if b'"error"' in payload or b'"choices":[]' in payload:
            return None
        try:
            usage = json.loads(payload[at + len(_LAST_USAGE) : -1])
        except ValueError:
            return None
        self._read(usage, last=False)
        if self.reported is None:  # not believed: then every piece of text has to be counted
            return None
        if not self.pieces and self.reported.outputs:
            self.pieces = 1
            self._on_text()
        return event if self._asked.wants_continuous else b"data: " + payload[:at] + b"}\n\n"

    def _look(self, choice: Any) -> None:
        if not isinstance(choice, dict):
            return
        delta = choice.get("delta")
        if isinstance(delta, dict):
            text = delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning")
            if not text and delta.get("tool_calls"):
                text = json.dumps(delta["tool_calls"], ensure_ascii=False) if self.text is not None else "…"
        else:
            text = choice.get("text")
        if text:
            self.pieces += 1
            if self.pieces == 1:
                self._on_text()
            if self.text is not None and isinstance(text, str):
                self.text.append(text)

    def _with_usage(self, event: bytes, payload: bytes, body: dict[str, Any], has_choices: bool) -> bytes:
        usage = body["usage"]
        if usage is not None:
            self._read(usage, last=not has_choices)
        if has_choices:
            if self._asked.wants_continuous or (usage is None and self._asked.wants_usage):
                return event
        elif self._asked.wants_usage:
            return event
        else:
            return b""
        return b"data: " + _without_usage(payload, body) + b"\n\n"

    def _with_timings(self, body: dict[str, Any]) -> bytes:
        """A chunk of llama.cpp's server: its count, as usage where the client asked for that with each chunk."""
        self._take(timed(body["timings"]))
        if not self._asked.wants_timings:
            del body["timings"]
        if self._asked.wants_continuous and (counts := self.reported) is not None:
            body["usage"] = {
                "prompt_tokens": counts.inputs, "completion_tokens": counts.outputs,
                "total_tokens": counts.inputs + counts.outputs,
                "prompt_tokens_details": {"cached_tokens": counts.cached},
            }  # fmt: skip
        return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"

    def _read(self, usage: Any, *, last: bool) -> None:
        try:
            self._take(final(usage) if last else running(usage))
        except UsageError as error:
            self.complaint = self.complaint or error.code

    def _take(self, counts: Counts | None) -> None:
        try:
            if counts is None:
                raise UsageError("unreadable", "usage", "the engine's usage cannot be read")
            self.reported = believable(counts, self._asked, self.reported or NOTHING)
        except UsageError as error:
            self.complaint = self.complaint or error.code


def _without_usage(payload: bytes, body: dict[str, Any]) -> bytes:
    """The same chunk without its usage; as the engine wrote it where usage stands last."""
    if next(reversed(body)) == "usage" and (at := payload.rfind(_LAST_USAGE)) > 0 and payload.count(_USAGE) == 1:
        return payload[:at] + b"}"
    del body["usage"]
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
