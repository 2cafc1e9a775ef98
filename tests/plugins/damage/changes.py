"""What can happen to a file: random damage of its bytes, of JSON's values, and damage that its checksums approve.

Every function takes a file's content and a generator of chance, and gives back other content and what was done, in
words. The same generator gives the same damage.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from handeye.data.hdf5 import precheck
from handeye.data.rlds.tfrecord import FOOTER, HEADER, framed

Change = Callable[[bytes, random.Random], tuple[bytes, str]]

EXTREMES = (0, 1, -1, 0x7F, 0x80, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFF, 1 << 62, 1 << 63, 0xFFFFFFFE)


def in_bytes(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """One to three blows anywhere; half of them near the ends, where most formats keep their lists."""
    said = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        content, what = chance.choice(_BLOWS)(content, chance)
        said.append(what)
    return content, ", ".join(said)


def _place(content: bytes, chance: random.Random) -> int:
    size = len(content)
    if not size:
        return 0
    near = min(size, 600)
    return chance.choice(
        (chance.randrange(size), chance.randrange(size), chance.randrange(near), size - 1 - chance.randrange(near))
    )


def _put(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new[: max(0, len(content) - at)] + content[at + len(new) :]


def _flip(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    changed, places = bytearray(content), [_place(content, chance) for _ in range(chance.choice((1, 1, 2, 8)))]
    for at in places if content else ():
        changed[at] ^= 1 << chance.randrange(8)
    return bytes(changed), f"bits flipped at {places}"


def _noise(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    at, length = _place(content, chance), chance.choice((1, 1, 2, 4, 8, 64))
    return _put(content, at, chance.randbytes(length)), f"{length} random bytes at {at}"


def _cut(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    at = _place(content, chance)
    return content[:at], f"cut at {at}"


def _fill(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    at, length, value = _place(content, chance), chance.choice((2, 4, 8, 32, 512, 4096)), chance.choice((0, 0, 255))
    return _put(content, at, bytes([value]) * length), f"{length} bytes of {value} at {at}"


def _insert(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    at, start, length = _place(content, chance), _place(content, chance), chance.choice((1, 3, 8, 64, 512))
    return content[:at] + content[start : start + length] + content[at:], f"bytes {start} + {length} again at {at}"


def _lose(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    at, length = _place(content, chance), chance.choice((1, 3, 8, 64, 512))
    return content[:at] + content[at + length :], f"{length} bytes lost at {at}"


def _swap(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    width = chance.choice((2, 4, 8, 8, 64))
    one, other = (_place(content, chance) // width * width for _ in range(2))
    first, second = content[one : one + width], content[other : other + width]
    if len(first) != len(second):
        return _flip(content, chance)
    return _put(_put(content, one, second), other, first), f"{width} bytes at {one} and {other} swapped"


def _copy(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    width, at, start = chance.choice((4, 8, 16, 64)), _place(content, chance), _place(content, chance)
    return _put(content, at, content[start : start + width]), f"{width} bytes at {at} as at {start}"


def _extreme(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Where a number may stand."""
    width, value = chance.choice((1, 2, 4, 8)), chance.choice(EXTREMES)
    at = _place(content, chance) // width * width if chance.random() < 0.7 else _place(content, chance)
    order = chance.choice(("little", "little", "big"))
    new = (value & ((1 << 8 * width) - 1)).to_bytes(width, order)  # type: ignore[arg-type]
    return _put(content, at, new), f"{value:#x} in {width} bytes ({order}) at {at}"


def _nudge(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """A number that is a little more, less, or twice as much."""
    width, at = chance.choice((1, 2, 4)), _place(content, chance)
    value = int.from_bytes(content[at : at + width], "little")
    value = chance.choice((value + 1, value - 1, value * 2, value + 8, value // 2)) & ((1 << 8 * width) - 1)
    return _put(content, at, value.to_bytes(width, "little")), f"{value} in {width} bytes at {at}"


_BLOWS: tuple[Change, ...] = (
    _flip, _flip, _noise, _noise, _cut, _fill, _insert, _lose, _swap, _copy, _extreme, _extreme, _extreme, _nudge,
)  # fmt: skip

_KEEPING: tuple[Change, ...] = (_flip, _noise, _fill, _swap, _copy, _extreme, _extreme, _extreme, _extreme, _nudge)
"""Those that move nothing."""


VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**18, 0.5, 1e308, -1e-300, float("nan"),
    float("inf"), "", "x", "../../x", "/etc/x", "\0", "\ud800", "ü" * 300, "1" * 5000, [], [[]], {}, {"a": {}}, [None],
    "-1",
)  # fmt: skip


def in_json(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """A value replaced, taken out, nested or told twice, in a file of one value or of one a line."""
    lines = content.decode().splitlines()
    number = chance.randrange(len(lines))
    try:
        found, place = json.loads(content), None
    except ValueError:
        found, place = json.loads(lines[number]), number
    holders = list(_holders(found))
    holder, key = chance.choice(holders) if holders else ({"": found}, "")
    value = chance.choice(VALUES)
    what = chance.choice(("replace", "replace", "replace", "remove", "nest", "deep", "other key", "more"))
    if what == "replace":
        holder[key] = value
    elif what == "remove":
        del holder[key]
    elif what == "nest":
        holder[key] = [holder[key]]
    elif what == "deep":
        holder[key] = "DEEP"
    elif what == "other key" and isinstance(holder, dict):
        holder[str(value)] = holder.pop(key)
    elif isinstance(holder, list):
        holder += [holder[key]] * chance.choice((1, 1000))
    said = f"{what} {key!r} ({value!r:.20})"
    text = json.dumps(found).replace('"DEEP"', "[" * 100_000 + "]" * 100_000)
    if place is None:
        return text.encode(), said
    changed = [*lines[:place], text, *lines[place + 1 :]]
    return ("\n".join(changed) + "\n").encode(), f"line {place + 1}: {said}"


def _holders(value: Any) -> list[tuple[Any, Any]]:
    """Every place in it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in ((value, key), *_holders(inner))]


def in_text(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    return (in_json if chance.random() < 0.7 else in_bytes)(content, chance)


_CHECKED = (b"OHDR", b"OCHK", b"FRHP", b"FHDB", b"FHIB", b"BTHD", b"BTLF", b"BTIN")
"""Signatures of what newer HDF5 files guard with checksums."""


def in_hdf5(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """One to three blows at what describes the data: most of a file is data, where damage does little."""
    places, said = _structures(content), []
    for _ in range(chance.choice((1, 1, 2, 3))):
        at, length = chance.choice(places), chance.choice((40, 40, 200, 1000))
        changed, what = chance.choice(_KEEPING)(content[at : at + length], chance)
        content = content[:at] + changed + content[at + length :]
        said.append(f"{what} of what is at {at}")
    return content, ", ".join(said)


@lru_cache(maxsize=16)
def _structures(content: bytes) -> list[int]:
    """Where trees, heaps, leaves and object headers begin, and the attributes in those."""
    walk = precheck.Walk(io.BytesIO(content), len(content))
    walk.superblock()
    found = {0, *walk.heaps, *(address for _, address in walk.seen)}
    found |= {at for name in _CHECKED for at in _all(content, name)}
    found |= {at for at in _all(content, b"\x0c\0") if at % 8 == 0}  # the kind of message that is an attribute
    return sorted(found)


def _all(content: bytes, wanted: bytes) -> list[int]:
    found = [content.find(wanted)]
    while found[-1] >= 0:
        found.append(content.find(wanted, found[-1] + 1))
    return found[:-1]


def in_record(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """A record of a TFRecord file damaged, and its length and checksums written anew."""
    records, at = [], 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        records.append(content[at + HEADER : at + HEADER + length])
        at += HEADER + length + FOOTER
    number = chance.randrange(len(records))
    records[number], said = in_bytes(records[number], chance)
    return b"".join(map(framed, records)), f"record {number}: {said}"


def in_png(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """A chunk damaged, and its length and checksum written anew."""
    chunks, at = [], 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append(content[at + 4 : at + 8 + length])
        at += length + 12
    number = chance.randrange(len(chunks))
    changed, said = in_bytes(chunks[number], chance)
    chunks[number] = changed
    framed = [struct.pack(">I", max(0, len(c) - 4)) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return content[:8] + b"".join(framed), f"chunk {number}: {said}"


def in_zip(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """A member damaged, and the archive made anew around it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    number = chance.randrange(len(members))
    damaged, said = in_bytes(members[number][1], chance)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for place, (info, inside) in enumerate(members):
            plain = zipfile.ZipInfo(info.filename)
            archive.writestr(plain, damaged if place == number else inside, info.compress_type)
    return out.getvalue(), f"{members[number][0].filename}: {said}"


def in_tar(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """A header damaged, and its checksum written anew."""
    headers, at = [], 0
    while content[at : at + 512].strip(b"\0"):
        headers.append(at)
        at += 512 + (int(content[at + 124 : at + 135], 8) + 511) // 512 * 512
    at = chance.choice(headers)
    damaged, said = in_bytes(content[at : at + 512], chance)
    block = bytearray(damaged[:512].ljust(512, b"\0"))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return content[:at] + bytes(block) + content[at + 512 :], f"header at {at}: {said}"


def either(*changes: Change) -> Change:
    def change(content: bytes, chance: random.Random) -> tuple[bytes, str]:
        return chance.choice(changes)(content, chance)

    return change
