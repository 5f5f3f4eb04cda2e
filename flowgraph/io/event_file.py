"""TensorBoard's event files: records with checksums, and in each an Event as protocol buffers write it. Knows neither graphs nor sessions.

A record is its length (8 bytes), a checksum of that, the data, and a checksum of the data. The numbers of the fields are those of
TensorFlow's event.proto, summary.proto, histogram.proto and tensor.proto, which cannot change any more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError

START = 1  # the status in a session log: what was recorded for this step and later ones is void


# --- writing


def record(event: bytes) -> bytes:
    """An event as it stands in a file."""
    length = struct.pack("<Q", len(event))
    return b"".join([length, struct.pack("<I", _checksum(length)), event, struct.pack("<I", _checksum(event))])


def event(
    time: float, step: int = 0, *, version: str = "", graph: bytes = b"", values: Sequence[bytes] = (), starts: bool = False
) -> bytes:
    """What happened at ``time`` (seconds since 1970) and ``step``; ``values`` are what the functions below make."""
    parts = [double(1, time), whole(2, step)]
    if version:
        parts.append(data(3, version))
    if graph:
        parts.append(data(4, graph))
    if values:
        parts.append(data(5, b"".join(data(1, value) for value in values)))
    if starts:
        parts.append(data(7, whole(1, START)))
    return b"".join(parts)


def scalar(name: str, value: float) -> bytes:
    """A number, in 32 bits."""
    with np.errstate(over="ignore"):
        return data(1, name) + _key(2, 5) + np.float32(value).tobytes()


def image(name: str, height: int, width: int, channels: int, file: bytes) -> bytes:
    """An image, as the bytes of a PNG file."""
    return data(1, name) + data(4, whole(1, height) + whole(2, width) + whole(3, channels) + data(4, file))


def histogram(name: str, values: np.ndarray[Any, Any], edges: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> bytes:
    """How often ``values`` (finite, float64) are between two ``edges``."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    with np.errstate(over="ignore"):
        moments = [low, high, float(values.size), float(values.sum()), float(np.square(values).sum())]
    rows = [double(field, value) for field, value in enumerate(moments, 1)]
    return data(1, name) + data(5, b"".join([*rows, data(6, edges[1:].astype("<f8").tobytes()), data(7, counts.astype("<f8").tobytes())]))


def text(name: str, value: str) -> bytes:
    """Text, which TensorBoard shows as Markdown."""
    tensor = whole(1, 7) + data(2, b"") + data(8, value)
    return data(1, name) + data(8, tensor) + data(9, data(1, data(1, "text")))


def whole(field: int, value: int) -> bytes:
    """An integer field of a message."""
    return _key(field, 0) + _varint(value & (2**64 - 1))


def double(field: int, value: float) -> bytes:
    """A field of a message with a float64."""
    return _key(field, 1) + struct.pack("<d", value)


def data(field: int, value: bytes | str) -> bytes:
    """A field of a message with bytes, text, or another message."""
    value = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return _key(field, 2) + _varint(len(value)) + value


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that there are more."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def _checksum(part: bytes) -> int:
    """The CRC-32C of ``part``, turned and shifted as TFRecord has it. 70 ns a byte: 3 us for a number, 2 ms for a sheet of digits."""
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in part:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return (crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF


# --- reading


@dataclass(frozen=True, slots=True)
class Value:
    """What an event tells of one name.

    kind     "scalar", "histogram", "image" or "text"
    content  a float; edges and counts; the bytes of a file; a text
    """

    name: str
    kind: str
    content: Any


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it was read, with the values that are understood here; ``starts``: what came for its step and later ones is void."""

    time: float
    step: int
    values: list[Value]
    starts: bool


def read_events(path: Path) -> Iterator[Event]:
    """The events of a file. A last record that is not all there is left out: its writer was stopped, or is still writing.

    raises  FileFormatError where a checksum does not fit, or a message makes no sense
    """
    with open(path, "rb") as file:
        at = 0
        while len(head := file.read(12)) == 12:
            length, checksum = struct.unpack("<QI", head)
            if _checksum(head[:8]) != checksum:
                help = "event files are called events.out.tfevents.*"
                raise FileFormatError(f"{path} is damaged at byte {at}, or no event file", help=help)
            body = file.read(length + 4)
            if len(body) < length + 4:
                return
            if _checksum(body[:length]) != struct.unpack("<I", body[length:])[0]:
                raise FileFormatError(f"{path} is damaged: the record at byte {at} does not have its checksum")
            try:
                yield _event(body[:length])
            except (ValueError, LookupError, TypeError, struct.error) as error:
                raise FileFormatError(f"{path} is damaged: the record at byte {at} holds no event") from error
            at += 16 + length


def _event(message: bytes) -> Event:
    time, step, values, starts = 0.0, 0, list[Value](), False
    for field, content in _fields(message):
        if field == 1:
            time = _double(content)
        elif field == 2:
            step = content - (content >> 63 << 64)
        elif field == 5:
            values += [value for number, each in _fields(content) if number == 1 and (value := _value(each)) is not None]
        elif field == 7:
            starts = dict(_fields(content)).get(1) == START
    return Event(time, step, values, starts)


def _value(message: bytes) -> Value | None:
    """None for what is not understood here, such as sound."""
    fields = dict(_fields(message))
    name = bytes(fields.get(1, b"")).decode("utf-8", "replace")
    if 2 in fields:
        return Value(name, "scalar", float(np.frombuffer(fields[2], "<f4")[0]))
    if 4 in fields:
        return Value(name, "image", bytes(dict(_fields(fields[4])).get(4, b"")))
    if 5 in fields:
        parts = dict(_fields(fields[5]))
        limits, counts = (np.frombuffer(parts.get(field, b""), "<f8") for field in (6, 7))
        first = min(_double(parts[1]), limits[0]) if limits.size else 0.0
        return Value(name, "histogram", (np.concatenate([[first], limits]), counts.astype(int)))
    if 8 not in fields:
        return None
    # How TensorFlow's newer writers put it: a tensor, and the plugin that shows it.
    plugin = bytes(dict(_fields(dict(_fields(fields.get(9, b""))).get(1, b""))).get(1, b""))
    tensor = dict(_fields(fields[8]))
    if plugin == b"text" and 8 in tensor:
        return Value(name, "text", bytes(tensor[8]).decode("utf-8", "replace"))
    if plugin == b"scalars" and tensor.get(1) == 1:  # (a float32)
        return Value(name, "scalar", float(np.frombuffer(tensor.get(4) or tensor.get(5, bytes(4)), "<f4")[0]))
    return None


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The number and the content of each field: an int, or bytes."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        if key & 7 == 0:
            content, at = _read_varint(message, at)
            yield key >> 3, content
            continue
        if key & 7 == 2:
            length, at = _read_varint(message, at)
        else:
            length = {1: 8, 5: 4}[key & 7]
        if at + length > len(message):
            raise ValueError("a field ends behind its message")
        yield key >> 3, message[at : at + length]
        at += length


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while message[at] > 127:
        value |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1


def _double(content: bytes) -> float:
    return float(struct.unpack("<d", content)[0])
