"""Made-up RLDS sets, put together from plain values: what any program would write, not what our writer does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handeye.data.pictures import encode_jpeg
from handeye.data.rlds.example import encode
from handeye.data.rlds.tfrecord import framed

SIZE = 16
Steps = dict[str, Any]


def make_steps(length: int, seed: int, *, sentence: str = "put the bowl on the plate") -> Steps:
    """The features of one episode, by their names in the record. Each picture has one colour: its step and seed."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (length, 7)).astype(np.float32)
    ends = np.zeros(length, np.int64)
    ends[-1] = 1
    return {
        "steps/observation/image": [picture(step, seed) for step in range(length)],
        "steps/observation/wrist_image": [picture(step, seed + 1) for step in range(length)],
        "steps/observation/state": rng.normal(size=(length, 8)).astype(np.float32),
        "steps/observation/joint_state": rng.normal(size=(length, 7)).astype(np.float32),
        "steps/action": actions,
        "steps/discount": np.ones(length, np.float32),
        "steps/reward": ends.astype(np.float32),
        "steps/is_first": ends[::-1].copy(),
        "steps/is_last": ends,
        "steps/is_terminal": ends,
        "steps/language_instruction": [sentence.encode()] * length,
        "episode_metadata/file_path": [f"/somewhere/{sentence.replace(' ', '_')}_demo.hdf5".encode()],
    }


def picture(step: int, seed: int) -> bytes:
    """The left half is darker, so that a turn shows."""
    image = np.full((SIZE, SIZE, 3), (10 * step + seed) % 200 + 40, np.uint8)
    image[:, : SIZE // 2] -= 40
    return encode_jpeg(image)


def features_json() -> dict[str, Any]:
    """As TFDS nests it, for pictures of SIZE."""

    def tensor(dtype: str, *shape: int) -> dict[str, Any]:
        size = {"dimensions": [str(n) for n in shape]} if shape else {}
        return {"pythonClassName": "T", "tensor": {"shape": size, "dtype": dtype, "encoding": "none"}}

    def folder(**features: Any) -> dict[str, Any]:
        return {"pythonClassName": "FeaturesDict", "featuresDict": {"features": features}}

    shape = {"dimensions": [str(SIZE), str(SIZE), "3"]}
    image = {"pythonClassName": "Image", "image": {"shape": shape, "dtype": "uint8", "encodingFormat": "jpeg"}}
    text = {"pythonClassName": "Text", "text": {}}
    float_, bool_ = tensor("float32"), tensor("bool")
    vectors = {"state": tensor("float32", 8), "joint_state": tensor("float32", 7)}
    step = folder(
        observation=folder(image=image, wrist_image=image, **vectors), action=tensor("float32", 7), discount=float_,
        reward=float_, is_first=bool_, is_last=bool_, is_terminal=bool_, language_instruction=text,
    )  # fmt: skip
    steps = {"pythonClassName": "Dataset", "sequence": {"feature": step, "length": "-1"}}
    return folder(steps=steps, episode_metadata=folder(file_path=text))


def info_json(name: str, lengths: Sequence[int], num_bytes: int) -> dict[str, Any]:
    train = {
        "name": "train",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "numBytes": str(num_bytes),
        "shardLengths": [str(length) for length in lengths],
    }
    return {"name": name, "version": "1.0.0", "fileFormat": "tfrecord", "splits": [train]}


def make_set(folder: Path, shards: Sequence[Sequence[Mapping[str, Any]]], *, name: str = "libero_goal") -> Path:
    """A version folder with one file per entry of `shards`."""
    folder.mkdir(parents=True)
    total = 0
    for number, episodes in enumerate(shards):
        payloads = [encode(steps) for steps in episodes]
        total += sum(map(len, payloads))
        file = folder / f"{name}-train.tfrecord-{number:05d}-of-{len(shards):05d}"
        file.write_bytes(b"".join(map(framed, payloads)))
    (folder / "features.json").write_text(json.dumps(features_json()))
    (folder / "dataset_info.json").write_text(json.dumps(info_json(name, [len(s) for s in shards], total)))
    return folder


@pytest.fixture
def steps_of() -> Callable[..., Steps]:
    return make_steps


@pytest.fixture
def set_of() -> Callable[..., Path]:
    return make_set


@pytest.fixture
def rlds(tmp_path: Path) -> Path:
    """Three episodes of two tasks in two shards, in a folder of another name than the set's."""
    other = "open the drawer"
    shards = [[make_steps(5, 0), make_steps(3, 1, sentence=other)], [make_steps(4, 2)]]
    return make_set(tmp_path / "goal" / "1.0.0", shards)
