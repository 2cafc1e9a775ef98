"""Our simulator behind the benchmark's few commands; see bench_reference.py, which answers the same ones."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from handeye.sim import libero, suites
from handeye.sim.bench_reference import SETTLE, answer
from handeye.sim.config import Backend, SimConfig
from handeye.sim.controller import SUBSTEPS
from handeye.sim.placement import FIRST_LOADS
from handeye.sim.task_env import TaskEnv


class Driver:
    """One environment at a time."""

    def __init__(self, backend: Backend) -> None:
        self._backend: Backend = backend
        self._env: TaskEnv | None = None

    @property
    def env(self) -> TaskEnv:
        assert self._env is not None
        return self._env

    def open(self, suite: str, task: int, size: int, cameras: bool, arithmetic: Any = "bitwise") -> None:
        """Task name -> first observation."""
        shown = {"camera_size": size} if cameras else {"cameras": ()}
        config = SimConfig(arithmetic=arithmetic, backend=self._backend, **shown)
        env = suites.make(suites.task(suite, task), config)
        assert isinstance(env, TaskEnv)
        self._env, self._loads = env, FIRST_LOADS
        self._states = libero.initial_states(env.task)
        self.start(0, 0)
        env.observe()

    def start(self, initial_state: int, settle: int) -> None:
        """As the reference's, whose generator is seeded anew but whose joint samplers pile up with every reset."""
        self.env.place(np.random.RandomState(0), self._loads)
        self.env.set_state(self._states[initial_state])
        self._loads += 1
        for _ in range(settle):
            self.env.step(np.array(SETTLE))

    def steps(self, actions: list[list[float]]) -> None:
        """As a policy with chunks of this length would: looks after the last one."""
        for left, action in zip(reversed(range(len(actions))), actions, strict=True):
            self.env.step(np.array(action), look=left == 0)
        self.env.observe()

    def floor(self, steps: int) -> None:
        """What MuJoCo alone takes from here; the state is put back."""
        import mujoco

        model, data = self.env.model, self.env.data
        before = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, before, mujoco.mjtState.mjSTATE_INTEGRATION)
        for _ in range(steps // 2):  # in short stretches: nobody controls the arm here
            mujoco.mj_step(model, data, 2 * SUBSTEPS)
            mujoco.mj_setState(model, data, before, mujoco.mjtState.mjSTATE_INTEGRATION)

    def state(self) -> list[float]:
        return [float(number) for number in self.env.state()]

    def about(self) -> str:
        return self.env.arithmetic()

    def close(self) -> None:
        self.env.close()
        self._env = None


if __name__ == "__main__":
    answer(Driver(sys.argv[1]))  # type: ignore[arg-type]
