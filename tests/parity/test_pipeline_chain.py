"""One LIBERO frame through a whole pipeline, for training and for acting, and the model's answer back to the robot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor

from handeye.conventions import libero
from handeye.data.pipeline import steps
from handeye.data.pipeline.pipeline import Pipeline
from handeye.data.pipeline.published import oft_pipeline, openpi_pipeline, openvla_pipeline
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics, VectorStatistics
from handeye.types import Observation

pytestmark = pytest.mark.goldens
NAMES = {"agentview": "base_0_rgb", "wrist": "left_wrist_0_rgb", "right_wrist": "right_wrist_0_rgb"}


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def upright(turned: np.ndarray) -> np.ndarray:
    """Recorded images were turned by 180 degrees, which mirrors them; ours are upright."""
    return turned[:, ::-1]


@pytest.fixture(scope="module")
def transforms(goldens: Path) -> dict[str, np.ndarray]:
    return load(goldens / "pi05" / "transforms.npz")


@pytest.fixture(scope="module")
def statistics(transforms: dict[str, np.ndarray]) -> Statistics:
    action, proprio = (
        VectorStatistics(
            **{row: tuple(transforms[f"pipeline/stats/{part}/{row}"].tolist()) for row in ("mean", "std", "q01", "q99")}
        )
        for part in ("actions", "state")
    )
    return Statistics(action=action, proprio=proprio)


def openpi(goldens: Path, name: str, statistics: Statistics) -> tuple[Pipeline, int]:
    """The pipeline and the horizon, from what the reference data says of this chain."""
    said = json.loads((goldens / "pi05" / "transforms.json").read_text())["pipeline"][name]
    pipeline = openpi_pipeline(
        libero.specs(camera_size=256),
        statistics,
        Vocabulary.of(goldens / "pi05" / "tokenizer" / "tiny_tokenizer.model"),
        family="pi05" if said["quantile"] else "pi0",
        state_in_prompt=said["discrete_state_input"],
    )
    assert pipeline.encode_steps[4].length == said["max_token_len"]
    return pipeline, said["horizon"]


@pytest.mark.parametrize("name", ["pi05_libero", "pi05_libero_discrete_state", "pi0_libero"])
def test_openpi(
    name: str, goldens: Path, transforms: dict[str, np.ndarray], statistics: Statistics, record_property
) -> None:
    pipeline, horizon = openpi(goldens, name, statistics)
    raw = {key.removeprefix("pipeline/raw/"): v for key, v in transforms.items() if key.startswith("pipeline/raw/")}
    told = transforms["pipeline/pi05_libero/train/tokenized_prompt"]
    model = SentencePieceProcessor(model_file=str(goldens / "pi05" / "tokenizer" / "tiny_tokenizer.model"))
    sentence = model.decode(told[told > 2].tolist()).rstrip("\n")
    pictures = {"agentview": upright(raw["image_u8_hwc"]), "wrist": upright(raw["wrist_image_u8_hwc"])}

    frames = pipeline.encode_frames({n: v[None] for n, v in pictures.items()}, raw["state"][None], sentence)
    one = {n: v[None] if n.startswith("prompt") and v.ndim == 1 else v for n, v in frames.items()}
    trained = {key: value[0] for key, value in pipeline.still(one).items()}
    acting = pipeline.encode(Observation(images=pictures, proprio=raw["state"], prompt=sentence))
    for side, ours in (("train", trained), ("serve", acting)):
        theirs = f"pipeline/{name}/{side}/"
        np.testing.assert_array_equal(ours["prompt"], transforms[f"{theirs}tokenized_prompt"])
        np.testing.assert_array_equal(ours["prompt_mask"], transforms[f"{theirs}tokenized_prompt_mask"])
        np.testing.assert_allclose(ours["proprio"], transforms[f"{theirs}state"], rtol=1e-6, atol=1e-12)
        for camera, key in NAMES.items():
            assert ours[f"image_mask.{camera}"] == transforms[f"{theirs}image_mask/{key}"]
            if f"{theirs}image/{key}" in transforms:
                levels = transforms[f"{theirs}image/{key}"]
                scaled = levels.astype(np.float32) / np.float32(255) * 2 - 1
                np.testing.assert_array_equal(ours[f"image.{camera}"], scaled)
                record_property("image values of whole chains", levels.size)
        record_property("tokens of whole chains", 2 * ours["prompt"].size)

    targets = pipeline.targets(raw["actions50"][:horizon], raw["state"])
    np.testing.assert_allclose(targets, transforms[f"pipeline/{name}/train/actions"], rtol=1e-6, atol=1e-12)
    answered = transforms[f"pipeline/{name}/output/model_actions"]
    decoded = pipeline.decode(answered, raw["state"])
    # openpi adds the state that it normalised to single precision and back, we the state that was observed.
    atol = 3e-8 if pipeline.decode_steps[-1] == steps.AddState((True,) * 6 + (False,)) else 1e-12
    np.testing.assert_allclose(decoded, transforms[f"pipeline/{name}/output/actions"], rtol=1e-6, atol=atol)
    record_property("state and action values of whole chains", 2 * 32 + targets.size + decoded.size)


def test_openvla_and_oft(goldens: Path, record_property) -> None:
    """A live image through JPEG, Lanczos and centre crop; the same image as an RLDS file holds it, for training."""
    folder = goldens / "openvla"
    images = load(folder / "images.npz")
    published = json.loads((folder / "openvla_tiny" / "dataset_statistics.json").read_text())
    statistics = Statistics.from_json(published["libero_spatial_no_noops"])
    vocabulary = Vocabulary.of(folder / "openvla_tiny" / "tokenizer.json")
    specs = libero.specs(camera_size=256)
    for make, cameras in ((openvla_pipeline, ("agentview",)), (oft_pipeline, libero.CAMERAS)):
        pipeline = make(specs, statistics, vocabulary)
        levels = replace(pipeline, finish_steps=())  # pixels as the goldens have them, before the fused channels
        for index in range(len(images["input"])):
            item = {"proprio": np.zeros(8, np.float32), "prompt": "pick up the black bowl"}
            live = {name: upright(images["input"][index]) for name in cameras}
            recorded = {name: upright(images["jpeg"][index])[None] for name in cameras}
            acting = levels.encode(Observation(images=live, **item))
            frames = levels.encode_frames(recorded, item["proprio"][None], item["prompt"])
            validated = levels.still({name: value for name, value in frames.items() if name.startswith("image.")})
            for name in cameras:
                np.testing.assert_array_equal(acting[f"image.{name}"], images["cropped"][index])
                np.testing.assert_array_equal(frames[f"image.{name}"][0], images["resized"][index])
                np.testing.assert_array_equal(validated[f"image.{name}"][0], images["cropped"][index])
                record_property("image values of whole chains", 3 * images["cropped"][index].size)


def test_ofts_numbers(goldens: Path, record_property) -> None:
    """Proprioception in, the chunk out, as the reference's own evaluation computes them."""
    folder = goldens / "openvla"
    found = load(folder / "oft_tiny.npz")
    published = json.loads((folder / "openvla_tiny" / "dataset_statistics.json").read_text())
    statistics = Statistics.from_json(published[str(found["unnorm_key"])])
    vocabulary = Vocabulary.of(folder / "openvla_tiny" / "tokenizer.json")
    specs = libero.specs(camera_size=256)
    numbers = replace(oft_pipeline(specs, statistics, vocabulary), decode_steps=())
    unnormalize = oft_pipeline(specs, statistics, vocabulary).decode_steps[:1]  # before the gripper is turned
    tokens = oft_pipeline(specs, statistics, vocabulary, tokens=True).decode_steps[:2]
    for index, state in enumerate(found["state"]):
        pictures = {n: found["images"][index, place] for place, n in enumerate(libero.CAMERAS)}
        instruction = str(found["instructions"][index])
        ours = numbers.encode(Observation(images=pictures, proprio=state.astype(np.float32), prompt=instruction))
        np.testing.assert_allclose(ours["proprio"], found["proprio_normalized"][index], atol=2e-6)
    chunk = replace(numbers, decode_steps=unnormalize).decode(found["normalized_chunk"])
    np.testing.assert_allclose(chunk, found["actions"], atol=1e-6)
    decoded = replace(numbers, decode_steps=tokens).decode(
        found["discrete_ids"].reshape(found["discrete_actions"].shape)
    )
    np.testing.assert_allclose(decoded, found["discrete_actions"], atol=1e-6)
    record_property("state and action values of whole chains", found["state"].size + chunk.size + decoded.size)
