"""Episodes of any source become LIBERO's files and come back; nothing that an HDF5 file said is lost on the way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from handeye.conventions.rotation import axis_angle_robosuite
from handeye.data.hdf5.read import LACKS, OBSERVED, TASK, index_file, read_demo
from handeye.data.hdf5.source import Hdf5Source
from handeye.data.hdf5.writer import Hdf5Writer
from handeye.data.source import Source, Writer
from handeye.errors import UserError
from handeye.types import Episode


def write(folder: Path, episodes: Sequence[Episode], *, packed: bool = True) -> Path:
    writer, parts = Hdf5Writer(packed=packed), []
    for number, episode in enumerate(episodes):
        parts.append(folder / "parts" / f"{number:03d}")
        writer.encode(episode, parts[-1])
    writer.assemble(parts, folder / "set")
    return folder / "set"


def episodes_of(source: Source) -> list[Episode]:
    return [source.load(ref) for ref in source.episodes]


@pytest.fixture
def foreign(demo_folder: Path) -> list[Episode]:
    """As formats hand them out that hold less: float32, no states, no words about the task."""

    def less(episode: Episode) -> Episode:
        vectors: dict[str, Any] = {k: getattr(episode, k).astype(np.float32) for k in ("actions", "proprio", "joints")}
        return replace(episode, **vectors, states=None, source={"shard": 3})

    return [less(episode) for episode in episodes_of(Hdf5Source(demo_folder))]


def same(one: Episode, other: Episode) -> None:
    assert (one.task, one.prompt, one.success) == (other.task, other.prompt, other.success)
    for name in ("actions", "proprio", "joints", "states"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for camera, frames in one.images.items():
        np.testing.assert_array_equal(frames, other.images[camera])


def test_pictures_need_not_be_packed(demo_folder: Path, tmp_path: Path) -> None:
    """And single frames are read as from packed ones, whatever is asked for."""
    episodes = episodes_of(Hdf5Source(demo_folder))
    sources = [Hdf5Source(write(tmp_path / str(packed), episodes, packed=packed)) for packed in (True, False)]
    assert [source.stored.codec for source in sources] == ["gzip", "raw"]
    for episode, one, other in zip(episodes, *(source.episodes for source in sources), strict=True):
        same(episode, sources[1].load(other))
        for steps in ([2], [3, 0, 3, 1], range(len(episode)), []):
            for source, ref in zip(sources, (one, other), strict=True):
                found = source.frames(ref, steps)
                assert all((frames == episode.images[name][list(steps)]).all() for name, frames in found.items())
    with pytest.raises(IndexError, match="has 4 steps, not 4 to 4"):
        sources[0].frames(sources[0].episodes[0], [4])


def test_files_come_back_to_the_bit(demo_folder: Path, tmp_path: Path) -> None:
    writer = Hdf5Writer()
    assert isinstance(writer, Writer) and writer.format == "hdf5" and len(writer.drops) == 1
    source = Hdf5Source(demo_folder)
    made = write(tmp_path, episodes_of(source))
    again = Hdf5Source(made)
    assert [ref.id for ref in again.episodes] == [ref.id for ref in source.episodes] and again.warnings == ()
    assert (again.stored.version, again.stored.observed, again.stored.lacks) == ("handeye", "before", ())
    for old, new in zip(source.episodes, again.episodes, strict=True):
        same(source.load(old), again.load(new))
        one, other = source.record(old, images=False), again.record(new, images=False)
        assert one.model_file == other.model_file == "<mujoco/>"
        assert other.info["seed"] == one.info["seed"] and other.info["converted_from"] == old.id
        np.testing.assert_array_equal(one.init_state, other.init_state)
        np.testing.assert_allclose(one.robot_states[:, :5], other.robot_states[:, :5], rtol=0, atol=0)
        np.testing.assert_allclose(axis_angle_robosuite(other.robot_states[:, 5:]), one.ee_states[:, 3:], atol=1e-9)
    for path in source.files:
        old, new = index_file(path), index_file(made / path.relative_to(demo_folder))
        assert old.header == new.header and old.header.env_args == {"camera_heights": 12}


def test_a_raw_file_becomes_one_that_was_observed_before(demo_folder: Path, tmp_path: Path) -> None:
    """Where the first action and the last view are left out, and what was asked is what the file's name says."""
    path = tmp_path / "raw" / "libero_goal" / "open_the_drawer_demo.hdf5"
    path.parent.mkdir(parents=True)
    path.write_bytes((demo_folder / "a" / "open_the_drawer_demo.hdf5").read_bytes())
    with h5py.File(path, "r+") as file:
        del file["data"].attrs[OBSERVED]
        for name in file["data"]:  # what was seen belongs to the state after the action
            states = file[f"data/{name}/states"][()]
            file[f"data/{name}/states"][:] = np.roll(states, 1, axis=0)
    raw = Hdf5Source(tmp_path / "raw")
    assert raw.stored.version == "raw"
    made = Hdf5Source(write(tmp_path, episodes_of(raw)))
    assert made.stored.observed == "before" and made.episodes[0].prompt == "open the drawer"
    assert [ref.length for ref in made.episodes] == [ref.length for ref in raw.episodes] == [3, 4, 5, 6, 7]
    for old, new in zip(raw.episodes, made.episodes, strict=True):
        same(raw.load(old), made.load(new))


def test_what_is_not_there_is_said(foreign: list[Episode], tmp_path: Path) -> None:
    source = Hdf5Source(write(tmp_path, foreign))
    assert source.stored.lacks == ("simulator states",) and source.warnings == ()
    for one, other in zip(foreign, episodes_of(source), strict=True):
        assert other.states is None and other.source["shard"] == 3
        for name in ("actions", "proprio", "joints"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    with h5py.File(source.files[0]) as file:
        assert json.loads(file["data"].attrs[LACKS]) == ["states"] and "states" not in file["data/demo_0"]
    without = [replace(episode, joints=None) for episode in foreign[:2]]
    assert Hdf5Source(write(tmp_path / "2", without)).stored.lacks == ("simulator states", "joints")


def test_a_file_that_lacks_more_than_it_says_is_refused(foreign: list[Episode], tmp_path: Path) -> None:
    path = Hdf5Source(write(tmp_path, foreign[:1])).files[0]
    for said, why in (
        ("[]", "there is no states"),
        ('["dones"]', "known: states, joint_states"),
        ("{", "handeye_lacks"),
    ):
        with h5py.File(path, "r+") as file:
            file["data"].attrs[LACKS] = said
        with pytest.raises(UserError, match=why):
            Hdf5Source(path)
    with h5py.File(path, "r+") as file:
        del file["data"].attrs[LACKS]
    with pytest.raises(UserError, match="there is no states"):
        read_demo(path, "demo_0")


def test_bytes_follow_from_the_episodes(foreign: list[Episode], tmp_path: Path) -> None:
    one, other = write(tmp_path / "1", foreign), write(tmp_path / "2", foreign)
    files = sorted(path.relative_to(one) for path in one.rglob("*.hdf5"))
    assert len(files) == 3
    for path in files:
        assert (one / path).read_bytes() == (other / path).read_bytes()
    assert not list(tmp_path.rglob(".*"))


def test_failures_and_unknown_ends(foreign: list[Episode], tmp_path: Path) -> None:
    episodes = [replace(foreign[0], success=False), replace(foreign[0], success=None)]
    made = Hdf5Source(write(tmp_path, episodes))
    assert [e.success for e in episodes_of(made)] == [False, False] and len(made.warnings) == 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"images": {}}, "needs a picture of the camera agentview"),
        ({"prompt": ""}, "it has no sentence"),
        ({"task": "../../x_y"}, "which is no file name"),
        ({"task": "/x_y"}, "which is no file name"),
        ({"task": ""}, "which is no file name"),
        ({"proprio": np.zeros((4, 7))}, r"proprio has the shape \(4, 7\) instead of \(4, 8\)"),
        ({"joints": np.zeros((4, 9))}, r"joints has the shape \(4, 9\)"),
    ],
)
def test_what_does_not_fit_is_refused(foreign: list[Episode], tmp_path: Path, changes, why: str) -> None:
    with pytest.raises(UserError, match=why):
        Hdf5Writer().encode(replace(foreign[0], **changes), tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_one_file_has_one_sentence(foreign: list[Episode], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"do not fit into one HDF5 file.*\n.*their language differs: 'put the bowl"):
        write(tmp_path, [foreign[0], replace(foreign[1], prompt="do it")])
    with pytest.raises(UserError, match="is no part"):
        with h5py.File(tmp_path / "foreign", "w") as file:
            file.create_group("data")
        Hdf5Writer().assemble([tmp_path / "foreign"], tmp_path / "set")


def test_the_task_is_noted_in_the_file(foreign: list[Episode], tmp_path: Path) -> None:
    path = Hdf5Source(write(tmp_path, foreign[:1])).files[0]
    with h5py.File(path) as file:
        assert file["data"].attrs[TASK] == foreign[0].task
