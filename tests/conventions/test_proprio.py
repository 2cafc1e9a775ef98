from __future__ import annotations

import numpy as np

from handeye.conventions import proprio
from handeye.conventions.libero import PROPRIO


def test_both_sources_give_the_same_vector() -> None:
    rng = np.random.default_rng(0)
    position, fingers = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    quaternion = np.tile([0.0, 0.0, -np.sin(2.0), np.cos(2.0)], (5, 1))  # w < 0: 4 rad about -z, not 2.28 about z
    vector = proprio.from_observation(position, quaternion, fingers)
    assert vector.shape == (5, proprio.WIDTH) == (5, PROPRIO.width) and vector.dtype == np.float32
    np.testing.assert_allclose(vector[:, proprio.ORIENTATION], np.tile([0, 0, -4.0], (5, 1)), rtol=1e-6)
    ee_states = np.concatenate([position, np.tile([0, 0, -4.0], (5, 1))], axis=1)
    np.testing.assert_allclose(proprio.from_hdf5(ee_states, fingers), vector, rtol=1e-6)
    np.testing.assert_allclose(vector[:, proprio.FINGERS], fingers, rtol=1e-6)
    np.testing.assert_allclose(vector[:, proprio.POSITION], position, rtol=1e-6)
