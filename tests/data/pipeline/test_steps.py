from __future__ import annotations

import numpy as np
import pytest

from handeye.conventions.gripper import Gripper
from handeye.conventions.image import Orientation
from handeye.conventions.normalize import Normalizer
from handeye.conventions.rotation import Rotation
from handeye.data.pipeline.steps import (
    DECODE,
    ENCODE,
    ClipActions,
    ConvertGripper,
    ConvertProprioRotation,
    DecideGripper,
    EncodePrompt,
    JitterColours,
    NormalizeProprio,
    ResizeImages,
    ScaleActions,
    SelectCameras,
    ShiftImages,
    TurnImages,
    UnnormalizeActions,
)
from handeye.errors import UserError

RNG = np.random.default_rng(0)
NORMALIZER = Normalizer(kind="bounds", low=(-2.0,) * 8, high=(2.0,) * 8, constant=(False,) * 8, mask=(True,) * 8)
ENCODERS = [
    SelectCameras(("wrist", "agentview")),
    TurnImages(Orientation.UPRIGHT, Orientation.TURNED_180),
    ResizeImages(5, 4, "bilinear"),
    ConvertProprioRotation(Rotation.AXIS_ANGLE_ROBOSUITE, Rotation.AXIS_ANGLE),
    NormalizeProprio(NORMALIZER),
    EncodePrompt(32),
]
DECODERS = [
    UnnormalizeActions(NORMALIZER),
    ScaleActions((0.5,) * 8),
    ClipActions(-1.0, 1.0),
    DecideGripper(6, Gripper.PM1_CLOSE),
    ConvertGripper(6, Gripper.ZERO_ONE_OPEN, Gripper.PM1_CLOSE),
]


def make_item(steps: int = 3) -> dict:
    images = {
        f"image.{name}": RNG.integers(0, 256, (steps, 8, 6, 3), dtype=np.uint8) for name in ("agentview", "wrist")
    }
    return {**images, "proprio": RNG.normal(size=(steps, 8)).astype(np.float32), "prompt": "Open  the Drawer"}


def test_all_steps_are_here() -> None:
    assert [type(step) for step in ENCODERS] == list(ENCODE)
    assert [type(step) for step in DECODERS] == list(DECODE)


@pytest.mark.parametrize("step", ENCODERS, ids=lambda step: type(step).__name__)
def test_one_observation_is_encoded_like_a_row_of_an_episode(step) -> None:
    item = make_item()
    kept = {name: np.array(value) for name, value in item.items()}
    together = step(item)
    alone = step({n: v if n == "prompt" else v[1] for n, v in item.items()})
    assert list(together) == list(alone)
    for name, value in together.items():
        np.testing.assert_array_equal(alone[name], value if name == "prompt" else value[1])
    for name, value in kept.items():
        np.testing.assert_array_equal(item[name], value)  # a step never edits its input


def test_what_encode_steps_do() -> None:
    item = make_item()
    assert [n for n in SelectCameras(("wrist",))(item) if n.startswith("image.")] == ["image.wrist"]
    turned = TurnImages(Orientation.UPRIGHT, Orientation.TURNED_180)(item)["image.wrist"]
    np.testing.assert_array_equal(turned, item["image.wrist"][:, :, ::-1])
    assert ResizeImages(5, 4, "area")(item)["image.agentview"].shape == (3, 5, 4, 3)
    np.testing.assert_allclose(NormalizeProprio(NORMALIZER)(item)["proprio"], item["proprio"] / 2, rtol=1e-5)
    assert bytes(i - 1 for i in EncodePrompt(32)(item)["prompt"] if i) == b"open the drawer"


def test_a_missing_camera_is_an_error() -> None:
    with pytest.raises(UserError, match="through the camera 'front', which is not there"):
        SelectCameras(("agentview", "front"))(make_item())


def test_only_the_orientation_is_converted() -> None:
    vector = np.array([1, 2, 3, 0, 0, 4.0, 5, 6], np.float32)  # 4 rad about z is 2.28 rad the other way round
    changed = ConvertProprioRotation(Rotation.AXIS_ANGLE_ROBOSUITE, Rotation.AXIS_ANGLE)({"proprio": vector})["proprio"]
    np.testing.assert_allclose(changed, [1, 2, 3, 0, 0, 4 - 2 * np.pi, 5, 6], rtol=1e-5)


@pytest.mark.parametrize("step", DECODERS, ids=lambda step: type(step).__name__)
def test_targets_decode_to_the_demonstrated_actions(step) -> None:
    actions = RNG.uniform(-1, 1, (2, 5, 8)).astype(np.float32)
    actions[..., 6] = np.sign(actions[..., 6])
    kept = actions.copy()
    np.testing.assert_allclose(step(step.target(actions)), actions, atol=1e-6)
    assert step(actions).dtype == step.target(actions).dtype == np.float32
    np.testing.assert_array_equal(actions, kept)


def test_what_decode_steps_do() -> None:
    actions = np.array([3.0, -3.0, 0.5, 0, 0, 0, 0.2, 0.2], np.float32)
    np.testing.assert_allclose(ClipActions(-1.0, 1.0)(actions)[:3], [1, -1, 0.5])
    decided = DecideGripper(6, Gripper.PM1_CLOSE)(actions)
    assert decided[6] == 1 and decided[7] == np.float32(0.2)
    assert DecideGripper(6, Gripper.ZERO_ONE_OPEN)(actions)[6] == 0
    assert ConvertGripper(6, Gripper.ZERO_ONE_OPEN, Gripper.PM1_CLOSE)(actions)[6] == pytest.approx(0.6)
    np.testing.assert_allclose(ScaleActions((2.0,) * 8)(actions), 2 * actions)


def ramp(batch: int = 40) -> dict:
    """Images whose pixel values are their own coordinates."""
    image = np.zeros((batch, 16, 16, 3), np.uint8)
    image[..., 0] = np.arange(16)[:, None]
    image[..., 1] = np.arange(16)
    return {"image.wrist": image, "proprio": np.zeros((batch, 8), np.float32)}


def test_shift_moves_whole_pixels_within_its_limit() -> None:
    batch = ramp()
    shifted = ShiftImages(3)(batch, np.random.default_rng(0))["image.wrist"].astype(int)
    offsets = {(frame[8, 8, 0] - 8, frame[8, 8, 1] - 8) for frame in shifted}
    assert len(offsets) > 15 and max(abs(x) for pair in offsets for x in pair) == 3
    for frame in shifted:
        y, x = frame[8, 8, :2] - 8
        np.testing.assert_array_equal(frame[:, 0, 0], np.clip(np.arange(16) + y, 0, 15))  # edges are repeated
        np.testing.assert_array_equal(frame[0, :, 1], np.clip(np.arange(16) + x, 0, 15))


def test_no_shift_is_no_change() -> None:
    batch = ramp()
    same = ShiftImages(0)(batch, np.random.default_rng(0))["image.wrist"]
    np.testing.assert_array_equal(same, batch["image.wrist"])


def test_jitter_is_affine_per_channel_and_within_its_limits() -> None:
    batch = {"image.wrist": np.tile(np.arange(256, dtype=np.uint8)[None, :, None, None], (50, 1, 1, 3))}
    varied = JitterColours(0.1, 0.2, 0.05)(batch, np.random.default_rng(0))["image.wrist"][:, :, 0].astype(float)
    middle = varied[:, 120:136].mean(1) - 127.5
    assert np.abs(middle).max() <= 0.1 * 255 + 1 and np.abs(middle).max() > 10
    np.testing.assert_allclose(middle, middle[:, :1].repeat(3, 1), atol=1)  # brightness is one for all channels
    gains = (varied[:, 150] - varied[:, 110]) / 40
    assert gains.min() >= 0.8 * 0.95 - 0.03 and gains.max() <= 1.2 * 1.05 + 0.03
    assert gains.std() > 0.05 and np.abs(gains - gains.mean(1, keepdims=True)).max() > 0.02
    nothing = JitterColours(0.0, 0.0, 0.0)(batch, np.random.default_rng(0))["image.wrist"]
    np.testing.assert_array_equal(nothing, batch["image.wrist"])


@pytest.mark.parametrize("step", [ShiftImages(3), JitterColours(0.1, 0.1, 0.1)], ids=lambda step: type(step).__name__)
def test_augmentation_is_a_function_of_its_generator(step) -> None:
    batch = ramp()
    kept = batch["image.wrist"].copy()
    first, again, other = (step(batch, np.random.default_rng(seed))["image.wrist"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(batch["image.wrist"], kept)
