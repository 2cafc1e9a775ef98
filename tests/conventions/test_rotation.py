from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation as Reference

from handeye.conventions.rotation import Rotation, axis_angle, axis_angle_robosuite, convert, quaternion_xyzw

QUATERNIONS = np.random.default_rng(0).normal(size=(500, 4))
QUATERNIONS /= np.linalg.norm(QUATERNIONS, axis=1, keepdims=True)


@pytest.mark.parametrize("there", Rotation)
@pytest.mark.parametrize("here", Rotation)
def test_round_trip_is_the_same_orientation(here: Rotation, there: Rotation) -> None:
    first = convert(QUATERNIONS, source=Rotation.QUATERNION_XYZW, target=here)
    back = convert(convert(first, source=here, target=there), source=there, target=Rotation.QUATERNION_XYZW)
    away = (Reference.from_quat(back) * Reference.from_quat(QUATERNIONS).inv()).magnitude()
    assert away.max() < 1e-7


def test_canonical_equals_scipy() -> None:
    np.testing.assert_allclose(axis_angle(QUATERNIONS), Reference.from_quat(QUATERNIONS).as_rotvec(), atol=1e-12)


def test_robosuite_keeps_the_sign() -> None:
    """Its angle goes up to 2 pi: q and -q give different vectors, and both come back as they were."""
    turned = axis_angle_robosuite(QUATERNIONS)
    negative = QUATERNIONS[:, 3] < 0
    assert negative.sum() > 200
    angles = np.linalg.norm(turned, axis=1)
    assert (angles[negative] > math.pi).all() and (angles[~negative] <= math.pi).all()
    np.testing.assert_allclose(quaternion_xyzw(turned), QUATERNIONS, atol=1e-9)
    np.testing.assert_allclose(turned[~negative], axis_angle(QUATERNIONS)[~negative], atol=1e-9)


def test_robosuite_one_by_one() -> None:
    """The reference's scalar arithmetic, on the same numbers."""
    for q, ours in zip(QUATERNIONS, axis_angle_robosuite(QUATERNIONS), strict=True):
        expected = q[:3] * 2.0 * math.acos(q[3]) / math.sqrt(1.0 - q[3] * q[3])
        np.testing.assert_allclose(ours, expected, rtol=1e-14)


@pytest.mark.parametrize("variant", [axis_angle, axis_angle_robosuite])
def test_no_rotation_is_zero(variant) -> None:
    for w in (1.0, -1.0, 1.0 + 1e-12):  # the last: rounding above one is clamped
        np.testing.assert_array_equal(variant(np.array([0.0, 0.0, 0.0, w])), np.zeros(3))
    np.testing.assert_array_equal(quaternion_xyzw(np.zeros(3)), [0, 0, 0, 1])


def test_quaternion_orders() -> None:
    q = np.array([1.0, 2.0, 3.0, 4.0])
    wxyz = convert(q, source=Rotation.QUATERNION_XYZW, target=Rotation.QUATERNION_WXYZ)
    np.testing.assert_array_equal(wxyz, [4, 1, 2, 3])


def test_dtype_is_kept() -> None:
    for variant in (axis_angle, axis_angle_robosuite):
        assert variant(QUATERNIONS.astype(np.float32)).dtype == np.float32
    assert quaternion_xyzw(np.zeros((2, 3), np.float32)).dtype == np.float32
