"""tf.train.Example by hand: what is written reads back, other writers' forms are read, and nonsense ends early."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handeye.data.rlds.example import MalformedError, Values, encode, floats, integers, layout, spans


def field(number: int, wire: int, content: bytes) -> bytes:
    return bytes([number << 3 | wire]) + (bytes([len(content)]) if wire == 2 else b"") + content


def example(feature: bytes, name: bytes = b"a") -> bytes:
    """One feature of fewer than 100 bytes."""
    return field(1, 2, field(1, 2, field(1, 2, name) + field(2, 2, feature)))


def texts(data: bytes, values: Values, count: int) -> list[bytes]:
    return [data[start:stop] for start, stop in spans(data, values, count)]


READ = {
    "bytes": lambda data, values: spans(data, values, 3),
    "float": lambda data, values: floats(data, values, 9),
    "int64": lambda data, values: integers(data, values, 99),
    "None": lambda data, values: integers(data, values, 0),
}


def test_known_bytes() -> None:
    """Written by protobuf's own runtime: {"a": int64 [1, -1, 300], "b": float [1.5], "c": bytes ["xy", ""]}."""
    features = {"a": np.array([1, -1, 300]), "b": np.array([1.5], np.float32), "c": [b"xy", b""]}
    assert encode(features).hex() == (
        "0a360a160a016112111a0f0a0d01ffffffffffffffffff01ac02"
        "0a0d0a01621208120" "60a040000c03f"
        "0a0d0a016312080a060a0278790a00"
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40),
    st.lists(st.floats(width=32, allow_nan=False), max_size=40),
    st.lists(st.binary(max_size=300), max_size=20),
)
def test_round_trip(numbers: list[int], reals: list[float], strings: list[bytes]) -> None:
    written: dict[str, Any] = {"i": np.array(numbers, np.int64), "f": np.array(reals, np.float32), "b": strings}
    data = b"before" + encode(written) + b"after"
    found = layout(data, 6, len(data) - 5)
    assert list(found) == ["i", "f", "b"]
    np.testing.assert_array_equal(integers(data, found["i"], 40), written["i"])
    np.testing.assert_array_equal(floats(data, found["f"], 40), written["f"])
    assert texts(data, found["b"], len(strings)) == strings


def test_unpacked_lists_and_unknown_fields_are_read() -> None:
    """Legal, and written by some."""
    real = field(2, 2, field(1, 5, b"\0\0\xc0\x3f") + field(1, 5, b"\0\0\0\x40") + field(9, 1, bytes(8)))
    data = example(real)
    assert floats(data, layout(data, 0, len(data))["a"], 2).tolist() == [1.5, 2.0]
    whole = field(3, 2, field(1, 0, b"\x05") + field(1, 2, b"\x06\xac\x02"))
    data = example(whole)
    assert integers(data, layout(data, 0, len(data))["a"], 3).tolist() == [5, 6, 300]
    data = example(b"")  # a feature without a list
    assert floats(data, layout(data, 0, len(data))["a"], 3).tolist() == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01abc", "does not fit into its message"),  # 2**64 - 1 bytes
        (b"\x0a" + b"\xff" * 20, "does not end"),
        (b"\x0a\x05abc", "does not fit"),
        (b"\x0b", "wire type 3"),
        (field(2, 2, b"x"), "no tf.train.Example"),
        (field(1, 0, b"\x01"), "no tf.train.Example"),
        (field(1, 2, field(1, 2, field(2, 2, b""))), "has no name"),
        (example(b"", b"\xff"), "not UTF-8"),
        (example(field(1, 2, b"") + field(3, 2, b"")), "several lists"),
        (example(field(3, 2, b"")) * 2, "occurs twice"),
        (example(field(9, 0, b"\x01") * 20), "several lists"),
        (b"\x02\x00", "field 0"),
    ],
)
def test_what_is_no_example_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        layout(data, 0, len(data))


def test_lists_of_another_kind_or_length_are_refused() -> None:
    data = encode({"i": np.array([1, 2, 3]), "f": np.zeros(3, np.float32), "b": [b"x"] * 3})
    found = layout(data, 0, len(data))
    with pytest.raises(MalformedError, match="holds int64 values instead of float"):
        floats(data, found["i"], 9)
    with pytest.raises(MalformedError, match="holds float values instead of bytes"):
        spans(data, found["f"], 3)
    for count in (2, 4):
        with pytest.raises(MalformedError, match="byte strings"):
            spans(data, found["b"], count)
    big = encode({"i": np.zeros(1000, np.int64), "f": np.zeros(1000, np.float32)})
    found = layout(big, 0, len(big))
    with pytest.raises(MalformedError, match="too many for 9 values"):
        integers(big, found["i"], 9)
    with pytest.raises(MalformedError, match="too many for 9 values"):
        floats(big, found["f"], 9)
    for broken in (b"\x80\x80", b"\x80" * 11 + b"\x01"):
        data = example(field(3, 2, field(1, 2, broken)))
        with pytest.raises(MalformedError, match="does not end"):
            integers(data, layout(data, 0, len(data))["a"], 99)
    data = example(field(2, 2, field(1, 2, b"abc")))
    with pytest.raises(MalformedError, match="four bytes each"):
        floats(data, layout(data, 0, len(data))["a"], 9)


def test_nothing_recurses_and_nothing_takes_long() -> None:
    """Messages in messages in messages, and a million features of two bytes."""
    deep = b""
    for _ in range(30):
        deep = b"\x0a" + bytes([len(deep)]) + deep
    many = b"\x0a\x00" * 1_000_000
    start = time.process_time()
    assert [values.kind for values in layout(deep, 0, len(deep)).values()] == [None]  # the rest is a strange name
    nameless = b"\x0a\x80\x89\x7a" + many  # its length as a varint
    numbered = encode({str(n): [] for n in range(2000)})
    for data, why in ((nameless, "no name"), (numbered, "more than 1000 features")):
        with pytest.raises(MalformedError, match=why):
            layout(data, 0, len(data))
    assert time.process_time() - start < 1


def test_random_bytes_end_in_an_error_or_a_layout() -> None:
    rng, good = np.random.default_rng(0), encode({"i": np.arange(9), "f": np.zeros(3, np.float32), "b": [b"x"] * 3})
    refused = 0
    for _ in range(2000):
        data = bytearray(good)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        try:
            found = layout(bytes(data), 0, len(data))
            for values in found.values():
                assert 0 <= values.start <= values.stop <= len(data)
                READ[str(values.kind)](bytes(data), values)
        except MalformedError:
            refused += 1
    assert refused > 500
