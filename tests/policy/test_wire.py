"""Hostile and damaged messages end in one kind of error, soon, without using memory for what is only announced."""

from __future__ import annotations

import pickle
import random
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from handeye.policy.wire import MAX_DEPTH, MAX_VALUES, WireError, pack, unpack


def array(data: Any, dtype: Any, shape: Any, **more: Any) -> bytes:
    """An array's map with these parts, whatever they are; None leaves one out."""
    parts = {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape, **more}
    return bytes(msgpack.packb({key: value for key, value in parts.items() if value is not None}))


def scalar(data: Any, dtype: Any) -> bytes:
    return bytes(msgpack.packb({b"__npgeneric__": True, b"data": data, b"dtype": dtype}))


VALUE = {
    "observation/image": np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
    "observation/state": np.linspace(-1, 1, 8),
    "prompt": "pick up the cube",
    "more": [np.float32(0.5), {"a": None, b"b": [True, -7, 2**40]}],
}

BAD = {
    "an object array": array(b"\0" * 8, "|O", [1]),
    "a pickle in an object array": array(pickle.dumps(print), "|O8", [1]),
    "a structure": array(b"\0" * 8, "i4,i4", [1]),
    "a subarray dtype": array(b"\0" * 8, "(2000000000,)i4", [1]),
    "a dtype NumPy would evaluate": array(b"\0" * 8, "{'names':['a'],'formats':['O']}", [1]),
    "void": array(b"\0" * 2, "|V2", [1]),
    "complex": array(b"\0" * 16, "<c16", [1]),
    "a dtype that is no text": array(b"\0" * 4, 4, [1]),
    "an unknown dtype": array(b"\0" * 4, "<q9", [1]),
    "a width that does not exist": array(b"\0" * 3, "<f3", [1]),
    "an unknown unit of time": array(b"\0" * 8, "<M8[parsec]", [1]),
    "too few bytes": array(b"\0" * 7, "<f8", [1]),
    "too many bytes": array(b"\0" * 9, "<f8", [1]),
    "a huge shape": array(b"", "<f8", [2**30, 2**30, 2**30]),
    "a size past counting beside a zero": array(b"", "<f8", [0] + [2**31 - 1] * 4),
    "a negative size": array(b"", "<f8", [-1, 0]),
    "a fractional size": array(b"", "<f8", [0.0]),
    "a truth value as a size": array(b"\0" * 8, "<f8", [True]),
    "a shape that is a number": array(b"\0" * 8, "<f8", 1),
    "more axes than anybody needs": array(b"\0", "|u1", [1] * 64),
    "no data": array(None, "<f8", [0]),
    "data as text": array("abcdefgh", "<f8", [1]),
    "no dtype": array(b"\0" * 8, None, [1]),
    "no shape": array(b"\0" * 8, "<f8", None),
    "a scalar that is a list": scalar([1, 2], "<f4"),
    "a scalar too large": scalar(300, "|u1"),
    "a negative unsigned scalar": scalar(-1, "|u1"),
    "a float as an integer": scalar(1.5, "<i4"),
    "a number as text": scalar("12", "<i8"),
    "an object scalar": scalar(1, "|O"),
    "an extension type": bytes(msgpack.packb(msgpack.ExtType(5, b"abc"))),
    "a time stamp": bytes(msgpack.packb(msgpack.Timestamp(1))),
    "a list as a key": b"\x81\x91\x01\x01",
    "a number as a key": b"\x81\x01\x01",
    "text that is not UTF-8": b"\xa2\xff\xfe",
    "the byte that means nothing": b"\xc1",
    "nothing": b"",
    "something after the end": pack(1) + b"\x01",
    "a text longer than the message": b"\xdb\xff\xff\xff\xffabc",
    "bytes longer than the message": b"\xc6\xff\xff\xff\xffabc",
    "a list longer than the message": b"\xdd\xff\xff\xff\xff\x01",
    "a map longer than the message": b"\xdf\xff\xff\xff\xff\xa1a\x01",
    "nested lists": b"\x91" * 100_000 + b"\x01",
    "nested maps": b"\x81\xa1a" * 100_000 + b"\x01",
    "one level too deep": b"\x91" * (MAX_DEPTH + 1) + b"\x01",
    "too many values": bytes(msgpack.packb([0] * MAX_VALUES)),
    "too many values in small lists": bytes(msgpack.packb([[0] * 100] * (MAX_VALUES // 100))),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    with pytest.raises(WireError):
        unpack(BAD[name])
    inside = b"\x82\xa1a\x01\xa1b" + BAD[name]  # and as a part of something sound
    with pytest.raises(WireError):
        unpack(inside)


def test_text_is_refused() -> None:
    with pytest.raises(WireError, match="got text"):
        unpack("hello")


def test_memory_is_bounded_by_what_is_there() -> None:
    """Thirty nested lists that each announce as many values as the message has bytes: msgpack alone would allocate
    eight bytes for each of them, at every level."""
    size = 4_000_000
    nested = (b"\xdd" + (size // 2).to_bytes(4, "big")) * 30 + b"\x00" * size
    with pytest.raises(WireError):  # the first use of anything allocates once
        unpack(nested)
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            unpack(nested)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_every_cut_and_many_flips_of_a_sound_message() -> None:
    """Whatever happens to a message, the result is a value or a WireError."""
    message = pack(VALUE)
    for end in range(len(message)):
        with pytest.raises(WireError):
            unpack(message[:end])
    chance = random.Random(0)
    refused = 0
    for _ in range(3000):
        damaged = bytearray(message)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            unpack(bytes(damaged))
        except WireError:
            refused += 1
    assert 300 < refused < 3000


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False)
        | st.text()
        | st.binary()
        | hnp.arrays(
            hnp.integer_dtypes(endianness="?") | hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
            hnp.array_shapes(min_dims=0, min_side=0),
        ),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text() | st.binary().filter(lambda key: not key.startswith(b"__")), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_what_is_sent_arrives(value: Any) -> None:
    """All but a map under the format's own keys, which mean an array or a scalar."""
    message = pack(value)
    arrived = unpack(message)
    assert pack(arrived) == message
    if isinstance(value, np.ndarray):
        assert (arrived.dtype, arrived.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(arrived, value)
        assert not arrived.flags.writeable


def test_what_cannot_be_sent() -> None:
    for value in (object(), {1, 2}, 2**70, np.longdouble(1), np.zeros(1, "i4,i4"), np.datetime64("2020-01-01")):
        with pytest.raises(WireError):
            pack({"x": value})


def test_times_and_text_travel_in_arrays() -> None:
    for value in (np.array(["2020-01-01"], "M8[ns]"), np.array([1, 2], "m8[us]"), np.array([b"ab"]), np.array(["é"])):
        arrived = unpack(pack(value))
        assert arrived.dtype == value.dtype
        np.testing.assert_array_equal(arrived, value)
