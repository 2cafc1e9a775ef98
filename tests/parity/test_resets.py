"""Resets of the reference: `env.seed(S)`, then three resets in a row, for every seed stored; equal to the last bit.

One environment made them all, so its loads of the model pile up over the seeds: construction is the first, the first
seed's resets the second to fourth, the next seed's go on from there.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handeye.sim import libero, placement, suites
from handeye.sim.config import SimConfig
from handeye.sim.task_env import TaskEnv
from handeye.types import EpisodeId

pytestmark = [pytest.mark.goldens, pytest.mark.libero]


def resets(golden: np.lib.npyio.NpzFile) -> dict[int, int]:
    """Seed -> how often it was reset, in the order in which they were made."""
    found: dict[int, int] = {}
    for key in golden.files:
        if key.startswith("reset/") and key.endswith("/state"):
            seed = int(key.split("/")[1].removeprefix("seed"))
            found[seed] = found.get(seed, 0) + 1
    return found


def environment(golden: np.lib.npyio.NpzFile) -> TaskEnv:
    meta = json.loads(str(golden["meta"]))
    env = suites.make(suites.task(meta["suite"], meta["task_index"]), SimConfig(cameras=()))
    assert isinstance(env, TaskEnv)
    return env


def compare(env: TaskEnv, golden: np.lib.npyio.NpzFile, key: str) -> None:
    np.testing.assert_array_equal(env.state(), golden[f"{key}/state"])
    np.testing.assert_array_equal(env.model.body_pos, golden[f"{key}/body_pos"])
    np.testing.assert_array_equal(env.model.body_quat, golden[f"{key}/body_quat"])


def test_every_reset(golden_task: str, sim_goldens: Path, record_property) -> None:
    golden = np.load(sim_goldens / f"{golden_task}.npz")
    env, loads, compared = environment(golden), placement.FIRST_LOADS, 0
    for seed, count in resets(golden).items():
        rng = np.random.RandomState(seed)
        for number in range(count):
            env.place(rng, loads)
            compare(env, golden, f"reset/seed{seed}/{number}")
            loads, compared = loads + 1, compared + 1
    assert compared == sum(key.startswith("reset/") and key.endswith("/body_pos") for key in golden.files) > 0
    record_property("resets equal to the last bit", compared)
    env.close()


def test_published_stream(golden_task: str, sim_goldens: Path, record_property) -> None:
    """Any episode of the stream on its own, without the ones before it: reset R of the environment's first seed."""
    golden = np.load(sim_goldens / f"{golden_task}.npz")
    env = environment(golden)
    seed, count = next(iter(resets(golden).items()))
    for number in reversed(range(count)):
        episode = EpisodeId(
            suite=env.task.suite, task=env.task.index, initial_state=number, stream="published", seed=seed
        )
        rng, loads = placement.rng_for(episode, env.scene, env.model, env.data)
        assert loads == placement.FIRST_LOADS + number
        env.place(rng, loads)
        compare(env, golden, f"reset/seed{seed}/{number}")
        record_property("resets found by fast-forwarding", 1)
    record_property("resets right after seeding", compare_reseeded(env, golden))
    record_property("published episodes with the reference's fixtures", compare_episodes(env, golden))
    env.close()


def compare_episodes(env: TaskEnv, golden: np.lib.npyio.NpzFile) -> int:
    """As an evaluation resets them, in an order of its own: fixtures from the stream, all else from the initial state,
    and a hash that is the same for the same scene and another for another. Seeds after the first are compared where
    joint samplers do not pile up: an evaluation's environment is a fresh one for its seed, the recorded one was not."""
    first, *others = resets(golden)
    piles = any(predicate[0] in ("open", "close", "turnon", "turnoff") for predicate in env.scene.problem.init)
    rows, compared = libero.initial_states(env.task), 0
    hashes: dict[bytes, str] = {}
    for again in range(2):
        for seed in (first,) if piles else (first, *others):
            for number in sorted(range(resets(golden)[seed]), key=lambda number: (number + again) % 2):
                episode = EpisodeId(
                    suite=env.task.suite, task=env.task.index, initial_state=number, stream="published", seed=seed
                )
                env.reset(episode)
                for part in ("body_pos", "body_quat"):
                    np.testing.assert_array_equal(getattr(env.model, part), golden[f"reset/seed{seed}/{number}/{part}"])
                np.testing.assert_array_equal(env.state(), rows[number])
                scene = b"".join(part.tobytes() for part in (env.model.body_pos, env.model.body_quat, env.state()))
                assert hashes.setdefault(scene, env.hashes()["scene"]) == env.hashes()["scene"]
                compared += 1 - again
    assert len(set(hashes.values())) == len(hashes) > 0
    return compared


def compare_reseeded(env: TaskEnv, golden: np.lib.npyio.NpzFile) -> int:
    """The reference's first reset after seeding is LeRobot's for that seed, unless something starts open or switched
    on: what is drawn first then depends on how often the environment was loaded."""
    if any(predicate[0] in ("open", "close", "turnon", "turnoff") for predicate in env.scene.problem.init):
        return 0
    compared = 0
    for seed in resets(golden):
        for number in {0, seed // 2, seed}:
            episode = EpisodeId(
                suite=env.task.suite, task=env.task.index, initial_state=number, stream="reseeded", seed=seed - number
            )
            env.place(*placement.rng_for(episode, env.scene, env.model, env.data))
            compare(env, golden, f"reset/seed{seed}/0")
            compared += 1
    assert compared >= len(resets(golden)) > 0
    return compared
