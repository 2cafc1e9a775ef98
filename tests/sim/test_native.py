"""The compiled control step: the same bits as the readable one, and what happens where it is missing."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from handeye.errors import UserError
from handeye.sim import lapack, native, suites
from handeye.sim.config import SimConfig
from handeye.sim.task_env import TaskEnv
from handeye.types import EpisodeId

needs_c = pytest.mark.skipif(native.library() is None, reason="installed without a C compiler")


def make(task: int, **how: str) -> TaskEnv:
    env = suites.make(suites.task("tabletop", task), SimConfig(cameras=(), **how))
    assert isinstance(env, TaskEnv)
    env.reset(EpisodeId(suite="tabletop", task=task, initial_state=1))
    return env


def states(env: TaskEnv, steps: int) -> np.ndarray:
    actions = np.random.default_rng(0).uniform(-1.2, 1.2, (steps, 7))
    actions[::3, 3:6] = 0.0
    seen = []
    for number, action in enumerate(actions):
        env.step(action, look=number % 2 == 0)
        seen.append(env.state())
    return np.array(seen)


@needs_c
@pytest.mark.parametrize("task", [0, 8])
def test_c_and_numpy_give_the_same_bits(task: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = make(task)
    monkeypatch.setattr(native, "library", lambda: None)
    plain = make(task)
    assert "in C" in compiled.arithmetic()
    assert native.computed_by("bitwise") == "NumPy"  # as patched
    assert "in numpy" in plain.arithmetic()
    one, other = states(compiled, 12), states(plain, 12)
    assert np.abs(np.diff(one[:, 1:8], axis=0)).max() > 0.01, "the arm moves"
    np.testing.assert_array_equal(one, other)


@needs_c
def test_fast_arithmetic_is_close_and_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    exact, fast = states(make(0), 12), states(make(0, arithmetic="fast"), 12)
    assert 0 < np.abs(exact - fast).max() < 1e-9


def test_fast_arithmetic_needs_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    with pytest.raises(UserError, match="not there") as caught:
        make(0, arithmetic="fast")
    assert "gcc" in caught.value.fix


def test_without_the_routines_numpy_steps_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(lapack, "library", lambda: lapack.Library(None, "numpy and scipy: last bits not guaranteed"))
        plain = make(0)
    assert plain.arithmetic() == "bitwise in numpy; numpy and scipy: last bits not guaranteed"
    np.testing.assert_allclose(states(plain, 4), states(make(0), 4), rtol=0, atol=1e-9)


@needs_c
def test_a_library_of_another_layout_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer(ctypes.Structure):
        _fields_ = (*native.Step._fields_, ("more", ctypes.c_int64))

    monkeypatch.setattr(native, "Step", Longer)
    assert native.library.__wrapped__() is None
