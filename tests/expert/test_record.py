"""A recorded demonstration is the episode that its identity and its actions make again, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handeye.data.hdf5.read import index_file, read_demo
from handeye.expert.config import DemosConfig
from handeye.expert.demos import make_recording
from handeye.expert.record import Attempt, Job, header, recorder
from handeye.sim import suites
from handeye.types import EpisodeId

TASK = suites.task("tabletop", 9)  # close the drawer: the quickest


def test_a_demonstration_replays(tmp_path: Path) -> None:
    config = DemosConfig(suite="tabletop", noise=0.05, speed=(0.7, 1.0), seed=2)
    recording = make_recording(config, (TASK,), "auto", tmp_path)
    job = Job(task=TASK.index, number=7)
    attempt = recorder(recording)(job)
    assert attempt == Attempt(success=True, steps=attempt.steps)
    demo = read_demo(recording.part(job), "demo_0")
    assert index_file(recording.part(job)).prompt == TASK.language
    assert len(demo) == attempt.steps and demo.succeeded
    assert 0.7 <= demo.info["expert"]["speed"] <= 1.0

    episode = EpisodeId(**demo.info["episode"])
    assert episode == recording.identity(job) and episode.initial_state is None
    env = suites.make(TASK, recording.sim)
    env.reset(episode)
    assert env.hashes() == demo.info["scene"]
    for left in reversed(range(recording.protocol.settle_steps)):
        env.step(np.array(recording.protocol.settle_action), look=left == 0)
    for step, action in enumerate(demo.actions):
        seen = env.observe()
        for name, image in seen.images.items():
            np.testing.assert_array_equal(image, demo.images[name][step])
        np.testing.assert_allclose(
            seen.proprio, np.concatenate([demo.ee_states[step], demo.gripper_states[step]]), atol=1e-6
        )
        np.testing.assert_array_equal(env.state(), demo.states[step])  # type: ignore[attr-defined]
        done = env.step(action, look=True).success
        assert done == bool(demo.dones[step])
    env.close()


def test_attempts_differ_and_seeds_do_not_overlap(tmp_path: Path) -> None:
    seen = set()
    for seed in (0, 1, 2):
        recording = make_recording(DemosConfig(suite="tabletop", seed=seed), (TASK,), "auto", tmp_path)
        seen |= {recording.identity(Job(task=9, number=number)).key for number in range(500)}
    assert len(seen) == 1500


def test_stored_states_take_turns(tmp_path: Path) -> None:
    config = DemosConfig(suite="tabletop", start="stored", initial_states=(40, 43))
    recording = make_recording(config, (TASK,), "auto", tmp_path)
    episodes = [recording.identity(Job(task=9, number=number)) for number in range(7)]
    assert [episode.initial_state for episode in episodes] == [40, 41, 42, 40, 41, 42, 40]
    assert len({episode.seed for episode in episodes}) == 7


def test_header_of_our_own_suite() -> None:
    made = header(TASK)
    assert (made.name, made.language) == ("close_the_drawer", "close the drawer")
    assert (made.env_name, made.problem_name, made.bddl_text) == ("Handeye_Tabletop", "handeye_tabletop", "")


@pytest.mark.libero
def test_header_of_libero() -> None:
    made = header(suites.task("libero_goal", 0))
    assert (made.env_name, made.problem_name) == ("Libero_Tabletop_Manipulation", "libero_tabletop_manipulation")
    assert made.bddl_file.startswith("libero_goal/") and made.bddl_text.startswith("(define (problem")
