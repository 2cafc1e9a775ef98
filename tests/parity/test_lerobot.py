"""Sets that the lerobot library wrote, sound and broken, against the demonstrations that they were made from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from handeye.conventions import image
from handeye.data.hdf5.read import read_demo
from handeye.data.lerobot.index import read_index
from handeye.data.lerobot.keys import STYLES, Keys
from handeye.data.lerobot.source import LeRobotSource
from handeye.data.lerobot.statistics import Stats, together
from handeye.data.lerobot.write import LeRobotWriter
from handeye.data.source import open_source
from handeye.errors import UserError
from handeye.types import Episode

pytestmark = pytest.mark.goldens
CAMERAS = {"agentview": "image", "wrist": "wrist_image"}


@pytest.fixture(scope="module")
def root(goldens: Path) -> Path:
    return goldens / "data" / "lerobot"


@pytest.fixture(scope="module")
def folders(root: Path) -> list[Path]:
    found = sorted(path.parents[1] for path in root.glob("*/meta/info.json"))
    assert {path.name[:4] for path in found} == {"v2.0", "v2.1", "v3.0"} and len(found) >= 6
    return found


def test_vectors_language_and_pictures(goldens: Path, root: Path, folders, record_property: Callable) -> None:
    """All steps. Vectors are equal to the bit, and so is PNG to the HDF5 rows that the set was made from, each pixel
    doubled; video within what its codec loses."""
    frames = 0
    with np.load(root / "expected.npz") as expected:
        for folder in folders:
            source = open_source(folder)
            assert isinstance(source, LeRobotSource) and not source.warnings
            for number, ref in enumerate(source.episodes):
                episode, key = source.load(ref), f"episode_{number}"
                assert episode.prompt == ref.prompt == expected[f"{key}/task"].item()
                np.testing.assert_array_equal(episode.actions, expected[f"{key}/action"][: len(episode)])
                np.testing.assert_array_equal(episode.proprio, expected[f"{key}/state"][: len(episode)])
                file, _, demo = expected[f"{key}/source"].item().partition(":")
                made_from = read_demo(goldens / "data" / "libero_hdf5" / file, demo)
                for name, found in episode.images.items():
                    upright = made_from.images[name][expected[f"{key}/source_frames"][: len(episode)]]
                    turned = image.convert(upright, source=image.Orientation.UPRIGHT, target=source.stored.orientation)
                    first = expected[f"{key}/{CAMERAS[name]}_first_128"]
                    np.testing.assert_array_equal(turned[0], first)  # the rows are those that are meant
                    if source.stored.codec == "png":
                        np.testing.assert_array_equal(found[:, ::2, ::2], upright)
                        np.testing.assert_array_equal(found, upright.repeat(2, 1).repeat(2, 2))
                    else:
                        off = np.abs(found.astype(int) - upright.repeat(2, 1).repeat(2, 2))
                        assert off.mean() < 3.5 and off.max() <= 97, (folder.name, ref.id)  # README of the goldens
                    frames += len(found)
    record_property("LeRobot pictures compared with their HDF5 rows", frames)
    assert frames >= 2 * (36 * 4 + 7 * 2)


def test_decoded_video(root: Path, folders, record_property: Callable) -> None:
    """First and last frame of each episode, as block means, against another decoder's; one by one and as a whole."""
    compared = 0
    with np.load(root / "expected_video.npz") as expected:
        for folder in [folder for folder in folders if "video" in folder.name]:
            source = LeRobotSource(folder)
            keys = read_index(source.root).info.keys.cameras
            for number, ref in enumerate(source.episodes):
                whole = source.load(ref).images
                for which, step in (("first", 0), ("last", ref.length - 1)):
                    for name, frame in source.frames(ref, [step]).items():
                        np.testing.assert_array_equal(frame[0], whole[name][step])
                        turned = image.convert(
                            frame[0], source=image.Orientation.UPRIGHT, target=source.stored.orientation
                        )
                        blocks = turned.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
                        key = f"{folder.name}/{keys[name]}/episode_{number}/{which}"
                        np.testing.assert_allclose(blocks, expected[key], atol=2, err_msg=key)
                        compared += 1
        assert compared == len(list(expected)) >= 24
    record_property("LeRobot video frames compared with another decoder", compared)


def test_broken_sets(goldens: Path, record_property: Callable) -> None:
    """Each ends as its manifest asks; a refusal names what is wrong."""
    broken = goldens / "data" / "broken"
    entries = json.loads((broken / "MANIFEST.json").read_text())["entries"]
    outcomes = []
    for entry in entries:
        if not entry["format"].startswith("lerobot"):
            continue
        outcome, why = "accept", ""
        try:
            source = LeRobotSource(broken / entry["path"])
            for ref in source.episodes:
                source.load(ref)
            outcome = "warn" if source.warnings else "accept"
        except UserError as error:
            outcome, why = "reject", str(error)
            assert str(broken / entry["path"]) in why
        assert outcome == entry["expect"], f"{entry['path']}: {entry['what_is_wrong']} ({why})"
        assert f"line {entry['line']}" in why if "line" in entry else True
        outcomes.append(outcome)
    record_property("broken LeRobot sets that end as asked", len(outcomes))
    assert len(outcomes) >= 22 and {"accept", "reject"} <= set(outcomes)


def _style(source: LeRobotSource) -> str:
    return next(name for name, keys in STYLES.items() if keys == read_index(source.root).info.keys)


def _rewritten(folder: Path, folders: list[Path], out: Path) -> tuple[Path, list[Episode]]:
    """The same set from our writer. Video is lossy: such a set is made again from the PNG set of the same episodes."""
    source = LeRobotSource(folder)
    vectors = [source.stored_vectors(ref)[0].tolist() for ref in source.episodes]
    for other in map(LeRobotSource, [folder] if source.stored.codec == "png" else folders):
        if other.stored.codec == "png" and [other.stored_vectors(r)[0].tolist() for r in other.episodes] == vectors:
            break
    else:
        raise AssertionError(f"no PNG set has the episodes of {folder}")
    writer = LeRobotWriter(version=source.stored.version, images=source.stored.codec, keys=_style(source))
    episodes = [other.load(ref) for ref in other.episodes]
    parts = [out / "parts" / str(number) for number in range(len(episodes))]
    for episode, part in zip(episodes, parts, strict=True):
        writer.encode(episode, part)
    writer.assemble(parts, out / "set")
    return out / "set", episodes


def _as_the_library(frames: np.ndarray) -> np.ndarray:
    """lerobot 0.4.4's standard deviation of pictures: the squares overflow."""
    pixels = frames.reshape(-1, 3)
    variance = (pixels**2).mean(0) - pixels.mean(0) ** 2
    return np.sqrt(np.maximum(0, variance)).reshape(3, 1, 1) / 255


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}/{key}" if path else key)
    else:
        yield path, value


def test_a_set_written_again_has_the_librarys_metadata(folders, tmp_path: Path, record_property: Callable) -> None:
    """Every file of `meta` is equal, and so are the columns, their types and their vectors. What is not, and why: in
    version 3 our standard deviations of pictures are true (see handeye.data.lerobot.statistics); a task list written by
    pandas 3 has other types; the library's stats.json has its keys in random order."""
    values = 0
    for folder in folders:
        ours, episodes = _rewritten(folder, folders, tmp_path / folder.name)
        theirs = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        assert {path.relative_to(ours) for path in ours.rglob("*") if path.is_file()} == theirs
        keys = read_index(folder).info.keys
        stds = [
            {f"stats/{key}/std": episode.images[name] for name, key in keys.cameras.items()} for episode in episodes
        ]
        for path in sorted(theirs):
            one, other = folder / path, ours / path
            if path.suffix == ".jsonl" or path.name == "info.json":
                assert one.read_bytes() == other.read_bytes(), path
                values += len(one.read_bytes().split())
            elif path.name == "tasks.parquet":
                assert pq.read_table(one).to_pylist() == pq.read_table(other).to_pylist()
                by_pandas_3 = pa.types.is_large_string(pq.read_schema(one).field("__index_level_0__").type)
                assert by_pandas_3 or one.read_bytes() == other.read_bytes()
            elif path.parts[:2] == ("meta", "episodes"):
                expected, found = pq.read_table(one), pq.read_table(other)
                assert expected.schema.equals(found.schema, check_metadata=True)
                for row, (a, b) in enumerate(zip(expected.to_pylist(), found.to_pylist(), strict=True)):
                    for name, frames in stds[row].items():
                        assert a.pop(name) == _as_the_library(frames).tolist() != b[name]
                        np.testing.assert_allclose(
                            np.ravel(b.pop(name)), (frames / 255).reshape(-1, 3).std(axis=0), rtol=1e-9
                        )
                    assert a == b
                    values += len(a)
            elif path.parts[0] == "data":
                expected, found = pq.read_table(one), pq.read_table(other)
                assert expected.schema.equals(found.schema)
                _same_but_fingerprint(expected.schema.metadata, found.schema.metadata)
                for name in set(expected.schema.names) - set(keys.cameras.values()):
                    assert expected.column(name).to_pylist() == found.column(name).to_pylist(), (path, name)
        if (folder / "meta" / "stats.json").is_file():
            expected = dict(_flat(json.loads((folder / "meta" / "stats.json").read_text())))
            found = dict(_flat(json.loads((ours / "meta" / "stats.json").read_text())))
            if folder.name.startswith("v3"):
                found |= _total_std_as_the_library(ours, episodes, keys)
            assert found == expected, folder.name
            values += len(expected)
    record_property("values of LeRobot metadata equal to the library's", values)
    assert values >= 2000


def test_what_video_loses(folders, tmp_path: Path, record_property: Callable) -> None:
    """Of our files and of the library's, against the same PNG."""
    for folder in [folder for folder in folders if "video" in folder.name]:
        ours, episodes = _rewritten(folder, folders, tmp_path / folder.name)
        for whose, source in (("the library's", LeRobotSource(folder)), ("our", LeRobotSource(ours))):
            off = np.concatenate([
                np.abs(frames.astype(int) - episode.images[name]).ravel()
                for ref, episode in zip(source.episodes, episodes, strict=True)
                for name, frames in source.load(ref).images.items()
            ])  # fmt: skip
            film = f"{whose} {source.stored.codec} in {folder.name} is off"
            record_property(f"hundredths of a level that {film} on average", round(100 * off.mean()))
            record_property(f"levels that {film} at most", int(off.max()))
            assert off.mean() < 3.5 and off.max() <= 100


def _same_but_fingerprint(expected: dict[bytes, bytes], found: dict[bytes, bytes]) -> None:
    """`datasets` adds a number of its own that is random."""
    one, other = json.loads(expected[b"huggingface"]), json.loads(found[b"huggingface"])
    one.pop("fingerprint", None)
    assert one == other


def _total_std_as_the_library(ours: Path, episodes: list[Episode], keys: Keys) -> dict[str, Any]:
    """Of all episodes, from what it has for each."""
    rows = [row for path in sorted(ours.glob("meta/episodes/*/*")) for row in pq.read_table(path).to_pylist()]
    found = {}
    for name, key in keys.cameras.items():
        total: dict[str, Stats] | None = None
        for row, episode in zip(rows, episodes, strict=True):
            stats = {m: np.array(row[f"stats/{key}/{m}"]) for m in ("min", "max", "mean", "count")}
            one = {key: {**stats, "std": _as_the_library(episode.images[name])}}
            total = one if total is None else together([total, one])
        found[f"{key}/std"] = total[key]["std"].tolist()
    return found
