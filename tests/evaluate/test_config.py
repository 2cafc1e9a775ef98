"""Flags that cannot mean anything are refused with the flag that would."""

from __future__ import annotations

from typing import Any

import pytest

from handeye.errors import UserError
from handeye.evaluate.config import EvaluateConfig


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"workers": 0}, "--workers"),
        ({"attempts": 0}, "--attempts"),
        ({"episodes": 0}, "--episodes"),
        ({"hang_after": 0.0}, "--hang-after"),
        ({"episodes": 3, "initial_states": "0:3"}, "--initial-states 0:10 is the same"),
        ({"initial_states": "3:3"}, "40:50"),
        ({"initial_states": "a:b"}, "40:50"),
        ({"initial_states": "-1:4"}, "40:50"),
        ({"initial_states": "4:"}, "40:50"),
    ],
)
def test_refused(flags: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as refused:
        EvaluateConfig(policy="zero", suite="fake", **flags)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "states"),
    [
        ({}, (0, None)),
        ({"episodes": 5}, (0, 5)),
        ({"initial_states": "40:50"}, (40, 50)),
        ({"initial_states": "7"}, (7, 8)),
    ],
)
def test_state_range(flags: dict[str, Any], states: tuple[int, int | None]) -> None:
    assert EvaluateConfig(policy="zero", suite="fake", **flags).state_range() == states
