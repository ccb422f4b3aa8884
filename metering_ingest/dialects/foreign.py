"""
What the readers of other clients' events share: find the counts in whatever shape they come, keep what cannot be read.

An event that cannot be translated is rejected with its reason and kept as it came; one that can becomes an event of
ours, so that from then on it is checked, stored and replayed like any other.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from metering_ingest.domain.event_key import EPOCH
from metering_ingest.domain.events import MAX_TEXT, Data, Event, MalformedBody, Rejection, has_null

OUR_FIELDS = frozenset(Data.__struct_fields__)
#: A member of this kind says how the counts beside it are to be read; the first that is there decides.
SIGNS = (
    ("prompt_cache_hit_tokens", "deepseek"),
    ("prompt_tokens", "openai"),
    ("promptTokenCount", "gemini"),
    ("cache_read_input_tokens", "anthropic"),
    ("cache_creation_input_tokens", "anthropic"),
    ("gen_ai.usage.input_tokens", "otel"),
)


class Untranslatable(ValueError):
    """An event in another protocol that says no usage we know. `field` names what is wrong, in the sender's words."""

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field


def parse(body: bytes) -> Any:
    """
    Return the JSON value of a body.

    :raises MalformedBody: when it is none.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody("malformed-json", f"The body is not valid JSON: {error}.") from None


def data_of(properties: Any, *, model: Any = None, where: str = "data") -> Data:
    """
    Return the usage that properties of any known shape report: a vendor's counts, ours, or an object under `usage`.

    :raises Untranslatable: for nothing that counts tokens.
    """
    if not isinstance(properties, Mapping):
        raise Untranslatable("unknown-usage", f"{where} must be an object with token counts.", where)
    named = model or properties.get("model")
    kept: dict[str, Any] = {"model": str(named)[:MAX_TEXT]} if named else {}
    if isinstance(properties.get("usage"), Mapping):
        found = dict(properties["usage"])
        return Data(format=str(properties.get("format") or sign_of(found) or "openai"), usage=_numbers(found), **kept)
    if (sign := sign_of(properties)) is not None:
        return Data(format=sign, usage=_numbers(properties), **kept)
    plain = {name: value for name, value in properties.items() if name in OUR_FIELDS and name != "model"}
    if "input_tokens" in plain or "output_tokens" in plain:
        try:
            return msgspec.convert(_numbers(plain) | kept, Data)
        except msgspec.ValidationError as error:
            raise Untranslatable("invalid-event", f"{error}.", where) from None
    raise Untranslatable(
        "unknown-usage", "There are no token counts that we know, such as prompt_tokens and completion_tokens.", where
    )


def sign_of(properties: Mapping[str, Any]) -> str | None:
    """Return the format that the members of a usage object show, None for ours or none."""
    return next((name for member, name in SIGNS if properties.get(member) is not None), None)


def _numbers(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Some clients send every property as text: read whole numbers out of it. Texts that are none stay as they are."""
    return {
        name: int(value)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19
        else value
        for name, value in properties.items()
    }


def time_of(value: Any, where: str) -> datetime | None:
    """
    Return a time given as RFC 3339 text or as seconds since 1970 (number or text); None where there is none.

    :raises Untranslatable: for anything else.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
            moment = msgspec.convert(value, datetime)
            return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return EPOCH + timedelta(milliseconds=round(float(value) * 1_000))
    except (msgspec.ValidationError, ValueError, OverflowError, TypeError):
        raise Untranslatable("invalid-event", f"{where} is no time.", where) from None


def text_of(value: Any, where: str, *, needed: bool = True) -> str:
    """
    Return an identifying text.

    :raises Untranslatable: when it is missing, no text, too long, or holds U+0000.
    """
    if value is None or value == "":
        if needed:
            raise Untranslatable("missing-field", f"{where} is missing.", where)
        return ""
    if not isinstance(value, str | int) or len(text := str(value)) > MAX_TEXT or has_null(text):
        raise Untranslatable("invalid-event", f"{where} must be a text of at most {MAX_TEXT} characters.", where)
    return text


def event(*, id_: str, source: str, subject: str, time: datetime | None, data: Data) -> Event:
    """Return an event of ours."""
    if has_null(msgspec.to_builtins(data)):
        raise Untranslatable("invalid-event", "Text may not contain the character U+0000.", "data")
    return Event(id=id_, source=source, subject=subject, time=time, data=data, specversion="1.0")


def refused(index: int, error: Untranslatable, raw: Any, id_: Any = None, source: str | None = None) -> Rejection:
    """Return the rejection of an event that could not be translated, with the whole of it."""
    name = str(id_)[:MAX_TEXT].replace("\0", "�") if id_ is not None else None
    return Rejection(index, error.code, error.detail, error.field, name, source, msgspec.json.encode(raw))
