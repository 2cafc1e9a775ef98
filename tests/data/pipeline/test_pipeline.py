from __future__ import annotations

import json

import numpy as np
import pytest

from handeye.conventions.libero import specs
from handeye.data.pipeline.pipeline import Pipeline, standard_pipeline
from handeye.data.pipeline.steps import EncodePrompt, JitterColours, ShiftImages
from handeye.data.statistics import measure
from handeye.errors import UserError
from handeye.types import Observation

RNG = np.random.default_rng(0)


@pytest.fixture
def pipeline(demo) -> Pipeline:
    episodes = [demo(30, seed).episode(id=str(seed), task="x", prompt="x", source={}) for seed in range(3)]
    statistics = measure((episode.actions, episode.proprio) for episode in episodes)
    return standard_pipeline(
        specs(camera_size=12),
        statistics,
        image_size=6,
        prompt_length=32,
        augment=(ShiftImages(2), JitterColours(0.1, 0.1, 0.05)),
    )


def test_round_trip_through_text(pipeline: Pipeline) -> None:
    text = json.dumps(pipeline.to_json())
    assert Pipeline.from_json(json.loads(text)) == pipeline
    assert json.dumps(Pipeline.from_json(json.loads(text)).to_json()) == text


def test_an_observation_is_encoded_like_the_step_of_an_episode(pipeline: Pipeline, demo) -> None:
    episode = demo(30, 1).episode(id="1", task="x", prompt="Put the bowl  away", source={})
    rows = pipeline.encode_episode(episode)
    assert {name: (value.dtype.name, value.shape) for name, value in rows.items()} == {
        "image.agentview": ("uint8", (30, 6, 6, 3)),
        "image.wrist": ("uint8", (30, 6, 6, 3)),
        "proprio": ("float32", (30, 8)),
        "prompt": ("int64", (32,)),
    }
    for step in (0, 17):
        images = {name: frames[step] for name, frames in episode.images.items()}
        seen = Observation(images=images, proprio=episode.proprio[step].astype(np.float32), prompt=episode.prompt)
        for name, value in pipeline.encode(seen).items():
            np.testing.assert_array_equal(value, rows[name] if name == "prompt" else rows[name][step])


def test_targets_decode_to_the_demonstrated_actions(pipeline: Pipeline, demo) -> None:
    actions = demo(30, 1).actions.astype(np.float32)
    targets = pipeline.targets(actions)
    assert targets.dtype == np.float32 and np.abs(targets).max() <= 1
    np.testing.assert_array_equal(targets[:, 6], actions[:, 6])  # the gripper is -1 or +1 as it is
    decoded = pipeline.decode(targets)
    inside = (np.abs(targets[:, :6]) < 1).all(1)
    assert inside.sum() > 20
    np.testing.assert_allclose(decoded[inside], actions[inside], atol=1e-6)


def test_decoded_actions_are_what_the_robot_takes(pipeline: Pipeline) -> None:
    wild = (10 * RNG.normal(size=(4, 8, 7))).astype(np.float32)
    actions = pipeline.decode(wild)
    assert np.abs(actions).max() <= 1 and set(np.unique(actions[..., 6])) == {-1.0, 1.0}
    np.testing.assert_array_equal(actions[..., 6], np.where(wild[..., 6] > 0, 1, -1))


def test_a_prompt_must_be_encoded(pipeline: Pipeline) -> None:
    without = tuple(step for step in pipeline.encode_steps if not isinstance(step, EncodePrompt))
    images = {name: np.zeros((12, 12, 3), np.uint8) for name in ("agentview", "wrist")}
    seen = Observation(images=images, proprio=np.zeros(8, np.float32), prompt="do it")
    with pytest.raises(UserError, match="leaves 'prompt' as a str"):
        Pipeline(without, pipeline.decode_steps).encode(seen)


def edited(pipeline: Pipeline, side: str, change: dict) -> dict:
    value = json.loads(json.dumps(pipeline.to_json()))
    value[side][0] |= change
    return value


@pytest.mark.parametrize(
    ("side", "change", "why"),
    [
        ("encode", {"step": "SelectCamera"}, "no encode step in the pipeline called 'SelectCamera'. Did you mean"),
        ("encode", {"step": "ClipActions"}, "no encode step"),  # it exists, on the other side
        ("encode", {"cameras": "wrist"}, "step SelectCameras: cameras cannot be read"),
        ("encode", {"size": 3}, "unknown field 'size'"),
        ("decode", {"normalizer": {}}, "field 'kind' is missing"),
        ("augment", {"pixels": 1.5}, "expected int, found 1.5"),
    ],
)
def test_edited_pipelines_are_refused(pipeline: Pipeline, side: str, change: dict, why: str) -> None:
    with pytest.raises(UserError, match=why):
        Pipeline.from_json(edited(pipeline, side, change))


@pytest.mark.parametrize("value", [None, [], {"encode": []}, {"encode": [], "decode": [], "augment": [], "more": []}])
def test_another_shape_is_refused(value) -> None:
    with pytest.raises(UserError, match="it should have encode, decode, augment"):
        Pipeline.from_json(value)
