"""What an HDF5 file says of itself, looked at before the HDF5 library believes it.

The library (2.0.0, in h5py 3.16) trusts a file's lists. It spins for ever where a heap of texts has a free object of no
bytes, or where the free parts of a group's names are a circle; it overflows its stack where a group's tree leads back
to itself; and it makes room for a text or a chunk of any size. So every list that no checksum guards is walked here
first: groups and their names, object headers, attributes with their types, the heaps that texts lie in, the lists of
chunks. Data is not read, and nothing is read twice: of a file of 1 GB some hundred kilobytes. (HDF5 File Format
Specification, version 3.0; the Roman numbers below are its sections.)

What newer files keep in fractal heaps and version 2 trees has checksums, which the library compares. Where such a heap
hides what points to texts, the whole file is searched for the heaps of texts, which have none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from io import BufferedReader, BytesIO
from math import prod
from pathlib import Path

from handeye.data.hdf5 import datatypes
from handeye.data.hdf5.datatypes import MalformedError, Type

SIGNATURE = b"\x89HDF\r\n\x1a\n"

LARGEST = 64_000_000
"""Bytes of one list. A group with a million names has half as much."""

_LINK_HEAP, _TYPE, _LINK, _LAYOUT, _ATTRIBUTE = 0x02, 0x03, 0x06, 0x08, 0x0C
_SHARED_TABLE, _CONTINUED, _GROUP, _ATTRIBUTE_HEAP = 0x0F, 0x10, 0x11, 0x15
"""Kinds of messages in an object header (IV.A.2)."""

_BLOCK = 1 << 22


def check(path: Path) -> None:
    """MalformedError where the library must not open it. A file that did not change is looked at once."""
    found = path.stat()
    _checked(path, found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1024)
def _checked(path: Path, *identity: int) -> None:
    with path.open("rb") as file:
        Walk(file, os.fstat(file.fileno()).st_size).superblock()


@dataclass
class Walk:
    """One file. Addresses are counted from the superblock's base."""

    file: BufferedReader | BytesIO
    size: int
    base: int = 0
    wide: int = 8
    """Bytes of an address, and of a length."""

    long: int = 8
    hidden: bool = False
    """Something that points to texts is in a heap that is not walked here."""

    taken: int = 0
    """Bytes read so far."""

    seen: set[tuple[str, int]] = field(default_factory=set)
    heaps: dict[int, dict[int, tuple[int, int]]] = field(default_factory=dict)
    """Address of a heap of texts -> index -> where it is and how long."""

    # ---- bytes ------------------------------------------------------------------------------------------------------

    def read(self, what: str, address: int, length: int) -> bytes:
        start = self.base + address
        if not 0 <= length <= LARGEST or start + length > self.size:
            raise MalformedError(f"{what} at byte {start} has {length} bytes; the file has {self.size}")
        self.taken += length
        if self.taken > 2 * self.size + LARGEST:
            raise MalformedError("its lists lie on top of each other")
        self.file.seek(start)
        return self.file.read(length)

    def once(self, what: str, address: int) -> None:
        """Everything has one place, and each place one use."""
        if (what, address) in self.seen:
            raise MalformedError(f"{what} at byte {self.base + address} is used twice, or leads back to itself")
        self.seen.add((what, address))

    def address(self, content: bytes, at: int) -> int | None:
        """None: the undefined address, all ones."""
        value = _number(content, at, self.wide)
        return None if value == (1 << 8 * self.wide) - 1 else value

    def length(self, content: bytes, at: int) -> int:
        return _number(content, at, self.long)

    # ---- II.A: the superblock ---------------------------------------------------------------------------------------

    def superblock(self) -> None:
        at = self._start()
        content = self.read("its superblock", at, min(112, self.size - at))
        version = content[8]
        if version > 3:
            raise MalformedError(f"its superblock is of version {version}; 0 to 3 are read")
        self.wide, self.long = (content[13], content[14]) if version < 2 else (content[9], content[10])
        if not {self.wide, self.long} <= {2, 4, 8}:
            raise MalformedError(f"its addresses have {self.wide} bytes, its lengths {self.long}")
        if version < 2:
            at = 24 if version == 0 else 28
            self.base = self.address(content, at) or 0
            roots = [self.address(content, at + 5 * self.wide)]
        else:
            self.base = self.address(content, 12) or 0
            roots = [self.address(content, 12 + k * self.wide) for k in (1, 3)]  # its extension, and the root group
        todo = [address for address in roots if address is not None]
        while todo:
            if ("an object", address := todo.pop()) not in self.seen:
                self.once("an object", address)
                todo += self.object(address)
        if self.hidden:
            for found in self._everywhere(b"GCOL\1\0\0\0"):
                self.heap(found - self.base)

    def _start(self) -> int:
        """The superblock is at the beginning, or after a block of the user's."""
        at = 0
        while at + 96 <= self.size:
            if self.read("its signature", at, 8) == SIGNATURE:
                return at
            at = max(512, 2 * at)
        raise MalformedError("it has no HDF5 signature")

    def _everywhere(self, wanted: bytes) -> Iterator[int]:
        before = b""
        for start in range(0, self.size, _BLOCK):
            self.file.seek(start)
            content = before + self.file.read(_BLOCK)
            at = content.find(wanted)
            while at >= 0:
                yield start - len(before) + at
                at = content.find(wanted, at + 1)
            before = content[1 - len(wanted) :]

    # ---- IV.A: object headers ---------------------------------------------------------------------------------------

    def object(self, address: int) -> Iterator[int]:
        """Walk one; the addresses of those that it leads to."""
        for kind, flags, content in self.messages(address):
            if flags & 2:
                yield from self._shared(content)
            elif kind == _TYPE:
                datatypes.read(content, 0, 8 + self.wide)
            elif kind == _LINK:
                yield from self._link(content)
            elif kind == _GROUP:
                yield from self.group(_number(content, 0, self.wide), _number(content, self.wide, self.wide))
            elif kind == _LAYOUT:
                self._layout(content)
            elif kind == _ATTRIBUTE:
                yield from self._attribute(content)
            elif kind in (_LINK_HEAP, _ATTRIBUTE_HEAP):
                numbered = _number(content, 1, 1) & 1
                at = 2 + numbered * (8 if kind == _LINK_HEAP else 2)
                self.hidden |= self.address(content, at) is not None
            elif kind == _SHARED_TABLE:
                self.hidden = True

    def messages(self, address: int) -> Iterator[tuple[int, int, bytes]]:
        """Kind, flags and content of each, through all blocks of the header."""
        head = self.read("an object header", address, 16)
        new = head.startswith(b"OHDR")
        if new:
            times, phases, wide = 16 * bool(head[5] & 0x20), 4 * bool(head[5] & 0x10), 1 << (head[5] & 3)
            at = 6 + times + phases
            size = _number(self.read("an object header", address, at + wide), at, wide)
            start, lead = address + at + wide, 6 if head[5] & 4 else 4
        elif head[0] == 1:
            start, size, lead = address + 16, _number(head, 8, 4), 8
        else:
            raise MalformedError(f"there is no object header at byte {self.base + address}")
        blocks = [(start, size)]
        for start, size in blocks:
            self.once("a block of an object header", start)
            content, at = self.read("a block of an object header", start, size), 0
            while at + lead <= size:
                kind = content[at] if new else _number(content, at, 2)
                length, flags = _number(content, at + 1, 2) if new else _number(content, at + 2, 2), 0
                flags = content[at + 3] if new else content[at + 4]
                at += lead
                if at + length > size:
                    raise MalformedError(f"a message in the object header at byte {self.base + address} is cut off")
                message = content[at : at + length]
                at += length
                if kind == _CONTINUED:
                    following, room = _number(message, 0, self.wide), _number(message, self.wide, self.long)
                    blocks.append((following + 4, room - 8) if new else (following, room))  # OCHK and a checksum
                else:
                    yield kind, flags, message

    def _shared(self, content: bytes) -> Iterator[int]:
        """IV.A.2, shared message: it is in another object's header, or in a heap for such."""
        version, kind = _number(content, 0, 1), _number(content, 1, 1)
        if version == 3 and kind != 2:
            self.hidden = True
        else:
            yield _number(content, 8 if version == 1 else 2, self.wide)

    def _link(self, content: bytes) -> Iterator[int]:
        flags, at = _number(content, 1, 1), 2
        kind = _number(content, at, 1) if flags & 8 else 0
        at += bool(flags & 8) + 8 * bool(flags & 4) + bool(flags & 0x10)
        wide = 1 << (flags & 3)
        at += wide + _number(content, at, wide)
        if kind == 0:
            yield _number(content, at, self.wide)

    def _attribute(self, content: bytes) -> Iterator[int]:
        version, flags = _number(content, 0, 1), _number(content, 1, 1)
        name, kind, space = (_number(content, at, 2) for at in (2, 4, 6))
        at = 9 if version == 3 else 8
        places = []
        for length in (name, kind, space):
            places.append(at)
            at += length + 7 & ~7 if version == 1 else length
        if at > len(content):
            raise MalformedError("an attribute is cut off")
        if version > 1 and flags & 3:
            self.hidden = True  # its type is an object of its own, which the library decodes
            if flags & 1:
                yield from self._shared(content[places[1] : places[2]])
            return
        found, _ = datatypes.read(content[places[1] : places[1] + kind], 0, 8 + self.wide)
        count = self._count(content[places[2] : places[2] + space])
        if count * found.size > len(content) - at:
            raise MalformedError(f"an attribute of {count} x {found.size} bytes has {len(content) - at}")
        self.values(found, content[at : at + count * found.size], count)

    def _count(self, content: bytes) -> int:
        """IV.A.2.b: the number of values in a dataspace."""
        version, rank = _number(content, 0, 1), _number(content, 1, 1)
        at = 8 if version == 1 else 4
        if version == 2 and _number(content, 3, 1) == 2:
            return 0
        return prod(self.length(content, at + k * self.long) for k in range(rank))

    def _layout(self, content: bytes) -> None:
        """IV.A.2.i. Of version 4 on, lists of chunks have checksums."""
        version = _number(content, 0, 1)
        if version in (1, 2):
            rank, kind, at = _number(content, 1, 1), _number(content, 2, 1), 8
        else:
            kind, rank, at = _number(content, 1, 1), _number(content, 2, 1), 3
        if version < 4 and kind == 2 and (tree := self.address(content, at)) is not None:
            sides = [_number(content, at + self.wide + 4 * k, 4) for k in range(rank)]
            self.chunks(tree, rank, prod(sides))

    # ---- III.A.1, III.C, III.D: groups ------------------------------------------------------------------------------

    def group(self, tree: int, heap: int) -> Iterator[int]:
        """The addresses of the objects in an old group."""
        names = self.names(heap)
        for _, leaf in self.entries(tree, 0, self.long):
            self.once("a group's leaf", leaf)
            head = self.read("a group's leaf", leaf, 8)
            if not head.startswith(b"SNOD"):
                raise MalformedError(f"there is no leaf of a group at byte {self.base + leaf}")
            count, entry = _number(head, 6, 2), 2 * self.wide + 24
            content = self.read("a group's leaf", leaf + 8, count * entry)
            for at in range(0, count * entry, entry):
                if names.find(b"\0", _number(content, at, self.wide)) < 0:
                    raise MalformedError(f"a name of the group at byte {self.base + tree} is outside its heap")
                if (address := self.address(content, at + self.wide)) is not None:
                    yield address

    def names(self, address: int) -> bytes:
        """III.D: a local heap; its free parts are a chain, which must end."""
        self.once("a heap of names", address)
        head = self.read("a heap of names", address, 8 + 2 * self.long + self.wide)
        if not head.startswith(b"HEAP"):
            raise MalformedError(f"there is no heap of names at byte {self.base + address}")
        size, free = self.length(head, 8), self.length(head, 8 + self.long)
        content = self.read("names", _number(head, 8 + 2 * self.long, self.wide), size)
        passed = set[int]()
        while free not in (1, (1 << 8 * self.long) - 1):
            if free in passed or free + 2 * self.long > size:
                raise MalformedError(f"the free parts of the names at byte {self.base + address} are no chain")
            passed.add(free)
            if free + self.length(content, free + self.long) > size:
                raise MalformedError(f"a free part of the names at byte {self.base + address} does not fit")
            free = self.length(content, free)
        return content

    def entries(self, tree: int, kind: int, key: int, level: int | None = None) -> Iterator[tuple[bytes, int]]:
        """III.A.1: (key, child) of the lowest level of a version 1 tree. `key`: bytes of one."""
        self.once("a tree", tree)
        head = self.read("a tree", tree, 8 + 2 * self.wide)
        if not head.startswith(b"TREE") or head[4] != kind or (level is not None and head[5] != level):
            raise MalformedError(f"there is no tree of kind {kind} and level {level} at byte {self.base + tree}")
        count, step = _number(head, 6, 2), key + self.wide
        content = self.read("a tree", tree + len(head), count * step + key)
        for at in range(0, count * step, step):
            child = _number(content, at + key, self.wide)
            if head[5]:
                yield from self.entries(child, kind, key, head[5] - 1)
            else:
                yield content[at : at + key], child

    # ---- III.A.1: chunks --------------------------------------------------------------------------------------------

    def chunks(self, tree: int, rank: int, size: int) -> None:
        """Each lies in the file, and was not made larger by being packed: unpacking stops at no limit. `size`: bytes of
        one; `rank`: its dimensions and one more."""
        for key, address in self.entries(tree, 1, 8 + 8 * rank):
            stored = _number(key, 0, 4)
            if stored > size + size // 8 + 1024 or self.base + address + stored > self.size:
                raise MalformedError(f"a chunk of {size} bytes at byte {self.base + address} is stored in {stored}")

    # ---- III.E: the global heap -------------------------------------------------------------------------------------

    def values(self, kind: Type, content: bytes, count: int) -> None:
        """Follow the pointers in `count` values."""
        if not kind.points():
            return
        for start in range(0, count * kind.size, kind.size):
            value = content[start : start + kind.size]
            if kind.kind == datatypes.SEQUENCE:
                self._sequence(kind, value)
            else:
                for part in kind.parts:
                    self.values(part.type, value[part.offset :], part.count)

    def _sequence(self, kind: Type, pointer: bytes) -> None:
        """A number of elements, which are an object of a heap. The library makes room for as many before it looks."""
        count, address, index = _number(pointer, 0, 4), self.address(pointer, 4), _number(pointer, 4 + self.wide, 4)
        if not count or not address:
            return
        start, length = self.heap(address).get(index, (0, -1))
        element = kind.parts[0].type
        if length != count * element.size:
            found = f"has {length} bytes" if length >= 0 else "is not there"
            heap = f"object {index} of the heap at byte {self.base + address}"
            raise MalformedError(f"a text or list of {count} x {element.size} bytes is {heap}, which {found}")
        if element.points():
            self.values(element, self.read("a list", start, length), count)

    def heap(self, address: int) -> dict[int, tuple[int, int]]:
        """Its objects: each begins where the one before it ends, and the last ends with the collection. The library
        goes from one to the next by their sizes alone."""
        if address in self.heaps:
            return self.heaps[address]
        lead = 8 + self.long
        head = self.read("a heap", address, lead)
        size = self.length(head, 8)
        where = f"the heap at byte {self.base + address}"
        if not head.startswith(b"GCOL\1") or size < lead or self.base + address + size > self.size:
            raise MalformedError(f"{where} is none, or has {size} bytes of a file of {self.size}")
        found, at = dict[int, tuple[int, int]](), lead
        while at + lead <= size:
            entry = self.read("an object of a heap", address + at, lead)
            index, length = _number(entry, 0, 2), self.length(entry, 8)
            step = lead + (length + 7 & ~7) if index else length  # index 0 is free room, counted with its lead
            if step < lead or at + step > size or index in found:
                raise MalformedError(f"object {index} of {where} has {length} bytes at {at} of {size}")
            found[index] = (address + at + lead, length)
            at += step
        self.heaps[address] = found
        return found


def _number(content: bytes, at: int, wide: int) -> int:
    if at + wide > len(content):
        raise MalformedError("a list or a message in it is cut off")
    return int.from_bytes(content[at : at + wide], "little")
