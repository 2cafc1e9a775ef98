"""What lies in a LeRobot set comes out as episodes; whatever is wrong with it is said."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from handeye.data.lerobot.source import LeRobotSource
from handeye.data.source import Source, open_source
from handeye.errors import UserError

KINDS = [
    ("v2.0", "openpi", "png"),
    ("v2.1", "lerobot-wrist", "png"),
    ("v2.1", "openpi", "h264"),
    ("v3.0", "lerobot", "png"),
    ("v3.0", "lerobot", "av1"),
    ("v3.0", "openpi", "h264"),
]


def load_all(root: Path) -> None:
    source = open_source(root)
    for ref in source.episodes:
        source.load(ref)


@pytest.mark.parametrize(("version", "style", "images"), KINDS)
def test_every_kind_is_read(lerobot_set, version: str, style: str, images: str) -> None:
    made = lerobot_set(version=version, style=style, images=images)
    source = open_source(made.root)
    assert isinstance(source, LeRobotSource) and isinstance(source, Source) and source.warnings == ()
    stored = source.stored
    assert (stored.format, stored.version, stored.codec, stored.observed) == ("lerobot", version, images, "before")
    assert stored.lacks == ("simulator states", "joints", "success")
    assert (source.specs.image.height, source.specs.image.width) == (32, 32)
    assert set(source.files) == {path for path in made.root.rglob("*.*") if path.is_file()}
    assert [ref.id for ref in source.episodes] == [
        "turn_on_the_stove/episode_0", "put_the_bowl_on_the_plate/episode_1", "turn_on_the_stove/episode_2",
    ]  # fmt: skip
    for number, ref in enumerate(source.episodes):
        episode = source.load(ref)
        assert (episode.id, episode.task, episode.prompt, len(episode)) == (ref.id, ref.task, ref.prompt, ref.length)
        assert episode.prompt == made.sentences[number] and episode.task == episode.prompt.replace(" ", "_")
        assert (episode.success, episode.joints, episode.states) == (None, None, None)
        assert json.loads(json.dumps(episode.source)) == episode.source
        np.testing.assert_array_equal(episode.actions, made.actions[number])
        np.testing.assert_array_equal(episode.proprio, made.states[number])
        assert episode.actions.dtype == episode.proprio.dtype == np.float32
        for found, expected in zip(
            source.stored_vectors(ref), (made.actions[number], made.states[number]), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
        for name, frames in episode.images.items():
            upright = made.images[number][name][:, :, ::-1]
            if images == "png":
                np.testing.assert_array_equal(frames, upright)
            else:  # blocks of 8 x 8 random colours, halved chroma
                assert np.abs(frames.astype(int) - upright).mean() < 12
                np.testing.assert_allclose(
                    frames[:, 2, -3, 1], upright[:, 2, -3, 1], atol=12
                )  # its row, in steps of 31
        assert source.load(ref, images=False).images == {}


@pytest.mark.parametrize(("version", "style", "images"), KINDS[2:])
def test_frames_are_those_of_the_whole_episode(lerobot_set, version: str, style: str, images: str) -> None:
    """In any order, again and again, to the bit, also across episodes of one file and backwards."""
    made = lerobot_set(version=version, style=style, images=images, lengths=(5, 41, 3, 30))
    source, again = LeRobotSource(made.root), LeRobotSource(made.root)
    whole = [again.load(ref).images for ref in again.episodes]
    rng = np.random.default_rng(0)
    for number in [1, 0, 1, 3, 2, 1, 3, 1]:
        ref = source.episodes[number]
        steps = rng.integers(0, ref.length, 4).tolist()
        for name, frames in source.frames(ref, steps).items():
            np.testing.assert_array_equal(frames, whole[number][name][steps])
    assert source.frames(source.episodes[0], [])["wrist"].shape == (0, 32, 32, 3)
    with pytest.raises(IndexError, match="has 5 steps"):
        source.frames(source.episodes[0], [5])


def test_several_sets_in_one_folder(lerobot_set, tmp_path: Path) -> None:
    lerobot_set("all/libero_goal", style="lerobot-wrist")
    lerobot_set("all/libero_spatial", style="openpi", lengths=(2, 4))
    source = open_source(tmp_path / "all")
    assert [ref.id for ref in source.episodes][2:4] == [
        "libero_goal/turn_on_the_stove/episode_2", "libero_spatial/turn_on_the_stove/episode_0",
    ]  # fmt: skip
    assert len({ref.id for ref in source.episodes}) == 5
    assert source.load(source.episodes[4]).actions.shape == (4, 7)
    lerobot_set("all/other", version="v2.0")
    with pytest.raises(UserError, match="of different versions"):
        open_source(tmp_path / "all")


def test_what_some_sets_hold_besides(lerobot_set) -> None:
    extras = {
        "next.success": lambda n: [False] * (n - 1) + [True],
        "next.done": lambda n: [True] * n,
        "observation.states.joint_state": lambda n: [[0.5] * 7] * n,
    }
    source = LeRobotSource(lerobot_set(extras=extras).root)
    assert source.stored.lacks == ("simulator states",)
    episode = source.load(source.episodes[1])
    assert episode.success is True and episode.joints.shape == (8, 7) and episode.joints[0, 0] == 0.5


def test_odd_but_sound(lerobot_set) -> None:
    made = lerobot_set()
    made.change_info(fps=20, total_tasks=3, splits={"train": "0:2", "val": "2:3"})
    made.change_table(
        "data/chunk-000/episode_000000.parquet", lambda t: _put(t, "timestamp", [k / 20 for k in range(5)])
    )
    warnings = LeRobotSource(made.root).warnings
    assert ["total_tasks is 3" in w or "val) are read as one set" in w for w in warnings] == [True, True]
    made.change_info(fps=30)
    assert any("fps is 30; LIBERO acts 20 times a second" in w for w in LeRobotSource(made.root).warnings)


def test_a_copy_in_another_process_reads_too(lerobot_set) -> None:
    made = lerobot_set(version="v3.0", style="lerobot", images="h264")
    source = LeRobotSource(made.root)
    ref = source.episodes[1]
    expected = source.frames(ref, [3, 7])["wrist"]
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.frames(ref, [3, 7])["wrist"], expected)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = [pool.apply_async(_wrist, (source, ref, [3, 7])) for _ in range(6)]
        for found in results:
            np.testing.assert_array_equal(found.get(timeout=60), expected)


def _wrist(source: LeRobotSource, ref, steps: list[int]) -> np.ndarray:
    return source.frames(ref, steps)["wrist"]


def test_few_files_stay_open(lerobot_set) -> None:
    source = LeRobotSource(lerobot_set(images="h264", lengths=(2,) * 6).root)
    source._videos._most = source._tables._most = 2
    for ref in (*source.episodes, *source.episodes):
        source.load(ref)
        assert len(source._videos._files) <= 2 and len(source._tables._files) <= 2


def _put(table: pa.Table, name: str, values: list) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, name, pa.array(values, table.schema.field(name).type))


def _cell(table: pa.Table, name: str, row: int, value: object) -> pa.Table:
    values = table.column(name).to_pylist()
    values[row] = value
    return _put(table, name, values)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda t: _cell(t, "actions", 2, [0, 0, 0, 0, 0, 0, 1.5]), r"actions\[2, 6\] is 1.5; LIBERO's actions lie in"),
        (lambda t: _cell(t, "state", 1, [np.inf] * 8), r"state\[1, 0\] is inf"),
        (lambda t: _cell(t, "state", 1, [None] * 8), "8 of them empty"),
        (lambda t: _cell(t, "state", 1, None), "with 1 rows empty"),
        (lambda t: _cell(t, "frame_index", 3, 2), "frame_index of its row 3 is 2 instead of 3"),
        (lambda t: _cell(t, "episode_index", 0, 1), "episode_index of its row 0 is 1 instead of 0"),
        (lambda t: _cell(t, "index", 0, 7), "index of its row 0 is 7 instead of 0"),
        (lambda t: _cell(t, "timestamp", 1, 0.2), r"timestamp of its row 1 is 0.2.*; it has 10 rows per second"),
        (lambda t: _cell(t, "task_index", 1, 1), "are of task 1, 'put the bowl on the plate'; the list of"),
        (lambda t: _cell(t, "task_index", 1, 9), "are of task 9, which is not in the list of tasks"),
        (lambda t: _cell(t, "image", 1, {"bytes": None, "path": "images/1.png"}), "image has no picture bytes"),
        (lambda t: _cell(t, "image", 1, None), "image has no picture bytes"),
        (lambda t: t.set_column(0, "image", pa.array([{"path": "x"}] * 5)), "instead of a picture's bytes and path"),
        (lambda t: t.set_column(2, "state", pa.array([[0.0] * 3] * 5)), "instead of 8"),
        (lambda t: t.set_column(2, "state", pa.array([[0.0] * 8] * 4 + [[0.0] * 3])), "instead of 8"),
        (lambda t: t.set_column(2, "state", pa.array(["x"] * 5)), "state is string with 0 rows empty"),
        (lambda t: t.set_column(5, "frame_index", pa.array(["x"] * 5)), "frame_index is string"),
        (lambda t: t.slice(0, 4), "it has 4 rows; the list gives 5"),
        (lambda t: t.drop_columns(["wrist_image"]), "no column wrist_image"),
    ],
)  # fmt: skip
def test_wrong_rows_are_refused(lerobot_set, edit, why: str) -> None:
    made = lerobot_set()
    made.change_table("data/chunk-000/episode_000000.parquet", edit)
    with pytest.raises(UserError, match=why):
        load_all(made.root)


def test_a_picture_of_another_size_is_refused(lerobot_set) -> None:
    made = lerobot_set()
    info = json.loads((made.root / "meta/info.json").read_text())
    for key in ("image", "wrist_image"):
        info["features"][key]["shape"] = [64, 32, 3]
    made.change_info(features=info["features"])
    with pytest.raises(UserError, match="is 32 x 32 pixels instead of 64 x 32"):
        load_all(made.root)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"codebase_version": "v4.0"}, "of the LeRobot version 'v4.0'"),
        ({"total_episodes": 4}, "total_episodes is 4; its episodes have 3"),
        ({"total_frames": "16"}, "total_frames is '16' instead of a whole number"),
        ({"total_frames": True}, "total_frames is True"),
        ({"fps": 0}, "fps is 0"),
        ({"chunks_size": 0}, "chunks_size is 0"),
        ({"features": []}, "it has no features"),
        ({"data_path": 3}, "data_path is 3"),
        ({"data_path": "data/{episode_index:09999999d}.parquet"}, "in braces stand episode_index"),
        ({"data_path": "data/{episode_index.__class__}.parquet"}, "in braces stand episode_index"),
        ({"data_path": "data/all.parquet"}, "in braces stand episode_index"),
        ({"data_path": "/data/{episode_index}.parquet"}, "points out of its folder"),
        ({"data_path": "data/../../{episode_index}.parquet"}, "points out of its folder"),
        ({"data_path": "http://host/{episode_index}.parquet"}, "points out of its folder"),
    ],
)  # fmt: skip
def test_wrong_info_is_refused(lerobot_set, fields: dict, why: str) -> None:
    made = lerobot_set()
    made.change_info(**fields)
    with pytest.raises(UserError, match=why):
        load_all(made.root)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (
            lambda f: f.update({"observation.depth": f["image"]}),
            r"it has actions, image, observation.depth, .* Known are",
        ),
        (lambda f: f.pop("wrist_image"), "columns that are not those of a LIBERO set"),
        (lambda f: f["state"].update(shape=[9]), r"state is float32 \[9\] instead of float32 \[8\]"),
        (lambda f: f["image"].update(dtype="binary"), "neither image nor video"),
        (lambda f: f["image"].update(names=["a", "b", "c"]), "with the names"),
        (lambda f: f["image"].update(shape=[32, 50000, 3]), "with the names"),
        (lambda f: f["image"].update(shape=[64, 64, 3]), "its cameras differ"),
    ],
)
def test_columns_that_are_not_liberos_are_refused(lerobot_set, edit, why: str) -> None:
    made = lerobot_set()
    features = json.loads((made.root / "meta/info.json").read_text())["features"]
    edit(features)
    made.change_info(features=features)
    with pytest.raises(UserError, match=why):
        load_all(made.root)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("tasks", '{"task_index": 0, "task": "turn on the stove"}\n' * 2, "is not a new number and a sentence"),
        ("tasks", '{"task_index": 0, "task": " "}', "is not a new number and a sentence"),
        ("tasks", "[1]", "line 1: it is no JSON object"),
        ("tasks", "[" * 100_000, "it is not JSON"),
        ("episodes", '{"episode_index": 0, "tasks": ["turn on the stove"], "length": 5}\n' * 2, "not numbered from 0"),
        ("episodes", '{"episode_index": 1, "tasks": ["turn on the stove"], "length": 5}', "see number 0"),
        ("episodes", '{"episode_index": 0, "tasks": ["turn on the stove"], "length": 0}', "length is 0"),
        ("episodes", '{"episode_index": 0, "tasks": [], "length": 5}', "instead of one sentence"),
        ("episodes", '{"episode_index": 0, "tasks": ["sing"], "length": 5}', "'sing' is not in the list of tasks"),
        ("episodes", "\n", "it lists no episodes"),
    ],
)  # fmt: skip
def test_wrong_lists_are_refused(lerobot_set, name: str, text: str, why: str) -> None:
    made = lerobot_set()
    (made.root / "meta" / f"{name}.jsonl").write_text(text)
    with pytest.raises(UserError, match=why):
        load_all(made.root)


EPISODES = "meta/episodes/chunk-000/file-000.parquet"
IMAGE = "videos/observation.images.image"


@pytest.mark.parametrize(
    ("path", "edit", "why"),
    [
        (EPISODES, lambda t: _cell(t, "dataset_from_index", 1, 6), "its rows are 6 to 13; .* make 5 to 13"),
        (EPISODES, lambda t: _cell(t, "data/file_index", 1, 1), "it has 13 rows; the list gives 5"),
        (EPISODES, lambda t: _cell(t, f"{IMAGE}/from_timestamp", 1, 0.54), "between two frames"),
        (EPISODES, lambda t: _cell(t, f"{IMAGE}/to_timestamp", 1, 0.9), r"spans 4.0 frames; the episode has 8"),
        (EPISODES, lambda t: _cell(t, f"{IMAGE}/to_timestamp", 1, None), "to_timestamp is None"),
        (EPISODES, lambda t: _cell(_cell(t, f"{IMAGE}/from_timestamp", 1, 0.6), f"{IMAGE}/to_timestamp", 1, 1.4),
         "episode 1 starts at its frame 6, those before it end at 5"),
        (EPISODES, lambda t: t.drop_columns([f"{IMAGE}/file_index"]), "file_index is None"),
        (EPISODES, lambda t: t.drop_columns(["length"]), "no column length"),
        ("meta/tasks.parquet", lambda t: t.drop_columns(["task_index"]), "no column task_index"),
        ("meta/tasks.parquet", lambda t: t.rename_columns(["task_index", "x"]), "its columns are task_index, x"),
    ],
)  # fmt: skip
def test_wrong_tables_of_version_3_are_refused(lerobot_set, path: str, edit, why: str) -> None:
    made = lerobot_set(version="v3.0", style="lerobot", images="h264")
    made.change_table(path, edit)
    with pytest.raises(UserError, match=why):
        load_all(made.root)


def test_wrong_videos_are_refused(lerobot_set, tmp_path: Path) -> None:
    made = lerobot_set(version="v3.0", style="lerobot", images="h264", lengths=(5, 8, 20))
    short, long = (made.root / f"videos/observation.images.image/chunk-000/file-{k:03d}.mp4" for k in (0, 1))
    content = short.read_bytes()

    def refused(why: str) -> None:
        with pytest.raises(UserError, match=why):
            load_all(made.root)

    shutil.copy(long, short)
    refused("it has 20 frames; its episodes have 13")
    short.write_bytes(content[: len(content) // 2])
    refused(f"{short} cannot be used")
    short.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")  # FFmpeg would follow a playlist that it recognises
    refused("cannot be used")
    short.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    refused("Git LFS pointer")
    short.write_bytes(b"")
    refused("it is empty")
    short.unlink()
    refused("the file is missing")
    short.write_bytes(content)
    load_all(made.root)


def test_a_folder_without_a_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no LeRobot set"):
        LeRobotSource(tmp_path)


@pytest.mark.parametrize(
    ("version", "style", "images"), [("v2.1", "openpi", "png"), ("v3.0", "lerobot", "av1"), ("v3.0", "lerobot", "h264")]
)
def test_cut_and_flipped_bytes_end_in_an_error_or_a_reading(lerobot_set, version: str, style: str, images: str) -> None:
    made = lerobot_set(version=version, style=style, images=images, lengths=(3, 4))
    rng = np.random.default_rng(0)
    files = sorted(path for path in made.root.rglob("*.*") if path.is_file())
    refused = 0
    for case in range(100):
        path = files[case % len(files)]
        content = path.read_bytes()
        broken = bytearray(content)
        if case % 2:
            broken = broken[: rng.integers(0, len(broken))]
        else:
            for place in rng.integers(0, len(broken), 4):
                broken[place] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        try:
            load_all(made.root)
        except UserError:
            refused += 1
        path.write_bytes(content)
    load_all(made.root)
    assert refused >= 45  # nearly every cut
