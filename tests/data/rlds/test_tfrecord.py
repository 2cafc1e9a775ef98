"""The chain of records: framing, checksums, and lengths that are not believed."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest

from handeye.data.rlds.tfrecord import FileBytes, Record, check, framed, index, masked_crc
from handeye.errors import UserError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Records of 3, 0 and 5,000 bytes."""
    path = tmp_path / "a.tfrecord"
    path.write_bytes(framed(b"abc") + framed(b"") + framed(bytes(range(250)) * 20))
    return path


def test_checksums_are_those_of_the_standard() -> None:
    """CRC-32C of "123456789" is 0xE3069283 (RFC 3720's polynomial); masked as TensorFlow does."""
    crc = 0xE3069283
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def test_records_are_found_and_checked(file: Path) -> None:
    records = index(file, 3)
    assert records == [Record(start=12, length=3), Record(start=31, length=0), Record(start=47, length=5000)]
    with FileBytes(file) as data:
        for record in records:
            check(data, record, "a record")
        assert data[12:15] == b"abc" and data.size == file.stat().st_size


@pytest.mark.parametrize("place", [20, 60, 4000])
def test_a_changed_bit_is_noticed(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"record \d.* cannot be used"), FileBytes(file) as data:
        for number, record in enumerate(index(file, 3)):
            check(data, record, f"record {number}")


def test_every_cut_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    for length in [*range(60), len(content) - 5, len(content) - 1]:
        file.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"cut off|has \d records"):
            index(file, 3)


@pytest.mark.parametrize("expected", [0, 1, 2, 4])
def test_another_number_of_records_is_an_error(file: Path, expected: int) -> None:
    with pytest.raises(UserError, match=f"{expected} that dataset_info|promises {expected}"):
        index(file, expected)


@pytest.mark.parametrize("length", [1 << 40, (1 << 64) - 1, 5001, 4_000_000_000])
def test_a_length_is_not_believed(file: Path, length: int) -> None:
    """With a checksum that fits, as somebody hostile would write it."""
    header = struct.pack("<Q", length)
    content = file.read_bytes()
    file.write_bytes(content[:35] + header + struct.pack("<I", masked_crc(header)) + content[47:])
    tracemalloc.start()
    with pytest.raises(UserError, match=f"should go on for {length} bytes"):
        index(file, 3)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_a_large_hole_is_not_read(tmp_path: Path) -> None:
    """A sparse file really has the 3 GB that its record promises; no episode does."""
    path = tmp_path / "a.tfrecord"
    header = struct.pack("<Q", 3_000_000_000)
    with path.open("wb") as file:
        file.write(header + struct.pack("<I", masked_crc(header)))
        file.truncate(12 + 3_000_000_000 + 4)
    with pytest.raises(UserError, match="up to 1000000000 are read"):
        index(path, 1)


def test_a_pointer_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 1\n")
    with pytest.raises(UserError, match="Git LFS pointer"):
        index(path, 1)
    with pytest.raises(UserError, match="No such file"), FileBytes(tmp_path / "absent"):
        pass


def test_a_file_that_shrinks_is_noticed(file: Path) -> None:
    records = index(file, 3)
    file.write_bytes(file.read_bytes()[:100])
    with FileBytes(file) as data, pytest.raises(UserError, match="became shorter"):
        check(data, records[2], "a record")
