"""RLDS sets are read to their contents, or refused with the place named."""

from __future__ import annotations

import json
import pickle
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handeye.conventions.image import Orientation
from handeye.data.pictures import decode, encode_jpeg, encode_png
from handeye.data.rlds import source as module
from handeye.data.rlds.source import RldsSource
from handeye.data.rlds.tfrecord import framed
from handeye.data.source import Source, open_source
from handeye.errors import UserError

SIZE = 16


def read_all(root: Path) -> list[Any]:
    source = RldsSource(root)
    return [source.load(ref) for ref in source.episodes]


def test_a_set_is_read_to_its_contents(rlds: Path, steps_of) -> None:
    source = open_source(rlds)
    assert isinstance(source, RldsSource) and isinstance(source, Source) and source.warnings == ()
    stored = source.stored
    assert (stored.format, stored.version, stored.codec, stored.observed) == ("rlds", "1.0.0", "jpeg", "before")
    assert stored.orientation is Orientation.TURNED_180 and stored.lacks == ("simulator states",)
    assert (source.specs.image.height, source.specs.image.cameras) == (SIZE, ("agentview", "wrist"))
    assert [path.name for path in source.files] == [
        "dataset_info.json", "features.json", "libero_goal-train.tfrecord-00000-of-00002",
        "libero_goal-train.tfrecord-00001-of-00002",
    ]  # fmt: skip
    bowl, drawer = "libero_goal/put_the_bowl_on_the_plate", "libero_goal/open_the_drawer"
    assert [(ref.id, ref.task, ref.length) for ref in source.episodes] == [
        (f"{bowl}/train_0", bowl, 5), (f"{drawer}/train_1", drawer, 3), (f"{bowl}/train_2", bowl, 4),
    ]  # fmt: skip
    made = [steps_of(5, 0), steps_of(3, 1, sentence="open the drawer"), steps_of(4, 2)]
    for ref, steps in zip(source.episodes, made, strict=True):
        json.dumps(dict(ref.where))
        episode = source.load(ref)
        assert (episode.id, episode.task, episode.prompt, len(episode)) == (ref.id, ref.task, ref.prompt, ref.length)
        assert ref.prompt == steps["steps/language_instruction"][0].decode() and episode.success is True
        assert episode.source["file_path"].endswith("_demo.hdf5") and episode.states is None
        assert episode.actions.dtype == episode.proprio.dtype == np.float32
        np.testing.assert_array_equal(episode.actions, steps["steps/action"])
        np.testing.assert_array_equal(episode.proprio, steps["steps/observation/state"])
        np.testing.assert_array_equal(episode.joints, steps["steps/observation/joint_state"])
        for camera, name in (("agentview", "image"), ("wrist", "wrist_image")):
            for step, data in enumerate(steps[f"steps/observation/{name}"]):
                there = decode(data, "a picture")
                np.testing.assert_array_equal(episode.images[camera][step], there[:, ::-1])  # darker on the right
                assert episode.images[camera][step, :, : SIZE // 2].mean() > 30 + there[:, : SIZE // 2].mean()
            np.testing.assert_array_equal(source.frames(ref, [2, 0, 2])[camera], episode.images[camera][[2, 0, 2]])
        actions, proprio = source.stored_vectors(ref)
        np.testing.assert_array_equal(actions, episode.actions)
        np.testing.assert_array_equal(proprio, episode.proprio)
        assert source.load(ref, images=False).images == {}
        assert {len(frames) for frames in source.frames(ref, []).values()} == {0}
    with pytest.raises(IndexError, match="of an episode with 4"):
        source.frames(source.episodes[2], [4])


def test_only_what_is_asked_for_is_decoded(rlds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, decoded = RldsSource(rlds), []
    monkeypatch.setattr(module.pictures, "decode", lambda *a, **k: decoded.append(a[1]) or decode(*a, **k))
    source.frames(source.episodes[0], [3, 1, 3])
    assert [where.split("observation/")[1] for where in decoded] == [
        "image[1]", "image[3]", "wrist_image[1]", "wrist_image[3]",
    ]  # fmt: skip


def test_several_sets_in_one_folder(tmp_path: Path, set_of, steps_of) -> None:
    set_of(tmp_path / "libero_goal_no_noops" / "1.0.0", [[steps_of(3, 0)]], name="libero_goal")
    set_of(tmp_path / "libero_10_no_noops" / "1.0.0", [[steps_of(4, 1)], [steps_of(5, 2)]], name="liber_o10")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "features.json").touch()  # of a program that fetches
    source = RldsSource(tmp_path)
    assert [(ref.id.split("/")[0], ref.length) for ref in source.episodes] == [
        ("liber_o10", 4), ("liber_o10", 5), ("libero_goal", 3),
    ]  # fmt: skip
    assert len({ref.id for ref in source.episodes}) == 3 and len(source.files) == 7
    assert RldsSource(tmp_path / "libero_10_no_noops").episodes[1].id == source.episodes[1].id
    shutil.copytree(tmp_path / "libero_goal_no_noops" / "1.0.0", tmp_path / "libero_goal_no_noops" / "1.1.0")
    with pytest.raises(UserError, match="holds the data set libero_goal 2 times"):
        RldsSource(tmp_path)


def test_task_names(tmp_path: Path, set_of, steps_of) -> None:
    """From the file that it was made of, else from the sentence; never a path that leads elsewhere."""
    files = ["KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5", "a.pkl", "..\\..\\evil/.._demo.hdf5", "C:\\x\\a b_demo.hdf5"]
    episodes = []
    for number, file in enumerate(files):
        steps = steps_of(2, number, sentence="Turn on, the stove!")
        episodes.append(steps | {"episode_metadata/file_path": [file.encode()]})
    source = RldsSource(set_of(tmp_path / "x", [episodes]))
    assert [ref.task.removeprefix("libero_goal/") for ref in source.episodes] == [
        "KITCHEN_SCENE3_turn_on_the_stove", "Turn_on_the_stove", "Turn_on_the_stove", "a_b",
    ]  # fmt: skip


def edit(folder: Path, file: str, change: Callable[[Any], object]) -> None:
    path = folder / file
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def step_features(said: dict[str, Any]) -> dict[str, Any]:
    steps = said["featuresDict"]["features"]["steps"]
    found: dict[str, Any] = steps["sequence"]["feature"]["featuresDict"]["features"]
    return found


def observation(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = step_features(said)["observation"]["featuresDict"]["features"]
    return found


def test_what_a_set_does_without(tmp_path: Path, set_of, steps_of) -> None:
    """No wrist camera, joints, file names, rewards or ends; pictures of any size and codec; a feature of its own."""
    steps = steps_of(3, 0)
    image = decode(steps["steps/observation/image"][0], "a picture")
    steps["steps/observation/image"] = [encode_png(image)] * 3
    for name in ("observation/wrist_image", "observation/joint_state", "reward", "is_first", "is_last", "is_terminal"):
        del steps[f"steps/{name}"]
    del steps["episode_metadata/file_path"]
    folder = set_of(tmp_path / "x", [[steps | {"steps/extra": [b"?"] * 3}]])

    def change(said: dict[str, Any]) -> None:
        del said["featuresDict"]["features"]["episode_metadata"]
        for name in ("wrist_image", "joint_state"):
            del observation(said)[name]
        observation(said)["image"]["image"] = {"shape": {"dimensions": ["-1", "-1", "3"]}, "dtype": "uint8"}
        for name in ("reward", "is_first", "is_last", "is_terminal"):
            del step_features(said)[name]
        step_features(said)["extra"] = {"text": {}}

    edit(folder, "features.json", change)
    (folder / "libero_goal-train.tfrecord-00001-of-00002").touch()
    source = RldsSource(folder)
    assert source.specs.image.cameras == ("agentview",) and source.stored.lacks == (
        "simulator states",
        "joints",
        "success",
    )
    assert source.stored.codec == "png" and source.specs.image.height == SIZE
    episode = source.load(source.episodes[0])
    assert episode.success is None and episode.joints is None and set(episode.images) == {"agentview"}
    np.testing.assert_array_equal(episode.images["agentview"][1], image[:, ::-1])
    said = "\n".join(source.warnings)
    assert "not read: steps/extra" in said and "1 of its files, which are not read" in said


def test_failures_are_told(tmp_path: Path, set_of, steps_of) -> None:
    zero = np.zeros(3, np.float32)
    folder = set_of(tmp_path / "x", [[steps_of(3, 0) | {"steps/reward": zero}]])
    assert [episode.success for episode in read_all(folder)] == [False]
    edit(folder, "features.json", lambda said: step_features(said).pop("reward"))
    assert [episode.success for episode in read_all(folder)] == [True]  # is_terminal


def test_two_splits_and_wrong_sizes_are_warned_of(rlds: Path) -> None:
    def change(said: dict[str, Any]) -> None:
        first = said["splits"][0]
        val = first | {"name": "val", "numBytes": 0, "filepathTemplate": "{DATASET}-train.tfrecord-00001-of-00002"}
        said["splits"] = [
            first | {"shardLengths": [2], "filepathTemplate": "{DATASET}-train.tfrecord-{SHARD_INDEX}-of-00002"},
            val | {"shardLengths": [1]},
        ]
        del said["fileFormat"]

    edit(rlds, "dataset_info.json", change)
    source = RldsSource(rlds)
    assert [ref.id.split("/")[-1] for ref in source.episodes] == ["train_0", "train_1", "val_0"]
    assert "splits are read together: train, val" in source.warnings[0] and len(source.warnings) == 1
    edit(rlds, "dataset_info.json", lambda said: said["splits"][0].update(numBytes=5))
    assert "says 5 bytes, the records have" in RldsSource(rlds).warnings[1]


@pytest.mark.parametrize(
    ("file", "change", "why"),
    [
        ("dataset_info.json", lambda s: s.pop("name"), "name is None"),
        ("dataset_info.json", lambda s: s.update(name="../../etc"), "name is '../../etc'"),
        ("dataset_info.json", lambda s: s.update(version=3), "version is 3"),
        ("dataset_info.json", lambda s: s.update(splits=[]), "no list of splits"),
        ("dataset_info.json", lambda s: s.update(splits=[3]), "a split is 3"),
        ("dataset_info.json", lambda s: s.update(fileFormat="array_record"), "only tfrecord is read"),
        ("dataset_info.json", lambda s: s["splits"][0].pop("shardLengths"), "has no shardLengths"),
        ("dataset_info.json", lambda s: s["splits"][0].update(shardLengths=["x"]), "'x', not a number"),
        ("dataset_info.json", lambda s: s["splits"][0].update(shardLengths=["2", "1", "1"]), "does not exist"),
        ("dataset_info.json", lambda s: s["splits"][0].update(shardLengths=["2", "7"]), "1 records.* promises 7"),
        ("dataset_info.json", lambda s: s["splits"][0].update(shardLengths=["1", "1"]), "more records than the 1"),
        ("dataset_info.json", lambda s: s["splits"][0].update(filepathTemplate="../{DATASET}"), "no plain file name"),
        ("dataset_info.json", lambda s: s["splits"][0].update(filepathTemplate="{OTHER}"), "no plain file name"),
        ("dataset_info.json", lambda s: s["splits"][0].update(filepathTemplate="{DATASET:>99999999999}"), "no plain"),
        ("features.json", lambda s: s.clear(), "it has: "),
        ("features.json", lambda s: step_features(s).pop("action"), "no feature steps/action; it has: episode_"),
        ("features.json", lambda s: step_features(s).pop("language_instruction"), "no feature steps/language"),
        ("features.json", lambda s: s["featuresDict"].update(features=[1]), "no proper features"),
        ("features.json", lambda s: s["featuresDict"]["features"].update(steps=7), "the feature steps is 7"),
        ("features.json", lambda s: step_features(s).update(action={"tensor": 3}), "steps/action has no proper tensor"),
        ("features.json", lambda s: observation(s).update(state={"text": {}}), "state is a text"),
        ("features.json", lambda s: observation(s)["state"]["tensor"].update(encoding="zlib"), "packed as zlib"),
        ("features.json", lambda s: observation(s)["state"]["tensor"].update(dtype="int32"), "tensor int32"),
        ("features.json", lambda s: observation(s)["state"]["tensor"].update(shape={"dimensions": ["9"]}), r"\(9,\)"),
        ("features.json", lambda s: observation(s)["state"]["tensor"].update(shape=3), "the shape 3"),
        ("features.json", lambda s: observation(s)["image"]["image"].update(encodingFormat="webp"), "encoded as webp"),
        ("features.json", lambda s: observation(s)["image"]["image"].update(dtype="uint16"), "image uint16"),
        (
            "features.json",
            lambda s: observation(s)["image"]["image"].update(shape={"dimensions": ["9", "9", "3"]}),
            "different picture sizes",
        ),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(rlds: Path, file: str, change, why: str) -> None:
    edit(rlds, file, change)
    with pytest.raises(UserError, match=why):
        RldsSource(rlds)


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize(
    ("text", "why"),
    [("", "cannot be read"), ("[" * 100_000, "nested too deeply"), ("[1]", "not a JSON object"), ("\xff", "read as")],
)
def test_files_that_are_no_descriptions_are_refused(rlds: Path, file: str, text: str, why: str) -> None:
    (rlds / file).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=why):
        RldsSource(rlds)


def test_missing_and_oversized_files_are_named(rlds: Path, tmp_path: Path) -> None:
    with (rlds / "features.json").open("ab") as file:
        file.truncate(1 << 34)  # a sparse file of 16 GB
    with pytest.raises(UserError, match=r"features\.json.* cannot be used"):
        RldsSource(rlds)
    (rlds / "features.json").unlink()
    with pytest.raises(UserError, match=r"it has dataset_info.json but no features.json"):
        RldsSource(rlds)
    (rlds / "features.json").touch()
    (rlds / "dataset_info.json").unlink()
    with pytest.raises(UserError, match=r"it has features.json but no dataset_info.json"):
        RldsSource(rlds)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no TFDS data set"):
        RldsSource(tmp_path / "empty")
    with pytest.raises(UserError, match="is not a folder"):
        RldsSource(rlds / "features.json")


def changed(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda steps: steps.update({name: value})


def poisoned(name: str, step: int, value: float) -> Callable[[dict[str, Any]], None]:
    return lambda steps: steps[name].__setitem__((step, 2), value)


JPEG = encode_jpeg(np.zeros((SIZE, SIZE, 3), np.uint8))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            poisoned("steps/action", 1, np.nan),
            r"record 0: steps/action\[1, 2\] .*\n.*nan; such values lie in \[-1, 1\]",
        ),
        (poisoned("steps/action", 2, 1.5), r"action\[2, 2\] .*\n.*1.5"),
        (poisoned("steps/observation/state", 0, np.inf), r"state\[0, 2\]"),
        (poisoned("steps/observation/joint_state", 0, 1e20), r"joint_state\[0, 2\]"),
        (changed("steps/action", np.zeros(20, np.float32)), "has 20 numbers: not 7 for each"),
        (changed("steps/action", np.zeros(0, np.float32)), "has no steps"),
        (changed("steps/action", [b"x"]), "bytes values instead of float"),
        (changed("steps/observation/state", np.zeros((4, 8), np.float32)), "too many for 24|24"),
        (changed("steps/observation/state", np.zeros((2, 8), np.float32)), "16 numbers, 3 steps need 24"),
        (changed("steps/language_instruction", [b"a b", b"a b", b"c d"]), "changes at step 2: 'a b', then 'c d'"),
        (changed("steps/language_instruction", [b" "] * 3), "is empty"),
        (changed("steps/language_instruction", [b"a"] * 2), "has 2 byte strings instead of 3"),
        (changed("steps/language_instruction", [b"\xff"] * 3), "not UTF-8"),
        (changed("steps/observation/image", [JPEG] * 2), "2 byte strings instead of 3"),
        (changed("steps/observation/image", [JPEG, JPEG, b"x"]), r"image\[2\] is not a usable picture"),
        (changed("steps/observation/image", [JPEG, JPEG[:-40], JPEG]), r"image\[1\] is not a usable picture"),
        (
            changed("steps/observation/image", [encode_jpeg(np.zeros((SIZE, 8, 3), np.uint8))] * 3),
            r"image\[0\].*\n.*16 x 8 pixels instead of 16 x 16",
        ),
        (changed("steps/is_first", np.array([0, 1, 0])), r"is_first .*\n.*true at the steps \[1\] instead of step 0"),
        (changed("steps/is_last", np.array([0, 1, 1])), r"is_last .*\n.*steps \[1, 2\] instead of step 2"),
        (changed("steps/is_last", np.array([0, 1])), "2 values for 3 steps"),
        (changed("steps/reward", np.full(3, np.nan, np.float32)), "reward"),
        (lambda steps: steps.pop("steps/observation/joint_state"), "no such feature"),
        (lambda steps: steps.pop("steps/action"), "there is no steps/action"),
        (lambda steps: steps.pop("episode_metadata/file_path"), "there is no episode_metadata/file_path"),
    ],
)
def test_records_that_do_not_fit_are_refused(tmp_path: Path, set_of, steps_of, change, why: str) -> None:
    steps = steps_of(3, 0)
    change(steps)
    with pytest.raises(UserError, match=why):
        read_all(set_of(tmp_path / "x", [[steps]]))


def test_changed_bytes_are_named_as_such_wherever_they_are(rlds: Path) -> None:
    """Also where they break the layout, which is looked at before the checksum."""
    path = rlds / "libero_goal-train.tfrecord-00001-of-00002"
    content = path.read_bytes()
    for place in [12, 13, 20, *range(100, len(content) - 4, 997)]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError, match=r"record 0 cannot be used.*\n.*checksum of its data"):
            read_all(rlds)


def test_an_episode_larger_than_memory_is_not_decoded(tmp_path: Path, set_of, steps_of) -> None:
    """4,000 steps of 4,096 x 4,096 are 200 GB, told by 30 bytes each."""
    steps = steps_of(4000, 0)
    for name in ("image", "wrist_image"):
        steps[f"steps/observation/{name}"] = [b"x" * 30] * 4000
    folder = set_of(tmp_path / "x", [[steps]])
    for camera in ("image", "wrist_image"):
        edit(
            folder,
            "features.json",
            lambda s, camera=camera: observation(s)[camera]["image"].update(
                shape={"dimensions": ["4096", "4096", "3"]}
            ),
        )
    source = RldsSource(folder)
    tracemalloc.start()
    with pytest.raises(UserError, match="pictures would take 402653184000 bytes"):
        source.load(source.episodes[0])
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_memory_does_not_grow_with_the_set(tmp_path: Path, set_of, steps_of) -> None:
    """Opened and read to the end, a set of 24 episodes needs what one of 4 needs, but for the index."""
    peaks = []
    for count in (4, 24):
        root = set_of(tmp_path / str(count), [[steps_of(20, n) for n in range(count)]])
        tracemalloc.start()
        source = RldsSource(root)
        for ref in source.episodes:
            source.load(ref)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 20 * 10_000


def test_cut_and_flipped_bytes_end_in_an_error_or_a_reading(rlds: Path) -> None:
    """Any file of the set. A flipped bit of a shard never goes unnoticed."""
    rng = np.random.default_rng(0)
    files = sorted(rlds.iterdir())
    contents = {path: path.read_bytes() for path in files}
    refused = dict.fromkeys(files, 0)
    for case in range(240):
        path = files[case % len(files)]
        broken = bytearray(contents[path])
        if case % 8 < 4:
            broken = broken[: rng.integers(0, len(broken))]
        else:
            broken[rng.integers(0, len(broken))] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        try:
            read_all(rlds)
        except UserError:
            refused[path] += 1
        path.write_bytes(contents[path])
    assert [count for path, count in refused.items() if "tfrecord" in path.name] == [60, 60]


def test_hostile_contents_with_right_checksums_end_in_an_error_or_a_reading(tmp_path: Path, set_of, steps_of) -> None:
    """What a checksum cannot catch: somebody wrote it so."""
    folder = set_of(tmp_path / "x", [[steps_of(4, 0)]])
    (path,) = folder.glob("*.tfrecord*")
    payload, rng, refused = path.read_bytes()[12:-4], np.random.default_rng(0), 0
    for _ in range(200):
        broken = bytearray(payload)
        for place in rng.integers(0, len(broken), rng.integers(1, 4)):
            broken[place] = rng.integers(256)
        path.write_bytes(framed(bytes(broken)))
        try:
            read_all(folder)
        except UserError:
            refused += 1
    assert refused > 80


def test_a_source_travels_to_another_process(rlds: Path) -> None:
    source = RldsSource(rlds)
    source.load(source.episodes[0])
    other = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(
        other.load(source.episodes[1]).actions, source.load(source.episodes[1], images=False).actions
    )
