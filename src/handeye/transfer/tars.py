"""What is in a tar, all of it: Python's own reader takes a damaged header in the middle for the end of the archive, and
whatever lies behind it is gone without a word. Here such a file is refused, as is one that stops before its end mark.
"""

from __future__ import annotations

import contextlib
import lzma
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BLOCK = tarfile.BLOCKSIZE
PLAIN = "r:"
_PACKED: dict[bytes, Literal["r:gz", "r:bz2", "r:xz"]] = {
    b"\x1f\x8b": "r:gz",
    b"BZh": "r:bz2",
    b"\xfd7zXZ\0": "r:xz",
}
_DESCRIPTIONS = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME}
_DESCRIPTIONS |= {tarfile.GNUTYPE_LONGLINK}
_LARGEST_DESCRIPTION = 1 << 20
"""Bytes of a header that only describes the next one: a path has 4096 at most. It is read into memory."""

_LONGEST_NAME = 4096
"""Characters. No system takes more, and who lists names has room for the longest of them."""

_LONGEST_PADDING = 1 << 20
"""Bytes of nothing after the end mark: tar fills up its records, of 10,240 bytes if nobody asked for others."""

DAMAGES = (
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # RecursionError: a chain of headers that describe headers
    ValueError,
    OverflowError,
    MemoryError,
    struct.error,
)
"""What Python's readers raise at damaged archives. Of OSErrors those without an errno, which come from gzip and bz2."""


class DamagedTarError(tarfile.TarError):
    """Not a HeaderError, which tarfile takes for the end."""


@dataclass(frozen=True)
class Member:
    """A regular file in an archive that is not compressed: `size` bytes from byte `offset` of the archive on."""

    name: str
    offset: int
    size: int


class _Header(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        if len(buf) == BLOCK and not buf.strip(b"\0"):
            return super().frombuf(buf, encoding, errors)  # the end mark; tarfile has its own exception for it
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise DamagedTarError(f"a header is damaged or missing ({error})") from None
        if header.size < 0 or (header.type in _DESCRIPTIONS and header.size > _LARGEST_DESCRIPTION):
            raise DamagedTarError(f"a header says {header.size} bytes")
        return header


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tarfile.TarFile]:
    """Raises one of DAMAGES, here and while it is used, if it is no good."""
    with tarfile.open(path, packing(path), tarinfo=_Header) as tar:
        yield tar


def packing(path: Path) -> Literal["r:", "r:gz", "r:bz2", "r:xz"]:
    """The mode to open it in, told from its first bytes, not from its name."""
    with path.open("rb") as file:
        start = file.read(6)
    return next((mode for magic, mode in _PACKED.items() if start.startswith(magic)), "r:")


def headers(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Each as it is read, and after the last one the proof that it was the last."""
    for header in tar:
        if header.size < 0:  # an extended header may say anything, and the next one would be looked for before this one
            raise DamagedTarError(f"{header.name} has {header.size} bytes")
        if len(header.name) > _LONGEST_NAME:
            raise DamagedTarError(f"a name has {len(header.name)} characters")
        yield header
    stream = tar.fileobj
    assert stream is not None
    at = stream.tell()  # behind the first empty block
    padding = 0
    while block := stream.read(1 << 16):
        if block.strip(b"\0"):
            raise DamagedTarError(f"its list of members ends at byte {at - BLOCK}, but more follows")
        padding += len(block)
        if padding > _LONGEST_PADDING:
            raise DamagedTarError(f"more than {_LONGEST_PADDING >> 20} MiB of nothing follow its end")
    if padding < BLOCK:
        raise DamagedTarError("it ends without the two empty blocks that every tar ends with")


def members(path: Path) -> list[Member]:
    """Where each file lies in a plain tar, without reading any. Folders are left out; links and devices are damage."""
    found = []
    with opened(path) as tar:
        for header in headers(tar):
            if header.isdir():
                continue
            if not header.isreg() or header.issparse():
                raise DamagedTarError(f"{header.name} is a link, a device or a sparse file")
            found.append(Member(header.name, header.offset_data, header.size))
    return found
