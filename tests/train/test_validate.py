"""Figures with known answers, and the blind baselines beside them."""

from __future__ import annotations

import numpy as np
import pytest

from handeye.train.validate import Blind, compare

BLIND = Blind(median=np.array([0.1, 0, 1], np.float32), sign=np.array([1, -1, 1], np.float32))


def test_right_wrong_and_still_are_apart() -> None:
    true = np.array([[0.5, 0, 1], [0.5, 0, 1], [0.5, 0, -1], [-0.5, 0, 1], [0.01, 0, 1]], np.float32)
    answer = np.array([[0.4, 0, 1], [-0.4, 0, 1], [0.02, 0, 1], [-0.5, 0, -1], [0.9, 0, 1]], np.float32)
    found = compare(answer, true, BLIND, gripper=2)
    assert found["sign"][0] == {"moving": 0.8, "right": 0.5, "wrong": 0.25, "still": 0.25, "right_blind": 0.75}
    assert found["sign"][1]["moving"] == 0
    assert found["sign"][1]["right"] is None
    assert (found["gripper"], found["gripper_blind"]) == (0.6, 0.8)
    assert found["l1"][0] == pytest.approx((0.1 + 0.9 + 0.48 + 0 + 0.89) / 5, abs=1e-5)
    assert found["arm_l1"] == pytest.approx(found["l1"][0] / 2, abs=1e-5)
    assert found["l1_blind"][0] == pytest.approx((0.4 * 3 + 0.6 + 0.09) / 5, abs=1e-5)
    assert found["steps"] == 5
