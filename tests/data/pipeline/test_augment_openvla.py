"""Whether the operations are TensorFlow's is the business of `tests/parity`; here: what is drawn, within which
limits."""

from __future__ import annotations

import numpy as np
import pytest

from handeye.data.pipeline import steps
from handeye.data.pipeline.published import OPENVLA_AUGMENT

BATCH = 60


def generators(count: int = BATCH) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


def coordinates() -> np.ndarray:
    """Images whose red is their row and whose green is their column, in [0, 1]."""
    image = np.zeros((BATCH, 32, 32, 3), np.float32)
    image[..., 0] = np.linspace(0, 1, 32)[:, None]
    image[..., 1] = np.linspace(0, 1, 32)
    return image


@pytest.mark.parametrize("diagonal", [True, False])
def test_crops_lie_within_the_image_and_on_the_diagonal_if_so_declared(diagonal: bool) -> None:
    out = steps.CropRandomly(0.9, diagonal=diagonal)({"image.a": coordinates()}, generators())["image.a"]
    top, left, bottom = out[:, 0, 0, 0], out[:, 0, 0, 1], out[:, -1, 0, 0]
    side = np.sqrt(0.9)
    np.testing.assert_allclose(bottom - top, side, atol=1e-5)
    assert top.min() >= 0 and top.max() <= 1 - side + 1e-6 and np.ptp(top) > 0.04
    assert (np.abs(top - left).max() < 1e-6) == diagonal


def test_brightness_contrast_saturation_and_hue_move_what_they_say() -> None:
    grey = np.full((BATCH, 4, 4, 3), 0.5, np.float32)
    delta = steps.VaryBrightness(0.2)({"image.a": grey}, generators())["image.a"][:, 0, 0, 0] - 0.5
    assert delta.min() < -0.15 and delta.max() > 0.15 and np.abs(delta).max() <= 0.2
    halves = np.full((BATCH, 4, 4, 3), 0.4, np.float32)
    halves[:, :2] = 0.6
    spread = np.ptp(steps.VaryContrast((0.8, 1.2))({"image.a": halves}, generators())["image.a"], axis=1)[:, 0, 0] / 0.2
    assert spread.min() < 0.85 and spread.max() > 1.15 and (abs(spread - 1) <= 0.2 + 1e-5).all()
    rusty = np.broadcast_to(np.array([0.6, 0.4, 0.4], np.float32), (BATCH, 4, 4, 3))
    varied = steps.VarySaturation((0.8, 1.2))({"image.a": rusty}, generators())["image.a"][:, 0, 0]
    assert np.allclose(varied[:, 0], 0.6) and np.ptp(varied[:, 1]) > 0.05
    turned = steps.VaryHue(0.05)({"image.a": rusty}, generators())["image.a"][:, 0, 0]
    assert np.allclose(turned.max(1), 0.6) and np.allclose(turned.min(1), 0.4)
    assert np.ptp(turned[:, 1]) > 0.02 and np.ptp(turned[:, 2]) > 0.02


def test_grey_has_no_hue() -> None:
    """No division by a spread of nothing: warnings are errors here."""
    levels = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 4, 4, 1).repeat(3, -1)
    for step in (steps.VaryHue(0.05), steps.VarySaturation((0.8, 1.2)), steps.JitterValue(0.0, 0.0, 0.1, share=1.0)):
        np.testing.assert_allclose(step({"image.a": levels}, generators(1))["image.a"], levels, atol=1e-6)


def test_the_whole_of_it_gives_levels_again() -> None:
    batch = {"image.a": np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)}
    rngs = generators(3)
    for step in OPENVLA_AUGMENT:
        batch = step(batch, rngs)
    assert batch["image.a"].dtype == np.uint8 and batch["image.a"].std() > 30
