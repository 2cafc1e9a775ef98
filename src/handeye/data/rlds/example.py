"""tf.train.Example without protobuf's runtime: named lists of floats, integers or byte strings.

    Example  { Features features = 1 }                    Feature { oneof: BytesList 1, FloatList 2, Int64List 3 }
    Features { map<string, Feature> feature = 1 }         ...List { repeated value = 1 }

`layout` finds out where each list lies, reading some thirty bytes per feature, so that an episode's pictures are
fetched one by one. It never recurses, and nothing is believed before it is known to lie inside its parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

Kind = Literal["bytes", "float", "int64"]
_KINDS: tuple[Kind, ...] = ("bytes", "float", "int64")  # Feature's fields 1, 2, 3
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

MOST_FEATURES = 1000
"""In one example; LIBERO's have 12."""


class MalformedError(ValueError):
    """What is wrong; the caller knows where."""


@runtime_checkable
class Sliceable(Protocol):
    """Bytes, a memoryview, or a file that is read where it is sliced."""

    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...


@dataclass(frozen=True, kw_only=True)
class Values:
    """A list that has not been read: its kind and where its message lies."""

    kind: Kind | None
    """None: the feature is empty and does not say."""

    start: int
    stop: int


def layout(data: Sliceable, start: int, stop: int) -> dict[str, Values]:
    """Feature name -> where its values are, of the Example in `data[start:stop]`."""
    found: dict[str, Values] = {}
    for features in _messages(data, start, stop, 1, "Example"):
        for entry in _messages(data, *features, 1, "Features"):
            name, values = _entry(data, *entry)
            if name in found:
                raise MalformedError(f"the feature {name} occurs twice")
            if len(found) == MOST_FEATURES:
                raise MalformedError(f"it has more than {MOST_FEATURES} features")
            found[name] = values
    return found


def floats(data: Sliceable, values: Values, most: int) -> Float32[np.ndarray, "n"]:
    """Up to `most` of them."""
    _require_few(values, most, 5)
    content = bytearray()
    for _, wire, start, stop in _of_kind(data, values, "float"):
        if wire not in (_BYTES, _FIXED32) or (stop - start) % 4:
            raise MalformedError("a list of floats is not made of four bytes each")
        content += data[start:stop]
    return np.frombuffer(content, "<f4").astype(np.float32, copy=False)


def integers(data: Sliceable, values: Values, most: int) -> Int64[np.ndarray, "n"]:
    """Up to `most` of them."""
    _require_few(values, most, 11)
    content = bytearray()
    for _, wire, start, stop in _of_kind(data, values, "int64"):
        if wire not in (_BYTES, _VARINT):
            raise MalformedError("a list of integers is not made of varints")
        content += data[start:stop]
    return _varints(np.frombuffer(content, np.uint8))


def spans(data: Sliceable, values: Values, count: int) -> Int64[np.ndarray, "count 2"]:
    """Start and stop of each of `count` byte strings."""
    found = np.empty((count, 2), np.int64)
    index = 0
    for _, wire, start, stop in _of_kind(data, values, "bytes"):
        if wire != _BYTES:
            raise MalformedError("a list of byte strings holds something else")
        if index == count:
            raise MalformedError(f"it has more than {count} byte strings")
        found[index] = start, stop
        index += 1
    if index != count:
        raise MalformedError(f"it has {index} byte strings instead of {count}")
    return found


def encode(features: Mapping[str, Sequence[bytes] | np.ndarray]) -> bytes:
    """An Example: floats and integers by the array's dtype, byte strings otherwise, in the order given. These are the
    bytes that TensorFlow writes."""
    entries = []
    for name, values in features.items():
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            kind, content = 2, _field(1, np.ascontiguousarray(values, "<f4").tobytes())
        elif isinstance(values, np.ndarray):
            kind, content = 3, _field(1, b"".join(map(_varint, values.ravel().tolist())))
        else:
            kind, content = 1, b"".join(_field(1, value) for value in values)
        entries.append(_field(1, _field(1, name.encode()) + _field(2, _field(kind, content))))
    return _field(1, b"".join(entries))


def _entry(data: Sliceable, start: int, stop: int) -> tuple[str, Values]:
    """One pair of the map."""
    name, values = None, Values(kind=None, start=stop, stop=stop)
    for number, wire, begin, end in _fields(data, start, stop):
        if number == 1 and wire == _BYTES:
            name = _text(data, begin, end)
        elif number == 2 and wire == _BYTES:
            values = _feature(data, begin, end)
    if name is None:
        raise MalformedError("a feature has no name")
    return name, values


def _feature(data: Sliceable, start: int, stop: int) -> Values:
    lists = [(n, begin, end) for n, wire, begin, end in _few(_fields(data, start, stop)) if wire == _BYTES and n <= 3]
    if len(lists) > 1:
        raise MalformedError("a feature holds several lists")
    if not lists:
        return Values(kind=None, start=stop, stop=stop)
    number, begin, end = lists[0]
    return Values(kind=_KINDS[number - 1], start=begin, stop=end)


def _text(data: Sliceable, start: int, stop: int) -> str:
    if stop - start > 1000:
        raise MalformedError(f"a feature's name has {stop - start} bytes")
    try:
        return bytes(data[start:stop]).decode()
    except UnicodeDecodeError:
        raise MalformedError("a feature's name is not UTF-8") from None


def _messages(data: Sliceable, start: int, stop: int, wanted: int, what: str) -> Iterator[tuple[int, int]]:
    """The sub-messages with this number. Anything else is not a tf.train.Example."""
    for number, wire, begin, end in _fields(data, start, stop):
        if (number, wire) != (wanted, _BYTES):
            raise MalformedError(f"{what} has a field {number} of wire type {wire}: this is no tf.train.Example")
        yield begin, end


def _of_kind(data: Sliceable, values: Values, kind: Kind) -> Iterator[tuple[int, int, int, int]]:
    if values.kind not in (None, kind):
        raise MalformedError(f"it holds {values.kind} values instead of {kind} ones")
    for field in _fields(data, values.start, values.stop):
        if field[0] == 1:
            yield field


def _require_few(values: Values, most: int, bytes_each: int) -> None:
    """Before anything is read: as many values could take so many bytes, with a tag each."""
    if (size := values.stop - values.start) > most * bytes_each + 20:
        raise MalformedError(f"its list has {size} bytes, too many for {most} values")


def _few(fields: Iterator[tuple[int, int, int, int]]) -> Iterator[tuple[int, int, int, int]]:
    for count, field in enumerate(fields):
        if count == 10:
            raise MalformedError("a feature holds several lists")
        yield field


def _fields(data: Sliceable, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and where the content lies, of each field of a message."""
    at = start
    while at < stop:
        head = data[at : min(at + 20, stop)]  # a tag and a length, ten bytes each at most
        tag, used = _read_varint(head, 0)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            begin = at + used
            size = _read_varint(head, used)[1] - used
        elif wire == _BYTES:
            size, used = _read_varint(head, used)
            begin = at + used
        elif wire in (_FIXED32, _FIXED64):
            begin, size = at + used, 4 if wire == _FIXED32 else 8
        else:
            raise MalformedError(f"a field has the wire type {wire}")
        if number == 0 or size > stop - begin:
            raise MalformedError(f"a field {number} of {size} bytes does not fit into its message")
        at = begin + size
        yield number, wire, begin, at


def _read_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Value, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at == len(data):
            break
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise MalformedError("a number does not end")


def _varints(data: np.ndarray) -> Int64[np.ndarray, "n"]:
    """All numbers of a packed list at once: seven bits per byte, the lowest first, the last byte below 128."""
    ends = np.flatnonzero(data < 0x80) + 1
    if len(data) and (not len(ends) or ends[-1] != len(data)):
        raise MalformedError("a number does not end")
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)]
    if len(ends) == 0:
        return np.empty(0, np.int64)
    if (ends - starts).max() > 10:
        raise MalformedError("a number does not end")
    place = np.arange(len(data)) - np.repeat(starts, ends - starts)
    parts = (data & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).view(np.int64)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative ones are written as their two's complement
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content
