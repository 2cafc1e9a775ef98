from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handeye.conventions.libero import specs
from handeye.data.pipeline import steps
from handeye.data.pipeline.pipeline import SIDES, Pipeline, standard_pipeline
from handeye.data.pipeline.published import oft_pipeline, openpi_pipeline, openvla_pipeline
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics, measure
from handeye.errors import UserError
from handeye.types import Episode, Observation

RNG = np.random.default_rng(0)


@pytest.fixture
def statistics(demo) -> Statistics:
    episodes = [demo(30, seed).episode(id=str(seed), task="x", prompt="x", source={}) for seed in range(3)]
    return measure((episode.actions, episode.proprio) for episode in episodes)


@pytest.fixture
def pipeline(statistics: Statistics) -> Pipeline:
    return standard_pipeline(
        specs(camera_size=12),
        statistics,
        image_size=6,
        prompt_length=32,
        augment=(steps.ShiftImages(2), steps.JitterColours(0.1, 0.1, 0.05)),
    )


@pytest.fixture
def everything(pipeline: Pipeline) -> Pipeline:
    """A step on every side, each leaving its mark on the pixels."""
    return replace(
        pipeline,
        live_steps=(steps.CompressImages(),),
        still_steps=(steps.CropImages(0.5),),
        finish_steps=(steps.NormalizeImages(((0.5,) * 3,), ((0.5,) * 3,)),),
    )


@pytest.fixture
def episode(demo) -> Episode:
    return demo(30, 1).episode(id="1", task="x", prompt="Put the bowl  away", source={})


def seen(episode: Episode, step: int) -> Observation:
    images = {name: frames[step] for name, frames in episode.images.items()}
    return Observation(images=images, proprio=episode.proprio[step].astype(np.float32), prompt=episode.prompt)


def rows(encoded: dict, *indices: int) -> dict:
    """A batch of these steps of an encoded episode, as a loader makes it."""
    return {n: np.stack([v] * len(indices)) if n == "prompt" else v[list(indices)] for n, v in encoded.items()}


def test_round_trip_through_text(everything: Pipeline) -> None:
    text = json.dumps(everything.to_json())
    assert Pipeline.from_json(json.loads(text)) == everything
    assert json.dumps(Pipeline.from_json(json.loads(text)).to_json()) == text


def test_an_observation_is_encoded_like_the_step_of_an_episode(pipeline: Pipeline, episode: Episode) -> None:
    encoded = pipeline.encode_episode(episode)
    assert {name: (value.dtype.name, value.shape) for name, value in encoded.items()} == {
        "image.agentview": ("uint8", (30, 6, 6, 3)),
        "image.wrist": ("uint8", (30, 6, 6, 3)),
        "proprio": ("float32", (30, 8)),
        "prompt": ("int64", (32,)),
    }
    for step in (0, 17):
        for name, value in pipeline.encode(seen(episode, step)).items():
            np.testing.assert_array_equal(value, encoded[name] if name == "prompt" else encoded[name][step])


def test_acting_and_validation_see_the_same_but_for_what_recording_did(everything: Pipeline, episode: Episode) -> None:
    """`live` is the one difference; without it, and with still images recorded after it, the two are equal."""
    recorded = {name: steps.CompressImages()({"image.x": v})["image.x"] for name, v in episode.images.items()}
    validated = everything.still(rows(everything.encode_episode(replace(episode, images=recorded)), 3, 9))
    for place, step in enumerate((3, 9)):
        for name, value in everything.encode(seen(episode, step)).items():
            np.testing.assert_array_equal(value, validated[name][place])
    unlike = everything.still(rows(everything.encode_episode(episode), 3))
    assert (unlike["image.wrist"] != validated["image.wrist"][:1]).any()


def generators(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def test_training_is_augmented_and_not_stilled(everything: Pipeline, episode: Episode) -> None:
    batch = rows(everything.encode_episode(episode), 3, 9)
    trained = everything.augment(batch, generators(1, 2))
    assert trained["image.wrist"].dtype == np.float32
    stilled = everything.still(batch)
    assert (trained["image.wrist"] != stilled["image.wrist"]).any()
    nothing = replace(everything, augment_steps=(steps.ShiftImages(0),))
    plain = nothing.augment(batch, generators(1, 2))["image.wrist"]
    np.testing.assert_allclose(plain, batch["image.wrist"] / 127.5 - 1, atol=1e-6)  # neither cropped nor compressed


def test_training_without_augmentation_sees_what_validation_sees(everything: Pipeline, episode: Episode) -> None:
    bare = replace(everything, augment_steps=())
    batch = rows(bare.encode_episode(episode), 3, 9)
    trained, validated = bare.augment(batch, generators(1, 2)), bare.still(batch)
    for name, value in trained.items():
        np.testing.assert_array_equal(value, validated[name])


def test_what_is_no_input_passes(everything: Pipeline, episode: Episode) -> None:
    batch = rows(everything.encode_episode(episode), 3) | {"actions": np.ones((1, 8, 7), np.float32)}
    for after in (everything.augment(batch, generators(1)), everything.still(batch)):
        assert after["actions"] is batch["actions"]


def test_targets_decode_to_the_demonstrated_actions(pipeline: Pipeline, demo) -> None:
    actions = demo(30, 1).actions.astype(np.float32)
    targets = pipeline.targets(actions)
    assert targets.dtype == np.float32 and np.abs(targets).max() <= 1
    np.testing.assert_array_equal(targets[:, 6], actions[:, 6])  # the gripper is -1 or +1 as it is
    decoded = pipeline.decode(targets)
    assert decoded.dtype == np.float32
    inside = (np.abs(targets[:, :6]) < 1).all(1)
    assert inside.sum() > 20
    np.testing.assert_allclose(decoded[inside], actions[inside], atol=1e-6)


def test_decoded_actions_are_what_the_robot_takes(pipeline: Pipeline) -> None:
    wild = (10 * RNG.normal(size=(4, 8, 7))).astype(np.float32)
    actions = pipeline.decode(wild)
    assert np.abs(actions).max() <= 1 and set(np.unique(actions[..., 6])) == {-1.0, 1.0}
    np.testing.assert_array_equal(actions[..., 6], np.where(wild[..., 6] > 0, 1, -1))


def test_a_prompt_must_be_encoded(pipeline: Pipeline) -> None:
    without = tuple(step for step in pipeline.encode_steps if not isinstance(step, steps.EncodePrompt))
    images = {name: np.zeros((12, 12, 3), np.uint8) for name in ("agentview", "wrist")}
    item = Observation(images=images, proprio=np.zeros(8, np.float32), prompt="do it")
    with pytest.raises(UserError, match="leaves 'prompt' as a str"):
        Pipeline(without, pipeline.decode_steps).encode(item)


def edited(pipeline: Pipeline, side: str, change: dict) -> dict:
    value = json.loads(json.dumps(pipeline.to_json()))
    value[side][0] |= change
    return value


@pytest.mark.parametrize(
    ("side", "change", "why"),
    [
        ("encode", {"step": "SelectCamera"}, "no encode step in the pipeline called 'SelectCamera'. Did you mean"),
        ("encode", {"step": "ClipActions"}, "no encode step"),  # it exists, on the other side
        ("encode", {"step": ["SelectCameras"]}, "no encode step"),
        ("live", {"step": "ShiftImages"}, "no live step"),  # chance has no place there
        ("encode", {"cameras": "wrist"}, "step SelectCameras: cameras cannot be read"),
        ("encode", {"size": 3}, "unknown field 'size'"),
        ("still", {"area": 2.0}, "A crop of 2.0 is not possible"),
        ("decode", {"normalizer": {}}, "field 'kind' is missing"),
        ("augment", {"pixels": 1.5}, "expected int, found 1.5"),
    ],
)
def test_edited_pipelines_are_refused(everything: Pipeline, side: str, change: dict, why: str) -> None:
    with pytest.raises(UserError, match=why):
        Pipeline.from_json(edited(everything, side, change))


@pytest.mark.parametrize("value", [None, [], {"encode": []}, {side: [] for side in SIDES} | {"more": []}])
def test_another_shape_is_refused(value) -> None:
    with pytest.raises(UserError, match="it should have live, encode, augment, still, finish, decode"):
        Pipeline.from_json(value)


def test_a_side_is_a_list_of_steps() -> None:
    with pytest.raises(UserError, match="its side 'still' is not a list"):
        Pipeline.from_json({side: [] for side in SIDES} | {"still": {"step": "CropImages"}})


JUNK = (None, True, -1, 0, 10**30, 10**400, 1e308, float("nan"), "", "x", [], [[]], {}, ["a", 1], {"step": 3})


def places(value: object, at: tuple = ()) -> list[tuple]:
    """Where anything stands in nested lists and objects."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in inner for place in places(part, (*at, key)))]


def test_whatever_stands_in_a_file_ends_in_a_pipeline_or_a_user_error(
    statistics: Statistics, vocabulary: Vocabulary
) -> None:
    """Each value of two published pipelines replaced by some junk, one at a time: nothing else is raised."""
    refused = tried = 0
    for make in (openvla_pipeline, openpi_pipeline):
        good = json.loads(json.dumps(make(specs(camera_size=32), statistics, vocabulary).to_json()))
        for number, place in enumerate(places(good)[1:]):
            for junk in JUNK[number % 5 :: 5]:
                value = json.loads(json.dumps(good))
                inner = value
                for key in place[:-1]:
                    inner = inner[key]
                inner[place[-1]] = junk
                tried += 1
                try:
                    Pipeline.from_json(value)
                except UserError:
                    refused += 1
    assert tried > 500 and refused > 0.8 * tried


# ---- published pipelines ---------------------------------------------------------------------------------------------

NAMED = {"openvla": openvla_pipeline, "oft": oft_pipeline, "openpi": openpi_pipeline}


@pytest.mark.parametrize("name", NAMED)
def test_published_pipelines_end_to_end(
    name: str, statistics: Statistics, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """Saved, read with the tokenizer beside it, and used by all three, with the actions there and back."""
    made = NAMED[name](specs(camera_size=32), statistics, vocabulary)
    (tmp_path / vocabulary.name).write_bytes(vocabulary.content())
    pipeline = Pipeline.from_json(json.loads(json.dumps(made.to_json()))).located(tmp_path)
    assert pipeline == made
    assert pipeline.vocabularies() == (vocabulary,)
    images = {n: RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8) for n in ("agentview", "wrist")}
    proprio = RNG.normal(size=(2, 8)).astype(np.float32)
    frames = pipeline.encode_frames(images, proprio, "Open the drawer")
    batch = {n: np.stack([v, v]) if n.startswith("prompt") else v for n, v in frames.items()}
    trained = pipeline.augment(batch, generators(1, 2))
    stilled = pipeline.still(batch)
    acting = pipeline.encode(
        Observation(images={n: v[1] for n, v in images.items()}, proprio=proprio[1], prompt="open the drawer")
    )
    assert {n: (v.dtype, v.shape[1:]) for n, v in stilled.items()} == {n: (v.dtype, v.shape) for n, v in acting.items()}
    assert {n: (v.dtype, v.shape) for n, v in stilled.items()} == {n: (v.dtype, v.shape) for n, v in trained.items()}
    assert (trained["image.agentview"] != stilled["image.agentview"]).any()
    chunk = RNG.uniform(-0.5, 0.5, (2, 8, 7))
    chunk[..., 6] = np.sign(chunk[..., 6])
    targets = pipeline.targets(chunk, proprio)
    decoded = pipeline.decode(targets, proprio)
    np.testing.assert_allclose(decoded, chunk, atol=0.02 if name == "openvla" else 1e-5)


def test_pi0_is_relative_to_the_state(statistics: Statistics, vocabulary: Vocabulary) -> None:
    pi0 = openpi_pipeline(specs(camera_size=32), statistics, vocabulary, family="pi0")
    chunk, proprio = RNG.uniform(-1, 1, (2, 50, 7)), RNG.normal(size=(2, 8)).astype(np.float32)
    assert pi0.targets(chunk, proprio).shape == (2, 50, 32)
    np.testing.assert_allclose(pi0.decode(pi0.targets(chunk, proprio), proprio), chunk, atol=1e-5)
    with pytest.raises(UserError, match="relative to the robot's state"):
        pi0.decode(np.zeros((50, 32), np.float32))
    with pytest.raises(UserError, match="no state in its prompt"):
        openpi_pipeline(specs(camera_size=32), statistics, vocabulary, family="pi0", state_in_prompt=True)


def test_published_pipelines_ask_for_their_conventions(statistics: Statistics, vocabulary: Vocabulary) -> None:
    here = specs(camera_size=32)
    for make in NAMED.values():
        with pytest.raises(UserError, match="disagree on metres_per_unit"):
            make(replace(here, action=replace(here.action, metres_per_unit=1.0)), statistics, vocabulary)
    narrow = replace(statistics, proprio=statistics.action)
    with pytest.raises(UserError, match="have 7 dimensions, the robot has 8"):
        oft_pipeline(here, narrow, vocabulary)
    openvla_pipeline(here, narrow, vocabulary)  # it does not look at proprioception


def test_raw_training_sets_need_no_jpeg(statistics: Statistics, vocabulary: Vocabulary) -> None:
    here = specs(camera_size=32)
    assert oft_pipeline(here, statistics, vocabulary, stored_as="raw").live_steps == ()
    assert steps.CompressImages() in oft_pipeline(here, statistics, vocabulary).live_steps
    plain = oft_pipeline(here, statistics, vocabulary, augment=False)
    assert plain.augment_steps == plain.still_steps == ()
