from __future__ import annotations

import numpy as np
import pytest

from handeye.conventions.gripper import Gripper
from handeye.conventions.normalize import Normalizer
from handeye.conventions.rotation import Rotation
from handeye.data.pipeline.vectors import (
    AddState,
    ClipActions,
    ConvertGripper,
    ConvertProprioRotation,
    DecideGripper,
    DecodeTokens,
    NormalizeProprio,
    OpenVlaGripper,
    PadProprio,
    ScaleActions,
    TrimActions,
)
from handeye.errors import UserError

NORMALIZER = Normalizer(kind="bounds", low=(-2.0,) * 8, high=(2.0,) * 8, constant=(False,) * 8, mask=(True,) * 8)
ACTION = np.array([3.0, -3.0, 0.5, 0, 0, 0, 0.2, 0.2])


def test_proprio(item: dict) -> None:
    normalised = NormalizeProprio(NORMALIZER)(item)["proprio"]
    assert normalised.dtype == np.float64  # single precision comes at the very end
    np.testing.assert_allclose(normalised, item["proprio"] / 2, rtol=1e-5)
    padded = PadProprio(32)(item)["proprio"]
    np.testing.assert_array_equal(padded, np.concatenate([item["proprio"], np.zeros((3, 24))], axis=1))
    with pytest.raises(UserError, match="width 8 does not fit into 7"):
        PadProprio(7)(item)


def test_only_the_orientation_is_converted() -> None:
    vector = np.array([1, 2, 3, 0, 0, 4.0, 5, 6], np.float32)  # 4 rad about z is 2.28 rad the other way round
    step = ConvertProprioRotation(Rotation.AXIS_ANGLE_ROBOSUITE, Rotation.AXIS_ANGLE)
    np.testing.assert_allclose(step({"proprio": vector})["proprio"], [1, 2, 3, 0, 0, 4 - 2 * np.pi, 5, 6], rtol=1e-5)


def test_clip_and_scale() -> None:
    np.testing.assert_allclose(ClipActions(-1.0, 1.0)(ACTION, None)[:3], [1, -1, 0.5])
    np.testing.assert_allclose(ScaleActions((2.0,) * 8)(ACTION, None), 2 * ACTION)


def test_gripper() -> None:
    decided = DecideGripper(6, Gripper.PM1_CLOSE)(ACTION, None)
    assert decided[6] == 1 and decided[7] == 0.2
    assert DecideGripper(6, Gripper.ZERO_ONE_OPEN)(ACTION, None)[6] == 0
    assert ConvertGripper(6, Gripper.ZERO_ONE_OPEN, Gripper.PM1_CLOSE)(ACTION, None)[6] == pytest.approx(0.6)


def test_openvlas_gripper() -> None:
    """1 open, 0 closed; the robot -1 open, +1 closed. Half-way between the robot's ends counts as open."""
    step = OpenVlaGripper(0, binarize=True)
    assert step.target(np.array([[-1.0], [-0.3], [0.0], [0.25], [1.0]]), None).ravel().tolist() == [1, 1, 1, 0.75, 0]
    assert step(np.array([[0.0], [0.4], [0.5], [0.6], [1.0]]), None).ravel().tolist() == [1, 1, 0, -1, -1]
    assert OpenVlaGripper(0, binarize=False)(np.array([[0.6]]), None)[0, 0] == pytest.approx(-0.2)


def test_tokens_are_whole_numbers() -> None:
    step = DecodeTokens(32000)
    ids = step.target(np.array([-1.0, 0.0, 1.0]), None)
    assert ids.tolist() == [31999, 31872, 31744] and ids.dtype == np.int64
    np.testing.assert_allclose(step(ids, None), [-254 / 255, 0, 254 / 255])
    with pytest.raises(TypeError, match="integers"):
        step(ids.astype(np.float32), None)


def test_model_and_robot_widths() -> None:
    step = TrimActions(7, 32)
    actions = np.random.default_rng(0).normal(size=(4, 7))
    padded = step.target(actions, None)
    assert padded.shape == (4, 32) and not padded[:, 7:].any()
    np.testing.assert_array_equal(step(padded, None), actions)
    with pytest.raises(UserError, match="The model answers 7 numbers"):
        step(actions, None)
    with pytest.raises(UserError, match="The demonstration has 32 numbers"):
        step.target(padded, None)


def test_a_chunk_is_relative_to_the_state_it_was_asked_in() -> None:
    step = AddState((True, True, False))
    proprio = np.array([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]])
    chunk = np.zeros((2, 5, 3))
    np.testing.assert_array_equal(step(chunk, proprio)[:, 4], [[1, 2, 0], [10, 20, 0]])
    np.testing.assert_array_equal(step(chunk[0], proprio[0]), step(chunk, proprio)[0])
    np.testing.assert_array_equal(step.target(chunk[:, 0], proprio), [[-1, -2, 0], [-10, -20, 0]])
    with pytest.raises(UserError, match="relative to the robot's state, which is not given"):
        step(chunk, None)
