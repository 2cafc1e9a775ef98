"""TFDS folders that TensorFlow wrote, sound and broken, against what the reference data says about them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handeye.conventions import image, proprio
from handeye.data.hdf5.read import read_demo
from handeye.data.hdf5.source import Hdf5Source
from handeye.data.hdf5.writer import Hdf5Writer
from handeye.data.rlds.folder import open_folder
from handeye.data.rlds.source import RldsSource
from handeye.data.rlds.tfrecord import FileBytes
from handeye.data.rlds.write import RldsWriter
from handeye.data.source import Source
from handeye.errors import UserError
from handeye.types import Episode

pytestmark = pytest.mark.goldens

VECTORS = ("actions", "proprio", "joints")


@pytest.fixture(scope="module")
def sets(goldens: Path) -> list[tuple[Path, dict[str, np.ndarray]]]:
    """Folder of a set, and its expected contents."""
    root = goldens / "data" / "rlds"
    found = []
    for path in sorted(root.glob("*_expected.npz")):
        with np.load(path) as arrays:
            found.append((root / path.name.removesuffix("_expected.npz"), dict(arrays)))
    assert sorted(folder for folder, _ in found) == sorted(p for p in root.iterdir() if p.is_dir()) and found
    return found


def turned(frames: np.ndarray) -> np.ndarray:
    """As the set stores them."""
    return image.convert(frames, source=image.Orientation.UPRIGHT, target=image.Orientation.TURNED_180)


def test_every_array_is_read_to_the_bit(sets, record_property) -> None:
    vectors = pictures = 0
    for folder, expected in sets:
        source = RldsSource(folder)
        assert source.warnings == () and source.stored.lacks == ("simulator states",)
        assert [ref.length for ref in source.episodes] == expected["episode_lengths"].tolist()
        for number, ref in enumerate(source.episodes):
            there = {k.split("/")[1]: v for k, v in expected.items() if k.startswith(f"episode_{number}/")}
            episode = source.load(ref)
            for name, found in (
                ("action", episode.actions), ("state", episode.proprio), ("joint_state", episode.joints),
            ):  # fmt: skip
                assert found.dtype == there[name].dtype == np.float32
                np.testing.assert_array_equal(found, there[name])
                vectors += 1
            assert episode.prompt == str(there["language_instruction"])
            assert episode.source["file_path"] == str(there["file_path"])
            assert episode.success == bool(there["is_terminal"][-1]) == (there["reward"][-1] == 1)
            for camera, name in (("agentview", "image"), ("wrist", "wrist_image")):
                for step, which in ((0, "first"), (-1, "last")):
                    if f"{name}_{which}" in there:  # TensorFlow's own decoder
                        np.testing.assert_array_equal(turned(episode.images[camera][step]), there[f"{name}_{which}"])
                        pictures += 1
    assert vectors >= 12 and pictures >= 8
    record_property("RLDS vectors equal to the bit", vectors)
    record_property("RLDS pictures decoded to TensorFlow's bits", pictures)


def test_all_sets_are_read_as_one(sets, goldens: Path) -> None:
    source = RldsSource(goldens / "data" / "rlds")
    assert len(source.episodes) == sum(len(expected["episode_lengths"]) for _, expected in sets)
    assert len({ref.id for ref in source.episodes}) == len(source.episodes)


def test_broken_sets_end_as_their_manifest_asks(goldens: Path, record_property) -> None:
    root = goldens / "data" / "broken"
    entries = [e for e in json.loads((root / "MANIFEST.json").read_text())["entries"] if e["format"] == "rlds"]
    assert len(entries) >= 8
    for entry in entries:
        refused = ""
        try:
            source = RldsSource(root / entry["path"])
            for ref in source.episodes:
                source.load(ref)
        except UserError as error:
            refused = str(error)
        assert bool(refused) == (entry["expect"] == "reject"), (entry, refused)
        assert not refused or entry.get("shard", "") in refused, (entry, refused)
    record_property("broken RLDS sets treated as asked", len(entries))


def originals(goldens: Path, file: str, steps: int) -> list[Episode]:
    """What a set was made from, as the reference's README says: rows of the raw demonstrations without no-ops, pictures
    turned and then enlarged to 256 x 256."""
    root = goldens / "data" / "libero_hdf5"
    entries = json.loads((root / "expected.json").read_text())["files"]
    (entry,) = (entry for entry in entries if Path(entry["file"]).name == Path(file).name)
    found = []
    for name, said in entry["demos"].items():
        demo = read_demo(root / entry["file"], name)
        rows = np.setdiff1d(np.arange(len(demo)), said["noop_indices"])[:steps]
        images = {
            camera: turned(image.resize(turned(frames[rows]), height=256, width=256, method="bicubic"))
            for camera, frames in demo.images.items()
        }
        found.append(
            Episode(
                id=name,
                task=entry["task"],
                prompt=entry["language_benchmark_task"],
                images=images,
                proprio=proprio.from_hdf5(demo.ee_states, demo.gripper_states)[rows],
                actions=demo.actions[rows],
                joints=demo.joint_states[rows],
                success=True,
            )
        )
    return found


def lists(folder: Path) -> dict[bytes, dict[str, bytes]]:
    """The actions' bytes -> the bytes of every feature, in order, of each record."""
    found = {}
    for entry in open_folder(folder).entries:
        with FileBytes(entry.path) as file:
            features = {name: file[values.start : values.stop] for name, values in entry.features.items()}
        found[features["steps/action"]] = features
    return found


def test_the_writer_makes_the_bytes_that_tfds_made(sets, goldens: Path, tmp_path: Path, record_property) -> None:
    """Every record of the reference, from the demonstrations that it was made from, but for the noted path. And the
    pictures that come back are as far from the originals as JPEG makes them."""
    same = 0
    away: list[np.ndarray] = []
    for folder, expected in sets:
        episodes = originals(goldens, str(expected["episode_0/file_path"]), int(expected["episode_lengths"].max()))
        writer, made = RldsWriter(), tmp_path / folder.name
        parts = [made / f"{episode.id}.part" for episode in episodes]
        for episode, part in zip(episodes, parts, strict=True):
            writer.encode(episode, part)
        writer.assemble(parts, made / "set")
        (theirs,), (ours,) = folder.iterdir(), (made / "set" / "demonstrations").iterdir()
        written, reference = lists(ours), lists(theirs)
        for actions, features in reference.items():
            assert list(written[actions]) == list(features)
            for name, content in features.items():
                if name != "episode_metadata/file_path":
                    assert written[actions][name] == content, name
                    same += 1
        said = (theirs / "features.json").read_text()
        assert json.loads((ours / "features.json").read_text()) == json.loads(said)
        source = RldsSource(made / "set")
        for episode, ref in zip(episodes, source.episodes, strict=True):
            some = range(0, ref.length, 8)
            for camera, frames in source.frames(ref, some).items():
                away.append(np.abs(frames.astype(int) - episode.images[camera][some]).ravel())
    every = np.concatenate(away)
    assert same >= 44 and every.mean() < 1.5 and every.max() < 40
    record_property("lists in RLDS records equal to TFDS's bytes", same)


def first(episode: Episode, steps: int = 6) -> Episode:
    """Its first steps."""
    vectors: dict[str, Any] = {name: getattr(episode, name)[:steps] for name in VECTORS}
    return replace(episode, images={c: frames[:steps] for c, frames in episode.images.items()}, **vectors)


def test_through_hdf5_and_back(goldens: Path, tmp_path: Path, record_property) -> None:
    """Into LIBERO's files everything goes as it is; on the way back pictures pay for JPEG."""
    source: Source = RldsSource(goldens / "data" / "rlds")
    there = [first(source.load(ref)) for ref in source.episodes]
    episodes = there
    for number, (writer, kind, most) in enumerate(((Hdf5Writer(), Hdf5Source, 0.0), (RldsWriter(), RldsSource, 1.5))):
        parts = [tmp_path / f"{number}.{n}" for n in range(len(episodes))]
        for part, episode in zip(parts, episodes, strict=True):
            writer.encode(episode, part)
        writer.assemble(parts, tmp_path / str(number))
        made = kind(tmp_path / str(number))
        episodes = [made.load(ref) for ref in made.episodes]
        for one, other in zip(there, episodes, strict=True):
            assert (one.task, one.prompt, one.success) == (other.task, other.prompt, other.success)
            for name in VECTORS:
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert np.mean([np.abs(f.astype(int) - one.images[c]) for c, f in other.images.items()]) <= most
    record_property("RLDS episodes through HDF5 and back", len(there))
