"""TFRecord files: a chain of records, each with its length and two checksums (tensorflow/core/lib/io/record_writer.h).

    uint64 length | uint32 checksum of the length | payload | uint32 checksum of the payload     (little endian)

Nothing is allocated for a length before it is known to lie inside the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import google_crc32c

from handeye.errors import UserError

HEADER, FOOTER = 12, 4
"""Bytes before and after a payload."""

MOST_BYTES = 1_000_000_000
"""Of one record: a hundred times LIBERO's largest episode."""

_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Record:
    """Where a payload lies in its file."""

    start: int
    length: int

    @property
    def stop(self) -> int:
        return self.start + self.length


class FileBytes:
    """A file that is sliced like bytes, without being read whole. Open until it is closed, or used in a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise bad(str(path), error.strerror or str(error)) from None
        self.size = self._file.seek(0, 2)

    def __enter__(self) -> FileBytes:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def __getitem__(self, part: slice) -> bytes:
        """Exactly these bytes."""
        try:
            self._file.seek(part.start)
            content = self._file.read(part.stop - part.start)
        except OSError as error:
            raise bad(str(self.path), error.strerror or str(error)) from None
        if len(content) != part.stop - part.start:
            raise bad(str(self.path), "it became shorter while it was read")
        return content


def index(path: Path, expected: int) -> list[Record]:
    """Every record of a file that must hold `expected` of them. Payloads are passed over, unread."""
    with FileBytes(path) as file:
        if file.size >= 64 and file[0:24] == b"version https://git-lfs.":
            raise UserError(
                f"{path} is a Git LFS pointer, not the data itself.", fix="run `git lfs pull` where it was cloned"
            )
        records: list[Record] = []
        at = 0
        while at < file.size:
            where = f"{path}: record {len(records)} (at byte {at})"
            if len(records) == expected:
                raise bad(str(path), f"it has more records than the {expected} that dataset_info.json promises")
            if file.size - at < HEADER:
                raise bad(where, "the file is cut off inside its header")
            header = file[at : at + HEADER]
            length, checksum = struct.unpack("<QI", header)
            if checksum != masked_crc(header[:8]):
                raise bad(where, "the checksum of its length does not match")
            if length > file.size - at - HEADER - FOOTER:
                raise bad(where, f"the file is cut off: it should go on for {length} bytes")
            if length > MOST_BYTES:
                raise bad(where, f"it has {length} bytes; up to {MOST_BYTES} are read")
            records.append(Record(start=at + HEADER, length=length))
            at = records[-1].stop + FOOTER
        if len(records) != expected:
            raise bad(str(path), f"it has {len(records)} records; dataset_info.json promises {expected}")
        return records


def check(file: FileBytes, record: Record, where: str) -> None:
    """Read the payload once, in blocks, and compare its checksum."""
    crc = 0
    for start in range(record.start, record.stop, _BLOCK):
        crc = google_crc32c.extend(crc, file[start : min(start + _BLOCK, record.stop)])
    (stored,) = struct.unpack("<I", file[record.stop : record.stop + FOOTER])
    if stored != _mask(crc):
        raise bad(where, "the checksum of its data does not match: some bytes were changed")


def framed(payload: bytes) -> bytes:
    """The record as it stands in a file."""
    length = struct.pack("<Q", len(payload))
    return b"".join(
        [length, struct.pack("<I", masked_crc(length)), payload, struct.pack("<I", masked_crc(payload))],
    )


def masked_crc(data: bytes) -> int:
    """CRC-32C, turned and moved so that a checksum of data that holds checksums is safe (tensorflow/core/lib/hash/
    crc32c.h)."""
    return _mask(google_crc32c.value(data))


def _mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def bad(where: str, why: str) -> UserError:
    return UserError(f"{where} cannot be used.", why=why, fix="fetch or make the data set again")
