"""Episodes go into a LeRobot set and come out again; the set is put together without decoding, the same each time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from handeye.data.lerobot import v3, video
from handeye.data.lerobot.source import LeRobotSource
from handeye.data.lerobot.write import LeRobotWriter
from handeye.data.source import Writer
from handeye.errors import UserError
from handeye.types import Episode

SIZE = 32
SENTENCES = ("turn on the stove", "schließe die Schublade „oben“", "turn on the stove")


def make_episode(length: int, seed: int = 0, size: int = SIZE) -> Episode:
    """float64 vectors as HDF5 has them; smooth pictures that change from step to step."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (2, 1, size // 8, size // 8, 3)) + 9 * np.arange(length)[:, None, None, None]
    frames = (np.abs(small % 510 - 255)).astype(np.uint8).repeat(8, 2).repeat(8, 3)
    return Episode(
        id=f"libero_goal/some_task/demo_{seed}",
        task="libero_goal/some_task",
        prompt=SENTENCES[seed % 3],
        images={"agentview": frames[0], "wrist": frames[1]},
        proprio=rng.normal(size=(length, 8)),
        actions=np.concatenate([rng.uniform(-1, 1, (length, 6)), np.ones((length, 1))], axis=1),
        states=rng.normal(size=(length, 20)),
        success=True,
    )


def write(writer: LeRobotWriter, episodes: list[Episode], root: Path) -> Path:
    parts = []
    for number, episode in enumerate(episodes):
        parts.append(root / "parts" / str(number))
        writer.encode(episode, parts[-1])
    writer.assemble(parts, root / "set")
    return root / "set"


@pytest.mark.parametrize("images", ["png", "av1", "h264"])
@pytest.mark.parametrize(("version", "keys"), [("v2.0", "openpi"), ("v2.1", "lerobot-wrist"), ("v3.0", "lerobot")])
def test_round_trip(tmp_path: Path, version: str, keys: str, images: str) -> None:
    """Language and PNG exactly, vectors in float32, video within its codec's loss."""
    writer = LeRobotWriter(version=version, images=images, keys=keys)
    assert isinstance(writer, Writer) and writer.format == "lerobot"
    assert {"simulator states", "joints", "success", "digits of vectors beyond float32"} <= set(writer.drops)
    episodes = [make_episode(length, seed) for seed, length in enumerate((5, 12, 1))]
    source = LeRobotSource(write(writer, episodes, tmp_path))
    assert (source.stored.version, source.stored.codec, source.warnings) == (version, images, ())
    assert len(source.episodes) == 3
    for ref, put in zip(source.episodes, episodes, strict=True):
        got = source.load(ref)
        assert got.prompt == put.prompt and got.success is None and got.states is None
        np.testing.assert_array_equal(got.actions, put.actions.astype(np.float32))
        np.testing.assert_array_equal(got.proprio, put.proprio.astype(np.float32))
        for name in put.images:
            if images == "png":
                np.testing.assert_array_equal(got.images[name], put.images[name])
            else:  # blocks of 8 x 8 pixels in strong colours; on LIBERO's scenes it is 2 to 3
                off = np.abs(got.images[name].astype(int) - put.images[name]).mean(axis=(1, 2, 3))
                assert off.max() < 14
                if len(put) > 1:  # no frame is its neighbour
                    assert off.mean() < np.abs(got.images[name][1:].astype(int) - put.images[name][:-1]).mean()
    tasks = {path.name for path in (tmp_path / "set" / "meta").iterdir()}
    assert ("stats.json" in tasks) == (version != "v2.1") and ("episodes_stats.jsonl" in tasks) == (version == "v2.1")


@pytest.mark.parametrize(("version", "images"), [("v2.1", "png"), ("v3.0", "av1"), ("v3.0", "h264")])
def test_the_same_episodes_give_the_same_bytes(tmp_path: Path, version: str, images: str) -> None:
    writer = LeRobotWriter(version=version, images=images)
    found = []
    for root in (tmp_path / "a", tmp_path / "b"):
        write(writer, [make_episode(9, seed) for seed in range(3)], root)
        found.append({p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()})
    assert found[0] == found[1] and len(found[0]) >= 3 + 6


@pytest.mark.parametrize("images", ["png", "h264"])
def test_files_of_version_3_are_closed_before_they_grow_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: str
) -> None:
    monkeypatch.setattr(v3, "MB", 1024)
    monkeypatch.setattr(v3, "CHUNK", 2)
    episodes = [make_episode(8, seed) for seed in range(12)]
    root = write(LeRobotWriter(images=images, data_mb=16, video_mb=10), episodes, tmp_path)
    place = "data/*/*" if images == "png" else "videos/observation.images.image/*/*"
    files = sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.glob(place))
    folder = place.removesuffix("/*/*")
    assert files[:3] == [f"{folder}/chunk-{k // 2:03d}/file-{k % 2:03d}" for k in range(3)]
    assert all(path.stat().st_size < 24 * 1024 for path in root.glob(place))
    assert len(list(root.glob("meta/episodes/*/*"))) > 1
    source = LeRobotSource(root)
    for ref, put in zip(source.episodes, episodes, strict=True):
        got = source.load(ref)
        np.testing.assert_array_equal(got.actions, put.actions.astype(np.float32))
        assert np.abs(got.images["wrist"].astype(int) - put.images["wrist"]).mean() < 14


def test_pictures_lie_in_small_row_groups(tmp_path: Path) -> None:
    """So that one frame does not cost a whole episode."""
    root = write(LeRobotWriter(version="v2.1", keys="openpi"), [make_episode(40)], tmp_path)
    metadata = pq.read_metadata(next(root.glob("data/*/*")))
    assert [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)] == [16, 16, 8]


def test_statistics_are_of_the_data(tmp_path: Path) -> None:
    """The definition is the library's; what it is close to is known."""
    episodes = [make_episode(60, seed) for seed in range(3)]
    root = write(LeRobotWriter(), episodes, tmp_path)
    stats = json.loads((root / "meta" / "stats.json").read_text())
    actions = np.concatenate([episode.actions for episode in episodes]).astype(np.float32)
    pixels = np.concatenate([episode.images["agentview"] for episode in episodes]).reshape(-1, 3) / 255
    for key, values in (("action", actions), ("observation.images.image", pixels)):
        found = {name: np.array(value).reshape(-1) for name, value in stats[key].items()}
        assert found["count"] == [180]
        np.testing.assert_allclose(found["min"], values.min(0), rtol=1e-6)
        np.testing.assert_allclose(found["max"], values.max(0), rtol=1e-6)
        np.testing.assert_allclose(found["mean"], values.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found["std"], values.std(0), rtol=1e-4)
        assert np.all(found["q01"] <= found["q50"]) and np.all(found["q50"] <= found["q99"])
    medians = np.mean([np.quantile(episode.actions, 0.5, axis=0) for episode in episodes], axis=0)
    np.testing.assert_allclose(stats["action"]["q50"], medians, atol=0.08)  # an average of medians, from a histogram
    assert stats["index"]["max"] == [179] and stats["task_index"]["max"] == [1]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"prompt": " "}, "it has no sentence"),
        ({"images": {}}, "its cameras are none instead of agentview, wrist"),
        ({"images": {"agentview": np.zeros((5, 32, 32, 3), np.uint8)}}, "its cameras are agentview instead"),
        ({"images": {k: np.zeros((5, 33, 32, 3), np.uint8) for k in ("agentview", "wrist")}}, "needs even sides"),
        ({"proprio": np.zeros((5, 7))}, r"its proprio have the shape \(5, 7\)"),
        ({"proprio": np.full((5, 8), np.nan)}, "its proprio are not all finite"),
        ({"actions": np.full((5, 7), 1.2)}, "its actions go beyond"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict, why: str) -> None:
    with pytest.raises(UserError, match=why):
        LeRobotWriter(images="h264").encode(replace(make_episode(5), **changes), tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    writer = LeRobotWriter()
    writer.encode(make_episode(5), tmp_path / "0")
    writer.encode(make_episode(5, size=64), tmp_path / "1")
    LeRobotWriter(version="v2.1").encode(make_episode(5), tmp_path / "2")
    for other in ("1", "2"):
        with pytest.raises(UserError, match="do not fit into one LeRobot set"):
            writer.assemble([tmp_path / "0", tmp_path / other], tmp_path / "set")
    (tmp_path / "3").write_bytes((tmp_path / "0").read_bytes()[:-30])
    (tmp_path / "4").write_text("{}")
    for broken in ("3", "4", "5"):
        with pytest.raises(UserError, match=f"{tmp_path / broken} cannot be used"):
            writer.assemble([tmp_path / "0", tmp_path / broken], tmp_path / "set")
    with pytest.raises(ValueError, match="at least one episode"):
        writer.assemble([], tmp_path / "set")


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LeRobotWriter(images="h264")
    writer.encode(make_episode(5), tmp_path / "0")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(v3, "concatenate", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        writer.assemble([tmp_path / "0"], tmp_path / "set")
    assert "free some space" in caught.value.fix
    assert not (tmp_path / "set" / "meta" / "info.json").exists()  # nothing that looks complete


def test_every_frame_of_a_long_video_is_found(tmp_path: Path) -> None:
    """Forwards, backwards and at random, over the seams of what was strung together."""
    frames = make_episode(90).images["agentview"]
    for codec in ("av1", "h264"):
        pieces = [frames[:37], frames[37:38], frames[38:]]
        path = tmp_path / f"{codec}.mp4"
        video.concatenate(((video.encode(p, codec=codec, fps=10), len(p)) for p in pieces), path, fps=10)
        film = video.Video(path, fps=10.0, size=(SIZE, SIZE))
        assert (film.codec, film.frames) == (codec, 90)
        whole = film.read(range(90))
        assert np.abs(whole.astype(int) - frames).mean() < 14
        for number in (89, 0, 36, 37, 38, 39, 5, 88, 2, *reversed(range(30, 45))):
            np.testing.assert_array_equal(film.read([number])[0], whole[number])
        with pytest.raises(UserError, match="it has 90 frames, and frame 90 is asked for"):
            film.read([90])
        film.close()
