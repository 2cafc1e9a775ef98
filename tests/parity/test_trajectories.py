"""Fifty control steps of the reference, twice per task: states, proprioception, reward, done, fixture poses.

The reference recorded them as `env.seed(0); env.reset(); env.set_init_state(states[K])`, one after the other in an
environment that had been reset before. For K = 0 that is an episode of the published stream (its first), except where
the task's joint samplers had piled up in those resets.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handeye.sim import libero, suites
from handeye.sim.config import SimConfig
from handeye.sim.placement import FIRST_LOADS
from handeye.sim.task_env import TaskEnv
from handeye.types import EpisodeId

pytestmark = [pytest.mark.goldens, pytest.mark.libero]
TOLERANCE = 1e-9


def make(golden: np.lib.npyio.NpzFile, config: SimConfig) -> TaskEnv:
    meta = json.loads(str(golden["meta"]))
    env = suites.make(suites.task(meta["suite"], meta["task_index"]), config)
    assert isinstance(env, TaskEnv)
    return env


def start(env: TaskEnv, golden: np.lib.npyio.NpzFile, number: int) -> None:
    row = libero.initial_states(env.task)[number]
    if is_published(env, number):
        env.reset(EpisodeId(suite=env.task.suite, task=env.task.index, initial_state=0, stream="published", seed=0))
        return
    earlier = sum(key.startswith("reset/") and key.endswith("/state") for key in golden.files)
    env.place(np.random.RandomState(0), FIRST_LOADS + earlier + trajectories(golden).index(number))
    env.set_state(row)


def is_published(env: TaskEnv, number: int) -> bool:
    """Recorded right after seeding: that is the stream's first episode, unless joint samplers had piled up before."""
    piles = any(predicate[0] in ("open", "close", "turnon", "turnoff") for predicate in env.scene.problem.init)
    return number == 0 and not piles


def trajectories(golden: np.lib.npyio.NpzFile) -> list[int]:
    return sorted({int(key.split("/")[1][1:]) for key in golden.files if key.startswith("traj/")})


def run(
    env: TaskEnv, golden: np.lib.npyio.NpzFile, number: int, nudge: float = 0.0
) -> tuple[np.ndarray, np.ndarray, list[float], list[bool]]:
    """States and proprioception after the start and each step; reward and done of each step."""
    start(env, golden, number)
    states, felt, rewards, done = [env.state()], [env.proprio()], [], []
    for action in golden[f"traj/k{number}/actions"]:
        step = env.step(action * (1 + nudge), look=True)
        states.append(env.state())
        felt.append(env.proprio())
        rewards.append(step.reward)
        done.append(step.success)
    return np.array(states), np.array(felt), rewards, done


def test_every_trajectory(golden_task: str, sim_goldens: Path, record_property) -> None:
    golden = np.load(sim_goldens / f"{golden_task}.npz")
    env = make(golden, SimConfig(cameras=()))
    numbers = trajectories(golden)
    assert len(numbers) >= 2
    for number in numbers:
        wanted = {name: golden[f"traj/k{number}/{name}"] for name in ("states", "proprio", "reward", "done")}
        states, felt, rewards, done = run(env, golden, number)
        for name in ("body_pos", "body_quat"):
            np.testing.assert_allclose(getattr(env.model, name), golden[f"traj/k{number}/{name}"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(states, wanted["states"], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(felt, wanted["proprio"], rtol=0, atol=TOLERANCE)
        np.testing.assert_array_equal(rewards, wanted["reward"])
        np.testing.assert_array_equal(done, wanted["done"].astype(bool))
        assert len(states) == len(wanted["states"]) == 51
        record_property("trajectories", 1)
        record_property("of them episodes of the published stream", int(is_published(env, number)))
        record_property("full states", len(states))
        record_property("of them equal to the last bit", int((states == wanted["states"]).all(axis=1).sum()))
        record_property("proprioception vectors", len(felt))
        record_property("of these equal to the last bit", int((felt == wanted["proprio"]).all(axis=1).sum()))
    env.close()


def test_fast_arithmetic(golden_task: str, sim_goldens: Path, record_property) -> None:
    """Every trajectory within the tolerance, except where a contact doubts: there the exact arithmetic, given actions
    that differ in the last bit, leaves it too (as the reference does on a processor with other BLAS kernels)."""
    golden = np.load(sim_goldens / f"{golden_task}.npz")
    env, exact = make(golden, SimConfig(cameras=(), arithmetic="fast")), make(golden, SimConfig(cameras=()))
    for number in trajectories(golden):
        wanted = golden[f"traj/k{number}/states"]
        differing = np.abs(run(env, golden, number)[0] - wanted).max(axis=1) > TOLERANCE
        if differing.any():
            nudged = np.abs(run(exact, golden, number, nudge=2**-52)[0] - wanted).max(axis=1) > TOLERANCE
            assert differing.argmax() >= nudged.argmax() and nudged.any()
        record_property("trajectories in fast arithmetic within 1e-9", int(not differing.any()))
        record_property("not, where a last bit decides a contact", int(differing.any()))
    env.close()


def test_numpy_and_c_give_the_same_bits(sim_goldens: Path, record_property, monkeypatch: pytest.MonkeyPatch) -> None:
    from handeye.sim import native

    names = sorted(path.name.removesuffix(".xml.gz") for path in sim_goldens.glob("*.xml.gz"))[::12]
    assert len(names) >= 3
    for name in names:
        golden = np.load(sim_goldens / f"{name}.npz")
        compiled = make(golden, SimConfig(cameras=()))
        assert "in C" in compiled.arithmetic()
        with monkeypatch.context() as patch:
            patch.setattr(native, "library", lambda: None)
            plain = make(golden, SimConfig(cameras=()))
        assert "in numpy" in plain.arithmetic()
        one, other = run(compiled, golden, 1)[0], run(plain, golden, 1)[0]
        np.testing.assert_array_equal(one, other)
        record_property("trajectories in C and in NumPy", 1)
