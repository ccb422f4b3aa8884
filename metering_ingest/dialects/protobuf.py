"""The wire format of protocol buffers, as much of it as OTLP needs: fields by number, in the order they come."""

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class BadMessage(ValueError):
    """Bytes that are no message."""


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """
    Yield (number, value) of a message: integers for varints and fixed fields, bytes for the rest.

    :raises BadMessage: when it ends in the middle of a field, or has a wire type of old.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
        elif kind == BYTES:
            length, at = _varint(message, at)
            if at + length > end:
                raise BadMessage("a field is longer than its message")
            yield tag >> 3, message[at : at + length]
            at += length
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
            if at + size > end:
                raise BadMessage("a number is cut short")
            yield tag >> 3, int.from_bytes(message[at : at + size], "little")
            at += size
        else:
            raise BadMessage(f"wire type {kind} is not used any more")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise BadMessage("a number is cut short")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def signed(value: int) -> int:
    """Return a varint as the signed 64-bit number it stands for."""
    return value - (1 << 64) if value >> 63 else value


def double(value: int) -> float:
    """Return a fixed64 as the double it stands for."""
    found: float = struct.unpack("<d", value.to_bytes(8, "little"))[0]
    return found


def encode_field(number: int, value: int | bytes) -> bytes:
    """Return one field of a message: a varint or bytes."""
    if isinstance(value, int):
        return _encode_varint(number << 3 | VARINT) + _encode_varint(value)
    return _encode_varint(number << 3 | BYTES) + _encode_varint(len(value)) + value


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
