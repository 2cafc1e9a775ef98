from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Literal

import pytest

from handeye.conventions.gripper import Gripper
from handeye.conventions.plain import from_plain, to_plain
from handeye.errors import UserError


@dataclass(frozen=True)
class Inner:
    ends: tuple[float, float]
    gripper: Gripper


@dataclass(frozen=True)
class Outer:
    name: str
    count: int
    kind: Literal["a", "b"]
    parts: tuple[tuple[str, int], ...]
    inner: Inner
    maybe: Inner | None


VALUE = Outer(
    name="x",
    count=3,
    kind="b",
    parts=(("p", 1), ("q", 2)),
    inner=Inner((0.1, 1 / 3), Gripper.PM1_CLOSE),
    maybe=None,
)


@pytest.mark.parametrize("value", [VALUE, replace(VALUE, maybe=VALUE.inner)])
def test_round_trip_through_text(value: Outer) -> None:
    assert from_plain(Outer, json.loads(json.dumps(to_plain(value))), what="it") == value


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"extra": 1}, "unknown field 'extra'"),
        ({"name": 5}, "name cannot be read.\n  why: expected str, found 5"),
        ({"count": True}, "expected int, found True"),
        ({"count": 1.0}, "expected int, found 1.0"),
        ({"kind": "c"}, "'c' is none of 'a', 'b'"),
        ({"parts": "pq"}, "expected a list"),
        ({"parts": [["p", 1], ["q"]]}, r"parts\[1\] cannot be read.\n  why: expected 2 values, found 1"),
        ({"inner": {"ends": [0, 1], "gripper": "OPEN"}}, "'OPEN' is none of PM1_CLOSE"),
        ({"inner": {"ends": [0, "1"], "gripper": "PM1_CLOSE"}}, r"ends\[1\] cannot be read"),
        ({"inner": {"ends": [0, 1], "gripper": ["PM1_CLOSE"]}}, "is none of PM1_CLOSE"),
        ({"inner": {"ends": [0, float("nan")], "gripper": "PM1_CLOSE"}}, "nan is not a finite number"),
        ({"inner": {"ends": [0, 10**400], "gripper": "PM1_CLOSE"}}, "is not a finite number"),
        ({"inner": [0, 1]}, "expected an object"),
    ],
)
def test_what_does_not_fit_is_named(change: dict, why: str) -> None:
    with pytest.raises(UserError, match=why):
        from_plain(Outer, to_plain(VALUE) | change, what="it")


def test_a_missing_field_is_not_defaulted() -> None:
    plain = to_plain(VALUE)
    del plain["maybe"]
    with pytest.raises(UserError, match="field 'maybe' is missing"):
        from_plain(Outer, plain, what="it")


def test_only_plain_values_are_declared() -> None:
    with pytest.raises(TypeError, match="list"):
        to_plain(replace(VALUE, name=["not", "frozen"]))  # type: ignore[arg-type]
