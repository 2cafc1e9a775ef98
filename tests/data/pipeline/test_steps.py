"""What holds for every step, whichever it is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from handeye.conventions.gripper import Gripper
from handeye.conventions.image import Orientation
from handeye.conventions.normalize import Normalizer
from handeye.conventions.plain import from_plain, to_plain
from handeye.conventions.rotation import Rotation
from handeye.data.pipeline import steps
from handeye.data.pipeline.vocabulary import Vocabulary

RNG = np.random.default_rng(0)
NORMALIZER = Normalizer(kind="bounds", low=(-2.0,) * 8, high=(2.0,) * 8, constant=(False,) * 8, mask=(True,) * 8)
HALF = (0.5, 0.5, 0.5)
ENCODERS = [
    steps.SelectCameras(("wrist", "agentview")),
    steps.TurnImages(Orientation.UPRIGHT, Orientation.TURNED_180),
    steps.CompressImages(),
    steps.ResizeImages(5, 4, "bilinear"),
    steps.FitImages(5, 4, "bilinear"),
    steps.CropImages(0.9),
    steps.NormalizeImages((HALF, HALF), (HALF, HALF)),
    steps.MarkCameras(("right_wrist",)),
    steps.ConvertProprioRotation(Rotation.AXIS_ANGLE_ROBOSUITE, Rotation.AXIS_ANGLE),
    steps.NormalizeProprio(NORMALIZER),
    steps.PadProprio(32),
    steps.ReplacePrompt("pick up the bowl"),
    steps.EncodePrompt(32),
    steps.OpenVlaPrompt,
    steps.OpenpiPrompt,
    steps.QwenPrompt,
]
DECODERS = [
    steps.DecodeTokens(32000),
    steps.TrimActions(8, 32),
    steps.UnnormalizeActions(NORMALIZER),
    steps.AddState((True,) * 6 + (False, False)),
    steps.ScaleActions((0.5,) * 8),
    steps.ClipActions(-1.0, 1.0),
    steps.DecideGripper(6, Gripper.PM1_CLOSE),
    steps.ConvertGripper(6, Gripper.ZERO_ONE_OPEN, Gripper.PM1_CLOSE),
    steps.OpenVlaGripper(6, binarize=True),
]
AUGMENTERS = [
    steps.ShiftImages(3),
    steps.JitterColours(0.1, 0.1, 0.1),
    steps.CropRandomly(0.9, diagonal=True),
    steps.VaryBrightness(0.2),
    steps.VaryContrast((0.8, 1.2)),
    steps.VarySaturation((0.8, 1.2)),
    steps.VaryHue(0.05),
    steps.RoundImages(),
    steps.WarpImages(("agentview",), crop=0.9, degrees=5.0),
    steps.JitterValue(0.3, 0.4, 0.1, share=0.5),
]
NAMES = {"ids": lambda step: step.__name__ if isinstance(step, type) else type(step).__name__}


def made(step: object, vocabulary: Vocabulary) -> object:
    """Prompt steps need a tokenizer, which needs a file."""
    if step is steps.OpenVlaPrompt:
        return steps.OpenVlaPrompt(vocabulary, 100)
    if step is steps.QwenPrompt:
        return steps.QwenPrompt(vocabulary, 100)
    return steps.OpenpiPrompt(vocabulary, 100, state=True) if step is steps.OpenpiPrompt else step


def test_all_steps_are_here(vocabulary: Vocabulary) -> None:
    assert [type(made(step, vocabulary)) for step in ENCODERS] == list(steps.ENCODE)
    assert [type(step) for step in DECODERS] == list(steps.DECODE)
    assert [type(step) for step in AUGMENTERS] == list(steps.AUGMENT)


@pytest.mark.parametrize("step", [*ENCODERS, *DECODERS, *AUGMENTERS], **NAMES)
def test_a_step_is_declared_as_json(step, vocabulary: Vocabulary) -> None:
    step = made(step, vocabulary)
    text = json.dumps(to_plain(step))
    assert "/" not in text  # no path is ever saved
    assert from_plain(type(step), json.loads(text), what="a step") == step


@pytest.mark.parametrize("step", ENCODERS, **NAMES)
def test_one_observation_is_encoded_like_a_row_of_an_episode(step, item: dict, vocabulary: Vocabulary) -> None:
    step = made(step, vocabulary)
    kept = {name: np.array(value) for name, value in item.items()}
    together = step(item)
    alone = step({n: v if n == "prompt" else v[1] for n, v in item.items()})
    assert list(together) == list(alone)
    one = {"prompt", "prompt_mask"} if np.ndim(together["prompt"]) < 2 else set()
    for name, value in together.items():
        np.testing.assert_array_equal(alone[name], value if name in one else value[1])
    for name, value in kept.items():
        np.testing.assert_array_equal(item[name], value)  # a step never edits its input


@pytest.mark.parametrize("step", DECODERS, **NAMES)
def test_targets_decode_to_the_demonstrated_actions(step) -> None:
    actions, proprio = RNG.uniform(-1, 1, (2, 5, 8)), RNG.uniform(-1, 1, (2, 9))
    actions[..., 6] = np.sign(actions[..., 6])
    kept = actions.copy()
    atol = 1 / 255 + 1e-6 if isinstance(step, steps.DecodeTokens) else 1e-6
    np.testing.assert_allclose(step(step.target(actions, proprio), proprio), actions, atol=atol)
    np.testing.assert_array_equal(actions, kept)


def generators(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def varied(step: steps.Augment, batch: dict, *seeds: int) -> dict:
    if isinstance(step, steps.RoundImages | steps.JitterValue):  # they take floats
        batch = {n: v / np.float32(255) if n.startswith("image.") else v for n, v in batch.items()}
    return dict(step(batch, generators(*seeds)))


@pytest.mark.parametrize("step", AUGMENTERS, **NAMES)
def test_how_a_sample_is_varied_depends_on_its_generator_alone(step, item: dict) -> None:
    """Not on its batch, nor on its place in it."""
    kept = {name: np.array(value) for name, value in item.items()}
    three = varied(step, item, 1, 2, 3)
    backwards = {n: v if n == "prompt" else v[[2, 0]] for n, v in item.items()}
    two = varied(step, backwards, 3, 1)
    for name in ("image.agentview", "image.wrist"):
        np.testing.assert_array_equal(two[name], three[name][[2, 0]])
    for name, value in kept.items():
        np.testing.assert_array_equal(item[name], value)


@pytest.mark.parametrize("step", [s for s in AUGMENTERS if not isinstance(s, steps.RoundImages)], **NAMES)
def test_other_generators_vary_otherwise(step, item: dict) -> None:
    some = [varied(step, item, *(start, start + 1, start + 2))["image.agentview"] for start in range(0, 12, 3)]
    assert all((one != some[0]).any() for one in some[1:])


@pytest.mark.parametrize("step", AUGMENTERS, **NAMES)
def test_varied_images_stay_in_range(step, item: dict) -> None:
    for image in (v for n, v in varied(step, item, 4, 5, 6).items() if n.startswith("image.")):
        top = 255 if image.dtype == np.uint8 else 1
        assert image.shape == (3, 8, 6, 3) and image.dtype in (np.uint8, np.float32)
        assert image.min() >= 0 and image.max() <= top + 1e-5


@pytest.mark.parametrize("step", [s for s in AUGMENTERS if not isinstance(s, steps.RoundImages)], **NAMES)
def test_one_generator_per_sample(step, item: dict) -> None:
    with pytest.raises(ValueError, match="zip"):
        varied(step, item, 1, 2)
