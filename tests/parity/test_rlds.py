"""TFDS folders that TensorFlow wrote, sound and broken, against what the reference data says about them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handeye.conventions import image
from handeye.data.rlds.source import RldsSource
from handeye.errors import UserError

pytestmark = pytest.mark.goldens


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
