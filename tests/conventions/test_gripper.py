from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handeye.conventions.gripper import Gripper, convert, decide

OPEN = {Gripper.PM1_CLOSE: -1, Gripper.PM1_OPEN: 1, Gripper.ZERO_ONE_OPEN: 1, Gripper.ZERO_ONE_CLOSE: 0}
CLOSED = {Gripper.PM1_CLOSE: 1, Gripper.PM1_OPEN: -1, Gripper.ZERO_ONE_OPEN: 0, Gripper.ZERO_ONE_CLOSE: 1}


@pytest.mark.parametrize("there", Gripper)
@pytest.mark.parametrize("here", Gripper)
def test_open_stays_open(here: Gripper, there: Gripper) -> None:
    ends = np.array([OPEN[here], CLOSED[here]], np.float32)
    np.testing.assert_array_equal(convert(ends, source=here, target=there), [OPEN[there], CLOSED[there]])


@given(st.sampled_from(Gripper), st.sampled_from(Gripper), st.floats(-2, 2, width=32))
def test_round_trip(here: Gripper, there: Gripper, value: float) -> None:
    grip = np.array([value])
    back = convert(convert(grip, source=here, target=there), source=there, target=here)
    np.testing.assert_allclose(back, grip, atol=1e-12)


@pytest.mark.parametrize("convention", Gripper)
def test_decide_takes_the_nearer_end_and_opens_half_way(convention: Gripper) -> None:
    openness = np.array([-0.2, 0.49, 0.5, 0.51, 1.3])
    grips = convert(openness, source=Gripper.ZERO_ONE_OPEN, target=convention)
    expected = np.where(openness >= 0.5, OPEN[convention], CLOSED[convention])
    np.testing.assert_array_equal(decide(grips, convention), expected)


def test_as_openvla_makes_its_training_data() -> None:
    """gripper = 1 - clip(raw, 0, 1): raw -1 open, +1 close -> 1 open, 0 close."""
    raw = np.array([-1.0, 1.0])
    np.testing.assert_array_equal(
        convert(raw, source=Gripper.PM1_CLOSE, target=Gripper.ZERO_ONE_OPEN), 1 - np.clip(raw, 0, 1)
    )
