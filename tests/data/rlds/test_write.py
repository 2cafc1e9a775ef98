"""What is written reads back, in bytes that depend on the episodes alone, laid out as TFDS expects it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handeye.data.hdf5.source import Hdf5Source
from handeye.data.pictures import decode, encode_jpeg
from handeye.data.rlds.source import RldsSource
from handeye.data.rlds.write import RldsWriter
from handeye.data.source import Source, Writer
from handeye.errors import UserError
from handeye.types import Episode


def write(folder: Path, episodes: list[Episode], writer: RldsWriter | None = None) -> Path:
    writer = writer or RldsWriter()
    parts = []
    for number, episode in enumerate(episodes):
        parts.append(folder / "parts" / f"{number:03d}")
        writer.encode(episode, parts[-1])
    writer.assemble(parts, folder / "set")
    return folder / "set"


def episodes_of(source: Source) -> list[Episode]:
    return [source.load(ref) for ref in source.episodes]


@pytest.fixture
def episode() -> Callable[..., Episode]:
    def make(length: int = 3, task: str = "libero_goal/open_the_drawer", **changes: object) -> Episode:
        rng, y, x = np.random.default_rng(length), *np.mgrid[:16, :16]
        frames = np.stack([np.stack([8 * y + step, 9 * x, 4 * (x + y)], -1) for step in range(length)])
        made = Episode(
            id=f"{task}/demo_0",
            task=task,
            prompt="open the middle drawer",
            images={name: frames.astype(np.uint8) for name in ("agentview", "wrist")},
            proprio=rng.normal(size=(length, 8)),
            actions=rng.uniform(-1, 1, (length, 7)),
            joints=rng.normal(size=(length, 7)),
            success=True,
        )  # fmt: skip
        return replace(made, **changes)

    return make


def test_round_trip_from_hdf5(demo_folder: Path, tmp_path: Path) -> None:
    """Numbers to float32, words exactly, pictures as one JPEG leaves them; tasks in folders become data sets."""
    writer = RldsWriter()
    assert isinstance(writer, Writer) and writer.format == "rlds" and "simulator states" in writer.drops
    there = episodes_of(Hdf5Source(demo_folder))
    source = RldsSource(write(tmp_path, there))
    assert source.warnings == () and source.stored.version == "1.0.0"
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["a", "b"]
    back = episodes_of(source)
    assert [e.task for e in back] == [e.task for e in there] and len(back) == 15
    assert back[6].id == "a/push_the_button/train_6"
    for one, other in zip(there, back, strict=True):
        assert (one.prompt, one.success, len(one)) == (other.prompt, other.success, len(other))
        for name in ("actions", "proprio", "joints"):
            assert getattr(other, name).dtype == np.float32
            np.testing.assert_array_equal(getattr(one, name).astype(np.float32), getattr(other, name))
        for camera, frames in one.images.items():
            for frame, found in zip(frames, other.images[camera], strict=True):
                expected = decode(encode_jpeg(frame[:, ::-1]), "a picture")[:, ::-1]
                np.testing.assert_array_equal(found, expected)


def test_written_again(tmp_path: Path, episode) -> None:
    """A second JPEG moves pixels by a level or two; numbers stay for ever."""
    first = RldsSource(write(tmp_path / "1", [episode(4)]))
    second = RldsSource(write(tmp_path / "2", episodes_of(first)))
    one, other = episodes_of(first)[0], episodes_of(second)[0]
    np.testing.assert_array_equal(one.actions, other.actions)
    np.testing.assert_array_equal(one.proprio, other.proprio)
    away = np.abs(one.images["wrist"].astype(int) - other.images["wrist"])
    assert 0 < away.mean() < 2 and away.max() < 12


def test_bytes_follow_from_the_episodes(tmp_path: Path, episode) -> None:
    """Whoever wrote the parts, and wherever they lay."""
    episodes = [episode(length) for length in (3, 4, 5)]
    one, other = write(tmp_path / "1", episodes), tmp_path / "2"
    writer = RldsWriter()
    for number in (2, 0, 1):
        writer.encode(episodes[number], other / f"{number}.part")
    writer.assemble([other / f"{number}.part" for number in range(3)], other / "set")
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 3
    for path in files:
        assert (one / path).read_bytes() == (other / "set" / path).read_bytes()


def test_shards_are_bounded_and_never_cut_an_episode(tmp_path: Path, episode) -> None:
    episodes = [episode(length) for length in (3, 4, 30, 5, 6)]
    whole = write(tmp_path / "1", episodes, RldsWriter())
    size = (tmp_path / "1" / "parts" / "001").stat().st_size
    small = write(tmp_path / "2", episodes, RldsWriter(shard_bytes=2 * size))
    said = json.loads((small / "libero_goal" / "1.0.0" / "dataset_info.json").read_text())["splits"][0]
    assert said["shardLengths"] == ["2", "1", "1", "1"]
    assert len(list(whole.rglob("*.tfrecord-*"))) == 1 and len(list(small.rglob("*-of-00004"))) == 4
    content = sorted(small.rglob("*.tfrecord-*"))
    assert b"".join(path.read_bytes() for path in content) == next(whole.rglob("*.tfrecord-*")).read_bytes()
    assert [len(e) for e in episodes_of(RldsSource(small))] == [3, 4, 30, 5, 6]


def test_names(tmp_path: Path, episode) -> None:
    tasks = ["open_the_drawer", "90-new/KITCHEN_SCENE1_open_the_drawer", "a/b/open_the_drawer"]
    made = write(tmp_path, [episode(3, task) for task in tasks], RldsWriter("my set.v2"))
    assert sorted(path.name for path in made.iterdir()) == ["a_b", "my_set_v2", "set_90_new"]
    assert {ref.task for ref in RldsSource(made).episodes} == {
        "a_b/open_the_drawer", "my_set_v2/open_the_drawer", "set_90_new/KITCHEN_SCENE1_open_the_drawer",
    }  # fmt: skip
    with pytest.raises(UserError, match="several folders would go into one"):
        write(tmp_path / "2", [episode(3, "a/b/x_y"), episode(3, "a_b/x_y")])


def test_what_an_episode_lacks(tmp_path: Path, episode) -> None:
    """No wrist camera, no joints, no success; pictures of their own size."""
    without = episode(3, joints=None, success=None, images={"agentview": np.zeros((3, 12, 20, 3), np.uint8)})
    source = RldsSource(write(tmp_path, [without]))
    spec = source.specs.image
    assert (spec.cameras, spec.height, spec.width) == (("agentview",), 12, 20)
    back = episodes_of(source)[0]
    assert source.stored.lacks == ("simulator states", "joints") and back.joints is None and back.success is False
    assert not back.images["agentview"].any()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"images": {}}, "its cameras are none"),
        ({"images": dict.fromkeys(("agentview", "third"), np.zeros((3, 8, 8, 3), np.uint8))}, "agentview, third"),
        ({"prompt": " "}, "it has no sentence"),
        ({"proprio": np.zeros((3, 7))}, r"\(3, 7\) instead of \(3, 8\)"),
        ({"joints": np.zeros((3, 6))}, r"\(3, 6\) instead of \(3, 7\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, episode, changes: dict[str, object], why: str) -> None:
    with pytest.raises(UserError, match=why):
        RldsWriter().encode(episode(3, **changes), tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_a_mixture_is_refused(tmp_path: Path, episode) -> None:
    with pytest.raises(UserError, match=r"do not fit into one RLDS set.*\n.*with joints in one, .* without joints"):
        write(tmp_path, [episode(3), episode(4, joints=None)])
    (tmp_path / "foreign").write_bytes((tmp_path / "parts" / "000").read_bytes()[:50])
    with pytest.raises(UserError, match=r"foreign.*cannot be used"):
        RldsWriter().assemble([tmp_path / "foreign"], tmp_path / "set2")


def test_a_set_without_a_half_file(tmp_path: Path, episode) -> None:
    """Assembled again over what a kill left, by a caller who cleared it."""
    made = write(tmp_path, [episode(3)])
    with pytest.raises(UserError, match="Could not write"):
        RldsWriter().assemble([tmp_path / "parts" / "000"], made)
    shutil.rmtree(made)
    RldsWriter().assemble([tmp_path / "parts" / "000"], made)
    assert len(RldsSource(made).episodes) == 1
