from __future__ import annotations

import numpy as np

from handeye.data.pipeline.augment import JitterColours, ShiftImages


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


def ramp(batch: int = 40) -> dict:
    """Images whose pixel values are their own coordinates."""
    image = np.zeros((batch, 16, 16, 3), np.uint8)
    image[..., 0] = np.arange(16)[:, None]
    image[..., 1] = np.arange(16)
    return {"image.wrist": image, "proprio": np.zeros((batch, 8), np.float32)}


def test_shift_moves_whole_pixels_within_its_limit() -> None:
    shifted = ShiftImages(3)(ramp(), generators(40))["image.wrist"].astype(int)
    offsets = {(frame[8, 8, 0] - 8, frame[8, 8, 1] - 8) for frame in shifted}
    assert len(offsets) > 15 and max(abs(x) for pair in offsets for x in pair) == 3
    for frame in shifted:
        y, x = frame[8, 8, :2] - 8
        np.testing.assert_array_equal(frame[:, 0, 0], np.clip(np.arange(16) + y, 0, 15))  # edges are repeated
        np.testing.assert_array_equal(frame[0, :, 1], np.clip(np.arange(16) + x, 0, 15))


def test_no_shift_is_no_change() -> None:
    batch = ramp()
    np.testing.assert_array_equal(ShiftImages(0)(batch, generators(40))["image.wrist"], batch["image.wrist"])


def test_jitter_is_affine_per_channel_and_within_its_limits() -> None:
    batch = {"image.wrist": np.tile(np.arange(256, dtype=np.uint8)[None, :, None, None], (50, 1, 1, 3))}
    varied = JitterColours(0.1, 0.2, 0.05)(batch, generators(50))["image.wrist"][:, :, 0].astype(float)
    middle = varied[:, 120:136].mean(1) - 127.5
    assert np.abs(middle).max() <= 0.1 * 255 + 1 and np.abs(middle).max() > 10
    np.testing.assert_allclose(middle, middle[:, :1].repeat(3, 1), atol=1)  # brightness is one for all channels
    gains = (varied[:, 150] - varied[:, 110]) / 40
    assert gains.min() >= 0.8 * 0.95 - 0.03 and gains.max() <= 1.2 * 1.05 + 0.03
    assert gains.std() > 0.05 and np.abs(gains - gains.mean(1, keepdims=True)).max() > 0.02
    nothing = JitterColours(0.0, 0.0, 0.0)(batch, generators(50))["image.wrist"]
    np.testing.assert_array_equal(nothing, batch["image.wrist"])
