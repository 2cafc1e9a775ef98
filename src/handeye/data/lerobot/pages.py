"""The pages of a parquet file, looked at before pyarrow makes room for what they say is in them.

A page is a header (Thrift's compact protocol; apache/parquet-format, parquet.thrift) and its packed values. pyarrow
believes the header: 70 bytes can hold a list of 2 billion numbers, or a gigabyte of zeros. Its own list of row groups,
at the end of the file, says how many values and bytes there should be, and may lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq

MOST_ROWS = 5_000_000
"""Of one row group: twenty times all steps of LIBERO."""

MOST_WIDE = 64
"""Numbers of one row's list on average; the widest vector that is read has 8."""

MOST_BYTES = 64_000_000
"""Of one unpacked page, besides UNPACKED times its packed bytes. Writers begin a new page after 1 MB."""

UNPACKED = 24
"""What snappy, LeRobot's codec, can make of a byte at most: three of its bytes copy 64."""

HARMLESS = {"UNCOMPRESSED", "SNAPPY"}
"""Codecs that cannot unpack to more."""

_PAGE_SIZES = {2: "unpacked", 3: "packed"}
_DATA, _DATA_2 = 5, 8
"""Fields of PageHeader: kinds of pages with values; field 1 of each is their number."""


def group_rows(metadata: pq.FileMetaData) -> list[int]:
    """Rows of each row group. ValueError where they are none or too many to be read at once."""
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if odd := [count for count in counts if not 0 <= count <= MOST_ROWS]:
        raise ValueError(f"a row group has {odd[0]} rows; 0 to {MOST_ROWS} are read")
    return counts


def check(path: Path, metadata: pq.FileMetaData, groups: Sequence[int], columns: Sequence[str]) -> None:
    """ValueError where reading these columns of these row groups would take far more than the file has. Columns by
    their name, or by a name and what is inside: `image.bytes`. Pages are looked at where their number of values is free
    (lists) and where the codec unpacks without a bound."""
    leaves = [
        (number, metadata.schema.column(number).max_repetition_level > 0)
        for number in range(metadata.num_columns)
        if any(f"{metadata.schema.column(number).path}.".startswith(f"{column}.") for column in columns)
    ]
    with path.open("rb") as file:
        for group in groups:
            said = metadata.row_group(group)
            for number, repeated in leaves:
                chunk = said.column(number)
                if chunk.num_values > MOST_WIDE * (said.num_rows + 1):
                    raise ValueError(f"{chunk.path_in_schema} has {chunk.num_values} values in {said.num_rows} rows")
                if repeated or chunk.compression not in HARMLESS:
                    _check_pages(file, chunk)


def _check_pages(file: BinaryIO, chunk: pq.ColumnChunkMetaData) -> None:
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < at:
        at = chunk.dictionary_page_offset
    end, values = at + chunk.total_compressed_size, 0
    while at < end and values < chunk.num_values:
        header, length = _header(file, at)
        unpacked, packed = (header.get(number) for number in (2, 3))
        if not isinstance(unpacked, int) or not isinstance(packed, int) or min(unpacked, packed) < 0:
            raise ValueError(f"a page of {chunk.path_in_schema} has no size")
        if unpacked > MOST_BYTES + UNPACKED * packed:
            raise ValueError(f"a page of {chunk.path_in_schema} would grow from {packed} to {unpacked} bytes")
        for kind in (_DATA, _DATA_2):
            if isinstance(inside := header.get(kind), dict):
                count = inside.get(1)
                if not isinstance(count, int) or count < 0:
                    raise ValueError(f"a page of {chunk.path_in_schema} has no number of values")
                values += count
        at += length + packed
    if values > chunk.num_values:
        raise ValueError(f"{chunk.path_in_schema} has {values} values instead of {chunk.num_values}")


def _header(file: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    """Of the page there, and its length."""
    for size in (256, 1 << 16, 1 << 24):  # it may hold the smallest and the largest value
        file.seek(at)
        content = file.read(size)
        try:
            return _Compact(content).struct()
        except IndexError:
            continue
    raise ValueError(f"the header of a page at byte {at} does not end")


class _Compact:
    """Thrift's compact protocol, as far as a page's header needs it (apache/thrift, thrift-compact-protocol.md)."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def struct(self, depth: int = 0) -> tuple[dict[int, Any], int]:
        """Field number -> value, and how far it was read. IndexError at the end of the content."""
        if depth > 8:
            raise ValueError("the header of a page is nested too deeply")
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._signed()
            found[number] = self._value(kind, depth)
        return found, self._at

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2:
                return kind == 1
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._signed()
            case 7:
                return self._skip(8)
            case 8:
                return self._skip(self._varint())
            case 9 | 10:
                head = self._byte()
                count = head >> 4 if head >> 4 < 15 else self._varint()
                return [self._value(head & 15, depth + 1) for _ in range(min(count, len(self._content)))]
            case 12:
                return self.struct(depth + 1)[0]
        raise ValueError(f"the header of a page has a field of the unknown kind {kind}")

    def _byte(self) -> int:
        byte = self._content[self._at]
        self._at += 1
        return byte

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number in the header of a page does not end")

    def _signed(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)

    def _skip(self, length: int) -> None:
        self._at += length
        if self._at > len(self._content):
            raise IndexError
