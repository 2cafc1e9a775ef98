"""Types of values as HDF5 files describe them (HDF5 File Format Specification 3.0, IV.A.2.d), checked before the
library works with one: sizes that agree, parts that lie inside their whole, and no endless nesting."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod

DEEPEST = 16
"""Types within types. The library and h5py follow them by recursion."""

INTEGER, FLOAT, TIME, STRING, BITS, OPAQUE, COMPOUND, REFERENCE, ENUM, SEQUENCE, ARRAY, COMPLEX = range(12)

CODES = {
    STRING: ((0, 2), (4, 1)),  # padding, characters
    REFERENCE: ((0, 4),),
    SEQUENCE: ((0, 1), (4, 2), (8, 1)),  # a list or a text; padding, characters
}
"""Class -> (first bit of a code of four bits, its largest value). h5py crashes on a sequence of an unknown kind."""


class MalformedError(ValueError):
    """What is wrong; the caller knows where."""


@dataclass(frozen=True)
class Part:
    """Values inside a value, one after the other."""

    offset: int
    type: Type
    count: int


@dataclass(frozen=True)
class Type:
    kind: int
    size: int
    """Bytes of one value. Of a sequence, those of its pointer."""

    parts: tuple[Part, ...] = ()
    """Of a compound or an array. Of a sequence or string of any length, its elements, which lie elsewhere."""

    def points(self) -> bool:
        """A value has pointers to a heap in it."""
        return self.kind == SEQUENCE or any(part.type.points() for part in self.parts)


def read(content: bytes, at: int, pointer: int, depth: int = 0) -> tuple[Type, int]:
    """The type that is described there, and where its description ends. `pointer`: bytes of a sequence's pointer."""
    if depth > DEEPEST:
        raise MalformedError(f"a type within more than {DEEPEST} types")
    head, size = _numbers("<II", content, at)
    kind, version, bits = head & 15, head >> 4 & 15, head >> 8
    at += 8
    if not 1 <= version <= 5 or kind > COMPLEX:
        raise MalformedError(f"a type of class {kind}, version {version}")
    if size == 0:
        raise MalformedError("a type of no bytes")
    if any(bits >> shift & 15 > most for shift, most in CODES.get(kind, ())):
        raise MalformedError(f"a type of class {kind} with the unknown properties {bits:#x}")
    if kind in (INTEGER, BITS):
        at = _whole(content, at, size)
    elif kind == FLOAT:
        at = _float(content, at, size)
    elif kind == TIME:
        at += 2
    elif kind == OPAQUE:
        at += (bits & 0xFF) + 7 & ~7
    elif kind == COMPOUND:
        return _compound(content, at, size, bits & 0xFFFF, version, pointer, depth)
    elif kind == ENUM:
        at = _enum(content, at, size, bits & 0xFFFF, version, pointer, depth)
    elif kind in (SEQUENCE, COMPLEX):
        base, at = read(content, at, pointer, depth + 1)
        if size != (pointer if kind == SEQUENCE else 2 * base.size):
            raise MalformedError(f"a type of class {kind} has {size} bytes")
        return Type(kind, size, (Part(0, base, 1),) if kind == SEQUENCE else ()), _inside(content, at)
    elif kind == ARRAY:
        return _array(content, at, size, version, pointer, depth)
    return Type(kind, size), _inside(content, at)


def _whole(content: bytes, at: int, size: int) -> int:
    offset, precision = _numbers("<HH", content, at)
    if not 1 <= precision <= 8 * size - offset:
        raise MalformedError(f"a number of {size} bytes with {precision} bits from bit {offset} on")
    return at + 4


def _float(content: bytes, at: int, size: int) -> int:
    offset, precision, exponent, wide, mantissa, long = _numbers("<HHBBBB", content, at)
    top = offset + precision
    if not (precision and top <= 8 * size and wide and long and max(exponent + wide, mantissa + long) <= top):
        raise MalformedError(f"a float of {size} bytes with {precision} bits, {wide} and {long} of them")
    return at + 12


def _compound(
    content: bytes, at: int, size: int, members: int, version: int, pointer: int, depth: int
) -> tuple[Type, int]:
    parts = []
    for _ in range(members):
        at = _name(content, at, padded=version < 3)
        wide = 4 if version < 3 else (size.bit_length() + 7) // 8
        offset = int.from_bytes(content[at : at + wide], "little")
        at += wide
        count = 1
        if version == 1:
            dimensions, *sizes = _numbers("<B11x4I", content, at)
            if dimensions > 4:
                raise MalformedError(f"a member with {dimensions} dimensions")
            count = prod(sizes[:dimensions])
            at += 28
        member, at = read(content, at, pointer, depth + 1)
        if offset + count * member.size > size:
            raise MalformedError(f"a member of {count} x {member.size} bytes from byte {offset} on, of {size}")
        parts.append(Part(offset, member, count))
    return Type(COMPOUND, size, tuple(parts)), _inside(content, at)


def _enum(content: bytes, at: int, size: int, members: int, version: int, pointer: int, depth: int) -> int:
    base, at = read(content, at, pointer, depth + 1)
    if base.kind != INTEGER or base.size != size:
        raise MalformedError(f"names of {size} bytes for numbers of {base.size}")
    for _ in range(members):
        at = _name(content, at, padded=version < 3)
    return at + members * size


def _array(content: bytes, at: int, size: int, version: int, pointer: int, depth: int) -> tuple[Type, int]:
    dimensions = _numbers("<B", content, at)[0]
    at += 4 if version < 3 else 1
    if not 1 <= dimensions <= 32:
        raise MalformedError(f"an array with {dimensions} dimensions")
    count = prod(_numbers(f"<{dimensions}I", content, at))
    at += dimensions * (8 if version < 3 else 4)
    base, at = read(content, at, pointer, depth + 1)
    if count * base.size != size:
        raise MalformedError(f"an array of {count} x {base.size} bytes in {size}")
    return Type(ARRAY, size, (Part(0, base, count),)), _inside(content, at)


def _name(content: bytes, at: int, *, padded: bool) -> int:
    """Where it ends."""
    end = content.find(b"\0", at)
    if end < 0:
        raise MalformedError("a name that does not end")
    return at + (end - at + 8 & ~7) if padded else end + 1


def _numbers(form: str, content: bytes, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, content, at)
    except struct.error:
        raise MalformedError("the description of a type is cut off") from None


def _inside(content: bytes, at: int) -> int:
    if at > len(content):
        raise MalformedError("the description of a type is cut off")
    return at
