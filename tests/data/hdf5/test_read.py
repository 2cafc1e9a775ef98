from __future__ import annotations

import json
import os
import resource
import signal
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from handeye.data.hdf5.demo import DemoRecord, TaskHeader
from handeye.data.hdf5.read import OBSERVED, TASK, find_files, index_file, read_demo
from handeye.data.hdf5.source import Hdf5Source
from handeye.data.hdf5.write import merge_task_files, write_task_file
from handeye.errors import UserError
from handeye.types import Episode

HEADER = TaskHeader(
    name="put_the_bowl_on_the_plate",
    language="put the bowl on the plate",
    env_name="Libero_Tabletop_Manipulation",
    problem_name="libero_tabletop_manipulation",
)


def read_episodes(path: Path) -> list[Episode]:
    source = Hdf5Source(path)
    return [source.load(ref) for ref in source.episodes]


def same(a: DemoRecord, b: DemoRecord) -> None:
    for field in fields(DemoRecord):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if field.name == "images":
            assert one.keys() == other.keys() == {"agentview", "wrist"}
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])
        else:
            np.testing.assert_array_equal(one, other)


def test_round_trip(task_file: Path, demo) -> None:
    index = index_file(task_file)
    assert index.demos == (("demo_0", 5), ("demo_1", 9), ("demo_2", 7))
    assert (index.prompt, index.observed, index.image_size, index.warnings) == (
        "put the bowl on the plate", "before", (12, 12), (),
    )  # fmt: skip
    for name, steps in index.demos:
        same(read_demo(task_file, name), demo(steps, steps))
    assert read_demo(task_file, "demo_1", images=False).images == {}


def test_the_layout_is_liberos(task_file: Path, demo) -> None:
    """Names, shapes and types as in the published files (facts: LIBERO scripts/create_dataset.py)."""
    with h5py.File(task_file) as file:
        assert list(file) == ["data"] and not file.attrs
        attributes = dict(file["data"].attrs)
        assert set(attributes) - {OBSERVED, TASK} == {
            "env_name", "problem_info", "macros_image_convention", "bddl_file_name", "bddl_file_content", "env_args",
            "num_demos", "total", "tag",
        }  # fmt: skip
        assert (attributes["num_demos"], attributes["total"], attributes["tag"]) == (3, 21, "libero-v1")
        assert attributes["macros_image_convention"] == "opengl"
        assert json.loads(attributes["problem_info"])["language_instruction"] == HEADER.language
        assert json.loads(attributes["env_args"])["env_kwargs"] == {"camera_heights": 12}
        group = file["data/demo_1"]
        assert group.attrs["num_samples"] == 9 and group.attrs["init_state"].shape == (30,)
        found = {}
        group.visititems(lambda name, x: found.update({name: (x.dtype.str, x.shape)}) if hasattr(x, "dtype") else None)
        image = ("|u1", (9, 12, 12, 3))
        assert found == {
            "actions": ("<f8", (9, 7)), "states": ("<f8", (9, 30)), "robot_states": ("<f8", (9, 9)),
            "rewards": ("|u1", (9,)), "dones": ("|u1", (9,)), "obs/agentview_rgb": image, "obs/eye_in_hand_rgb": image,
            "obs/ee_states": ("<f8", (9, 6)), "obs/ee_pos": ("<f8", (9, 3)), "obs/ee_ori": ("<f8", (9, 3)),
            "obs/gripper_states": ("<f8", (9, 2)), "obs/joint_states": ("<f8", (9, 7)),
        }  # fmt: skip
        upright = demo(9, 9).images["agentview"]
        np.testing.assert_array_equal(group["obs/agentview_rgb"][()], upright[:, ::-1])  # bottom row first


def test_episodes_are_upright_and_in_numeric_order(tmp_path: Path, demo) -> None:
    path = tmp_path / "put_the_bowl_on_the_plate_demo.hdf5"
    write_task_file(path, HEADER, [demo(3, k) for k in range(11)])
    episodes = read_episodes(path)
    assert [e.source["demo"] for e in episodes] == [f"demo_{k}" for k in range(11)]  # not 0, 1, 10, 2
    for k, episode in enumerate(episodes):
        assert episode.prompt == HEADER.language
        np.testing.assert_array_equal(episode.images["agentview"], demo(3, k).images["agentview"])
        assert episode.images["wrist"][2, 0, 0].tolist() == [2, 2, 2]


def test_parts_are_assembled_in_order(tmp_path: Path, demo) -> None:
    parts = [tmp_path / f"{k}.h5" for k in range(3)]
    for k, part in enumerate(parts):
        assert write_task_file(part, HEADER, [demo(4 + k, k)]) == 4 + k
    whole, direct = tmp_path / "a_whole_demo.hdf5", tmp_path / "a_direct_demo.hdf5"
    assert merge_task_files(whole, HEADER, parts[::-1]) == 15
    write_task_file(direct, HEADER, [demo(4 + k, k) for k in (2, 1, 0)])
    assert index_file(whole).demos == index_file(direct).demos
    for name, _ in index_file(whole).demos:
        same(read_demo(whole, name), read_demo(direct, name))


def test_a_file_is_whole_or_absent(tmp_path: Path, demo) -> None:
    def breaks():
        yield demo(4, 0)
        raise RuntimeError("the simulator went away")

    path = tmp_path / "out" / "a_b_demo.hdf5"
    with pytest.raises(RuntimeError, match="went away"):
        write_task_file(path, HEADER, breaks())
    assert list(path.parent.iterdir()) == []
    write_task_file(path, HEADER, [demo(4, 0)])
    with pytest.raises(RuntimeError):
        write_task_file(path, HEADER, breaks())
    same(read_demo(path, "demo_0"), demo(4, 0))  # the old one is still there


def test_a_full_disk_is_one_clear_error(tmp_path: Path, demo) -> None:
    """A limit on the size of files stands in for the disk; in a child, since a limit cannot be raised again."""
    path = tmp_path / "a_b_demo.hdf5"
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            write_task_file(path, HEADER, [demo(40, 0)])
        except UserError as error:
            os._exit(7 if "free some space" in error.fix else 1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert list(tmp_path.iterdir()) == []


def change(path: Path, edit) -> Path:
    with h5py.File(path, "r+") as file:
        edit(file["data"])
    return path


def test_language(task_file: Path) -> None:
    """Ours says it in problem_info; of others, the file's name counts, because the benchmark asks with that one."""
    info = json.dumps({"language_instruction": "pick the akita black bowl"})
    change(task_file, lambda data: data.attrs.update({"problem_info": info}))
    assert index_file(task_file).prompt == "pick the akita black bowl"
    change(task_file, lambda data: data.attrs.pop(OBSERVED))
    assert index_file(task_file).prompt == "put the bowl on the plate"
    plain = task_file.rename(task_file.with_name("bowls.hdf5"))
    assert index_file(plain).prompt == "pick the akita black bowl"
    change(
        plain, lambda data: data.attrs.update({"problem_info": json.dumps({"language_instruction": ['"do ', 'it"']})})
    )
    assert index_file(plain).prompt == "do it"


def test_when_others_looked(task_file: Path) -> None:
    """LIBERO's raw files (attributes) were seen after each action, regenerated ones (none) before it."""
    change(task_file, lambda data: data.attrs.pop(OBSERVED))
    assert index_file(task_file).observed == "after"
    change(task_file, lambda data: [data.attrs.pop(name) for name in list(data.attrs)])
    assert index_file(task_file).observed == "before"
    assert [len(e.actions) for e in read_episodes(task_file)] == [5, 9, 7]


def test_a_wrong_claim_about_when_is_noticed(task_file: Path) -> None:
    """The joints that were seen are those of the states before the action; the file now claims the opposite."""
    change(task_file, lambda data: data.attrs.update({OBSERVED: "after"}))
    with pytest.raises(UserError, match="was observed before each action, but the file is read as observed after"):
        read_episodes(task_file)
    change(task_file, lambda data: data.attrs.update({OBSERVED: "sideways"}))
    with pytest.raises(UserError, match="neither before nor after"):
        index_file(task_file)


def replace_dataset(name: str, value):
    def edit(data: h5py.Group) -> None:
        del data[name]
        data[name] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda data: data.move("demo_1", "demonstration_1"), "not named demo_<number>"),
        (replace_dataset("demo_0/obs", np.zeros(3)), "there is no obs/joint_states"),
        (replace_dataset("demo_0/dones", np.zeros((5, 2), np.uint8)), r"dones is uint8 \(5, 2\)"),
        (replace_dataset("demo_0/actions", np.array(3.0)), "actions has the shape"),
        (replace_dataset("demo_0/states", np.full((5, 30), np.inf)), r"states\[0, 0\] is inf"),
        (replace_dataset("demo_0/states", np.full((5, 30), 1e300)), r"states\[0, 0\] is 1e\+300"),
        (replace_dataset("demo_0/obs/agentview_rgb", h5py.SoftLink("/data/demo_1")), "is a link to another place"),
        (replace_dataset("demo_0/obs/agentview_rgb", np.zeros((5, 9, 9, 3), np.uint8)), "images of different sizes"),
    ],
)
def test_broken_contents_are_refused(task_file: Path, edit, why: str) -> None:
    change(task_file, edit)
    with pytest.raises(UserError, match=why):
        read_episodes(task_file)


def test_virtual_and_external_data_are_refused(task_file: Path, tmp_path: Path) -> None:
    """Both would read bytes of other files."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(5 * 7 * 8))

    def external(data: h5py.Group) -> None:
        del data["demo_0/actions"]
        data["demo_0"].create_dataset("actions", (5, 7), "f8", external=[(str(secret), 0, 280)])

    def virtual(data: h5py.Group) -> None:
        del data["demo_0/actions"]
        layout = h5py.VirtualLayout((5, 7), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "x", (5, 7))
        data["demo_0"].create_virtual_dataset("actions", layout)

    for edit in (external, virtual):
        change(task_file, edit)
        with pytest.raises(UserError, match="not a plain dataset inside the file"):
            index_file(task_file)


def test_cut_and_flipped_bytes_end_in_an_error_or_a_reading(task_file: Path, demo) -> None:
    """Cuts anywhere, flips in the array part: HDF5's own heap is left alone, where a flipped byte can make the library
    itself spin for ever."""
    rng = np.random.default_rng(0)
    write_task_file(task_file, HEADER, [replace(demo(4, 0), info={}, model_file="")])
    content = task_file.read_bytes()
    refused = 0
    for case in range(120):
        broken = bytearray(content)
        if case % 2:
            broken = broken[: rng.integers(0, len(broken))]
        else:
            for place in rng.integers(0, len(broken), 4):
                if b"GCOL" not in broken[max(0, place - 4096) : place + 4]:
                    broken[place] ^= 1 << rng.integers(8)
        task_file.write_bytes(broken)
        try:
            read_episodes(task_file)
        except UserError:
            refused += 1
    assert refused >= 60  # every cut


def test_finding_files(task_file: Path, tmp_path: Path) -> None:
    assert find_files(task_file) == find_files(tmp_path) == [task_file]
    (tmp_path / ".half_demo.hdf5").touch()  # somebody's unfinished file
    assert find_files(tmp_path) == [task_file]
    with pytest.raises(UserError, match="does not exist"):
        find_files(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no demonstrations"):
        find_files(tmp_path / "empty")
    with pytest.raises(UserError, match="is not a file"):
        index_file(tmp_path)
