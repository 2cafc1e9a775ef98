"""What a parquet file says of its columns, looked at before pyarrow makes room for it.

A column's values lie in pages: a header (Thrift's compact protocol) and packed values. pyarrow believes the header: 70
bytes can hold a list of 2 billion numbers, or a gigabyte of zeros. The list of row groups at the end of the file says
how many values and bytes there should be, and may lie; some lies in it end pyarrow's process. So it is read here, too.
(apache/parquet-format, parquet.thrift: the numbers of fields below are its.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

MOST_ROWS = 5_000_000
"""Of one row group: twenty times all steps of LIBERO."""

MOST_WIDE = 64
"""Numbers of one row's list on average; the widest vector that is read has 8."""

MOST_BYTES = 64_000_000
"""Of one unpacked page, besides UNPACKED times its packed bytes. Writers begin a new page after 1 MB."""

UNPACKED = 24
"""What snappy, LeRobot's codec, can make of a byte at most: three of its bytes copy 64."""

MOST_LISTED = 16_000_000
"""Bytes of the list of row groups. A thousand columns in a hundred groups take a tenth of it."""

_MAGIC = b"PAR1"


def check(path: Path, columns: Sequence[str]) -> None:
    """ValueError where reading these columns would take far more than the file has. Columns by their name, or by a name
    and what is inside: `image.bytes`. A file that did not change is looked at once."""
    found = path.stat()
    _checked(path, tuple(columns), found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=8192)
def _checked(path: Path, columns: tuple[str, ...], *identity: int) -> None:
    with path.open("rb") as file:
        for group in _row_groups(file):
            rows = _number(group, 3, "a row group's rows", MOST_ROWS)
            for chunk in _list(group, 1, "a row group's columns"):
                said = _struct(chunk, 3, "a column")
                name = ".".join(_text(part) for part in _list(said, 3, "a column's name"))
                if any(f"{name}.".startswith(f"{column}.") for column in columns):
                    _check_chunk(file, said, name, rows)


def _row_groups(file: BinaryIO) -> list[Any]:
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    end = file.read(8)
    length = int.from_bytes(end[:4], "little")
    if size < 12 or end[4:] != _MAGIC or length > min(size - 12, MOST_LISTED):
        raise ValueError("it is cut off, or no parquet file: its list of row groups is not at its end")
    file.seek(size - 8 - length)
    try:
        said, _ = _Compact(file.read(length)).struct()
    except IndexError:
        raise ValueError("its list of row groups is cut off") from None
    return _list(said, 4, "its row groups")


def _check_chunk(file: BinaryIO, said: Mapping[int, Any], name: str, rows: int) -> None:
    """One column of one row group."""
    expected = _number(said, 5, f"{name}: the number of values")
    if expected > MOST_WIDE * (rows + 1):
        raise ValueError(f"{name} has {expected} values in {rows} rows")
    at = _number(said, 9, f"{name}: its place")
    if 0 < (dictionary := _number({11: 0, **said}, 11, f"{name}: its place")) < at:
        at = dictionary
    size, values = file.seek(0, 2), 0
    while values < expected:
        header, length = _header(file, at)
        unpacked, packed = (_number(header, field, f"{name}: the size of a page") for field in (2, 3))
        at += length + packed
        if at > size:
            raise ValueError(f"{name}: a page of {packed} bytes is cut off")
        if unpacked > MOST_BYTES + UNPACKED * packed:
            raise ValueError(f"{name}: a page would grow from {packed} to {unpacked} bytes")
        counts = [_number(header[kind], 1, f"{name}: the values of a page") for kind in (5, 8) if kind in header]
        if not (counts or 7 in header):  # a page of values, of the first or second kind; or a dictionary
            raise ValueError(f"{name}: a page of an unknown kind")
        values += sum(counts)
    if values != expected:
        raise ValueError(f"{name} has {values} values instead of {expected}")


def _header(file: BinaryIO, at: int) -> tuple[Mapping[int, Any], int]:
    """Of the page there, and its length."""
    for size in (256, 1 << 16, 1 << 24):  # it may hold the smallest and the largest value
        file.seek(at)
        content = file.read(size)
        try:
            return _Compact(content).struct()
        except IndexError:
            continue
    raise ValueError(f"the header of a page at byte {at} does not end")


def _number(said: object, field: int, what: str, most: int = 1 << 62) -> int:
    value = said.get(field) if isinstance(said, dict) else None
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{what} is {value}")
    return value


def _list(said: Mapping[int, Any], field: int, what: str) -> list[Any]:
    value = said.get(field) if isinstance(said, dict) else None
    if not isinstance(value, list):
        raise ValueError(f"{what} is no list")
    return value


def _text(said: object) -> str:
    if not isinstance(said, bytes):
        raise ValueError(f"a column's name is {said}, not a text")
    return said.decode("utf-8", "replace")


def _struct(said: object, field: int, what: str) -> Mapping[int, Any]:
    value = said.get(field) if isinstance(said, dict) else None
    if not isinstance(value, dict):
        raise ValueError(f"{what} says nothing of itself")
    return value


class _Compact:
    """Thrift's compact protocol, as far as parquet uses it (apache/thrift, thrift-compact-protocol.md)."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def struct(self, depth: int = 0) -> tuple[dict[int, Any], int]:
        """Field number -> value, and how far it was read. IndexError at the end of the content."""
        if depth > 16:
            raise ValueError("its descriptions are nested too deeply")
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._signed()
            found[number] = self._value(kind, depth)
        return found, self._at

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 5 | 6 | 4:
                return self._signed()
            case 8:
                return self._bytes(self._varint())
            case 12:
                return self.struct(depth + 1)[0]
            case 9 | 10:
                return list(self._items(depth))
            case 1 | 2:
                return kind == 1
            case 3:
                return self._byte()
            case 7:
                return self._bytes(8)
        raise ValueError(f"its descriptions have a field of the unknown kind {kind}")

    def _items(self, depth: int) -> Iterator[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if count > len(self._content) - self._at:  # each has a byte at least
            raise IndexError
        for _ in range(count):
            yield self._byte() if head & 15 in (1, 2) else self._value(head & 15, depth + 1)

    def _byte(self) -> int:
        byte = self._content[self._at]
        self._at += 1
        return byte

    def _bytes(self, length: int) -> bytes:
        start, self._at = self._at, self._at + length
        if self._at > len(self._content):
            raise IndexError
        return self._content[start : self._at]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number in its descriptions does not end")

    def _signed(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
