"""openpi's wire format: msgpack, with NumPy arrays and scalars as small maps under byte keys.

An array is `{b"__ndarray__": True, b"data": C-order bytes, b"dtype": dtype.str, b"shape": [...]}`, a NumPy scalar
`{b"__npgeneric__": True, b"data": its Python value, b"dtype": dtype.str}`. numpy.float64 and numpy.str_ are Python
floats and strings and travel as such. Arrays arrive as read-only views of the message.

What arrives is not trusted. `unpack` first walks over the message without building anything, so neither a declared
length nor a depth can make it allocate more than a small multiple of the bytes that are really there; a type that could
run code or hold references (objects, structures, extensions) is refused.
"""

from __future__ import annotations

import re
from typing import Any

import msgpack
import numpy as np

MAX_DEPTH = 32
"""Of nested lists and maps. An observation needs three or four."""

MAX_VALUES = 20_000
"""Values in one message, an array being a handful: what can be walked over in some 10 ms."""

NO_KINDS = "VOc"
"""NumPy kinds that openpi's client refuses to send: structures (hence bfloat16), objects, complex numbers."""

_DTYPE = re.compile(r"[<>|=]?(?:[biuf](?:1|2|4|8)|[SU]\d{1,9}|[mM]8\[[A-Za-z0-9]{1,8}\])")
_SCALARS: dict[str, tuple[type, ...]] = {"b": (bool,), "i": (int,), "u": (int,), "f": (float, int), "U": (str,)}
"""NumPy kind -> the Python types that a scalar's value may have."""

_ARRAY, _SCALAR = b"__ndarray__", b"__npgeneric__"


class WireError(ValueError):
    """A message that is not what this format allows."""


def pack(value: Any) -> bytes:
    """Python and NumPy values as one message. WireError where openpi's client refuses too."""
    try:
        packed: bytes = msgpack.packb(value, default=_to_map)
    except (TypeError, OverflowError, RecursionError) as error:
        raise WireError(str(error)) from None
    return packed


def unpack(message: bytes | str) -> Any:
    """The value in a message; arrays are read-only. WireError if it is damaged, hostile or not of this format."""
    if isinstance(message, str):
        raise WireError(f"expected a binary message, got text: {message[:200]!r}")
    _Walk(message).run()
    try:
        return msgpack.unpackb(message, object_hook=_from_map)
    except WireError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:  # text that is not UTF-8, a map as a key
        raise WireError(f"not a valid message: {type(error).__name__}: {error}") from None


def _to_map(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in NO_KINDS:
        raise WireError(f"Unsupported dtype: {value.dtype}")
    if isinstance(value, np.ndarray):
        return {_ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        plain = value.item()
        if isinstance(plain, np.generic):  # a long double has no Python value
            raise WireError(f"Unsupported dtype: {value.dtype}")
        return {_SCALAR: True, b"data": plain, b"dtype": value.dtype.str}
    raise WireError(f"a {type(value).__name__} cannot be sent")


def _from_map(value: dict[Any, Any]) -> Any:
    """msgpack calls this for every map, innermost first."""
    if _ARRAY in value:
        return _array(value)
    if _SCALAR in value:
        return _scalar(value)
    return value


def _array(value: dict[Any, Any]) -> np.ndarray:
    data, dtype, shape = value.get(b"data"), _dtype(value), value.get(b"shape")
    if not isinstance(data, bytes) or not isinstance(shape, list) or len(shape) > MAX_DEPTH:
        raise WireError("an array without its data or its shape")
    count = dtype.itemsize
    for size in shape:
        if type(size) is not int or not 0 <= size < 2**31:
            raise WireError(f"{size!r} is no array's size")
        count *= size
    if count != len(data):
        raise WireError(f"an array of shape {shape} and dtype {dtype.str} has {count} bytes, here are {len(data)}")
    try:
        return np.ndarray(shape, dtype, data)
    except ValueError as error:  # more elements than an index can count, though there are none of them
        raise WireError(f"an array of shape {shape}: {error}") from None


def _scalar(value: dict[Any, Any]) -> np.generic:
    data, dtype = value.get(b"data"), _dtype(value)
    if type(data) not in _SCALARS.get(dtype.kind, ()):
        raise WireError(f"a scalar of dtype {dtype.str} with the value {str(data)[:100]!r}")
    try:
        with np.errstate(over="ignore"):  # too large for a float32 is infinite, as everywhere
            made: np.generic = dtype.type(data)
    except OverflowError as error:
        raise WireError(f"a scalar of dtype {dtype.str}: {error}") from None
    return made


def _dtype(value: dict[Any, Any]) -> np.dtype[Any]:
    """Only names that NumPy itself would write for plain numbers, text and times: its parser knows far more."""
    name = value.get(b"dtype")
    if isinstance(name, str) and _DTYPE.fullmatch(name):
        try:
            return np.dtype(name)
        except TypeError:
            pass
    raise WireError(f"unsupported dtype {str(name)[:100]!r}")


class _Walk:
    """Steps over a message value by value. Lists and maps only count what they promise: nothing is allocated."""

    def __init__(self, message: bytes) -> None:
        self._message, self._at, self._values = message, 0, 0

    def run(self) -> None:
        left = [1]  # values still to come, per open list or map
        while left:
            if left[-1] == 0:
                left.pop()
                continue
            left[-1] -= 1
            inside = self._step()
            if inside:
                if len(left) > MAX_DEPTH:
                    raise WireError(f"nested more than {MAX_DEPTH} deep")
                left.append(inside)
        if self._at != len(self._message):
            raise WireError(f"{len(self._message) - self._at} bytes too many at the end")

    def _step(self) -> int:
        """Over one value; of a list or map only its head. Returns how many values are inside it."""
        tag = self._take(1)[0]
        inside = 0
        if tag <= 0x7F or tag >= 0xE0 or tag in (0xC0, 0xC2, 0xC3):  # small numbers, nil, False, True
            pass
        elif tag <= 0x8F:
            inside = 2 * (tag & 0x0F)
        elif tag <= 0x9F:
            inside = tag & 0x0F
        elif tag <= 0xBF:
            self._skip(tag & 0x1F)
        elif tag in _NUMBERS:
            self._skip(_NUMBERS[tag])
        elif tag in _TEXTS:
            self._skip(int.from_bytes(self._take(_TEXTS[tag]), "big"))
        elif tag in _LISTS:
            inside = int.from_bytes(self._take(_LISTS[tag]), "big")
        elif tag in _MAPS:
            inside = 2 * int.from_bytes(self._take(_MAPS[tag]), "big")
        else:
            raise WireError(f"a value of kind 0x{tag:02x} (an extension type, or none at all)")
        self._values += 1
        if self._values + inside > MAX_VALUES or inside > len(self._message) - self._at:
            raise WireError(
                f"a list or map of {inside} values, of which there is no room for {MAX_VALUES} in a message"
            )
        return inside

    def _take(self, count: int) -> bytes:
        self._skip(count)
        return self._message[self._at - count : self._at]

    def _skip(self, count: int) -> None:
        if count > len(self._message) - self._at:
            raise WireError(f"cut short: {count} bytes announced, {len(self._message) - self._at} there")
        self._at += count


# msgpack's first byte (its specification: spec.md in msgpack/msgpack) -> bytes of the number, or of the length
_NUMBERS = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_TEXTS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_LISTS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
