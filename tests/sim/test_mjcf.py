"""MJCF elements say exactly what Python said."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from handeye.sim.mjcf import add, document, element, text


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_survive(numbers: list[float]) -> None:
    assert [float(word) for word in text(numbers).split()] == numbers


def test_document() -> None:
    root = element("mujoco", model="m")
    add(root, "geom", kind="box", size=(1, 0.1, np.pi))
    assert document(root) == f'<mujoco model="m">\n  <geom type="box" size="1 0.1 {np.pi!r}" />\n</mujoco>'
