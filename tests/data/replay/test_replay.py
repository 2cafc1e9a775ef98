"""What our simulator recorded it repeats exactly; what was changed on the way shows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from handeye.cli import main
from handeye.data.replay.play import play
from handeye.data.replay.run import Stage, replay
from handeye.data.replay.start import find_task, fixtures, start_of
from handeye.data.source import EpisodeRef, open_source
from handeye.errors import UserError
from handeye.sim.config import SimConfig


def test_every_recorded_demonstration_succeeds_again_without_drift(recorded: Path, capsys, tmp_path: Path) -> None:
    main(["data", "replay", str(recorded), "--json", "--out", str(tmp_path / "replay.json")])
    said = json.loads(capsys.readouterr().out)
    assert (said["succeeded"], said["episodes"], said["largest_drift"]) == (4, 4, 0.0)
    assert said["interval"][0] == pytest.approx(0.510, abs=1e-3)  # Wilson, 4 of 4
    assert said == json.loads((tmp_path / "replay.json").read_text())
    assert [line["id"] for line in said["replays"]] == [ref.id for ref in open_source(recorded).episodes]


@pytest.fixture
def changed(recorded: Path, tmp_path: Path) -> Path:
    """A copy to break, of one task."""
    (tmp_path / "copy").mkdir()
    return Path(shutil.copy(sorted(recorded.glob("*.hdf5"))[0], tmp_path / "copy"))


def test_a_turned_gripper_is_noticed(changed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(changed, "r+") as file:
        for demo in file["data"].values():
            demo["actions"][:, 6] *= -1
    with pytest.raises(SystemExit) as stopped:
        main(["data", "replay", str(changed.parent), "--workers", "1"])
    assert stopped.value.code == 1
    assert "0 of 2 demonstrations still succeed" in capsys.readouterr().out


def test_without_its_identity_a_scene_is_set_to_the_first_state(changed: Path) -> None:
    """As LIBERO's own files are replayed: the task from the file's name, the state from its first row."""
    with h5py.File(changed, "r+") as file:
        for demo in file["data"].values():
            del demo.attrs["handeye_info"]
    source = open_source(changed.parent)
    found = replay(source, limit=1)
    (one,) = found.values()
    assert one.success and one.drift is not None and one.drift < 0.01
    start = start_of(source, source.episodes[0])
    assert (start.identity, start.task.suite, start.fixtures) == (None, "tabletop", {})


def test_what_is_seen_again_is_what_was_seen(recorded: Path) -> None:
    source = open_source(recorded)
    ref = source.episodes[0]
    episode, start = source.load(ref), start_of(source, ref)
    went = play(Stage(SimConfig(camera_size=48)).of(start.task), start, look=True)
    assert went.seen is not None and went.steps == len(episode)
    for name, frames in went.seen.images.items():
        np.testing.assert_array_equal(frames, episode.images[name])
    np.testing.assert_array_equal(went.seen.proprio, episode.proprio)
    np.testing.assert_array_equal(went.seen.states, episode.states)
    np.testing.assert_array_equal(went.seen.joints, episode.joints)
    np.testing.assert_array_equal(went.seen.actions, episode.actions)


def test_states_of_another_scene_are_refused(demo_folder: Path, changed: Path) -> None:
    with h5py.File(changed, "r+") as file:
        for demo in file["data"].values():
            del demo.attrs["handeye_info"]
            states = demo["states"][:, :-1]
            del demo["states"]
            demo["states"] = states
    with pytest.raises(UserError, match="do not fit its scene"):
        replay(open_source(changed.parent))
    with pytest.raises(UserError, match="belongs to no task"):
        source = open_source(demo_folder)
        start_of(source, source.episodes[-1], suite="tabletop")


def test_a_task_is_found_by_name(recorded: Path) -> None:
    ref = open_source(recorded).episodes[0]
    assert find_task(ref, "tabletop").name == ref.task
    with pytest.raises(UserError, match="is called 'nothing'"):
        find_task(EpisodeRef(id="nothing/demo_0", task="nothing", prompt="", length=1, where={}), "tabletop")


def test_fixtures_are_read_from_the_models_text() -> None:
    xml = """<mujoco><worldbody><body name="stove" pos="1 2 3" quat="0 1 0 0"><joint name="knob"/></body>
    <body name="plate" pos="0 0 1"><freejoint/></body>
    <body name="bowl"><joint type="free"/></body></worldbody></mujoco>"""
    found = fixtures(xml, where="x")
    assert list(found) == ["stove"]
    np.testing.assert_array_equal(found["stove"][0], [1, 2, 3])
    np.testing.assert_array_equal(found["stove"][1], [0, 1, 0, 0])
    assert fixtures("", where="x") == {}
    for bad in ("<mujoco>", xml.replace("1 2 3", "1 2"), xml.replace("1 2 3", "1 2 nan"), "<!DOCTYPE a><mujoco/>"):
        with pytest.raises(UserError, match="x: its model_file is no MJCF"):
            fixtures(bad, where="x")
