from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from handeye.conventions.action_tokens import decode, encode, is_action


def test_ids_fall_as_values_rise() -> None:
    assert encode(np.array([-1.0, 0.0, 1.0])).tolist() == [31999, 31872, 31744]
    assert encode(np.array([-7.0, 7.0])).tolist() == [31999, 31744]


@given(st.floats(-1, 1))
def test_half_an_interval_is_lost_at_most(value: float) -> None:
    ids = encode(np.array([value]))
    assert is_action(ids).all()
    assert abs(decode(ids)[0] - value) <= 1 / 255 + 1e-12


def test_what_is_no_action_decodes_to_an_end_and_can_be_told() -> None:
    others = np.array([2, 29871, 31743, 32000, 32063])
    np.testing.assert_allclose(decode(others), np.array([1, 1, 1, -1, -1]) * 254 / 255)
    assert not is_action(others).any()
    assert is_action(np.arange(31744, 32000)).all()
