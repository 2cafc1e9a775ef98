"""An episode as the published scripts run it, in our simulator: what `handeye bench eval` measures the engine against.

One environment and one policy in one process. Every control step is observed, settling included, so both cameras are
drawn each time and most pictures are thrown away. Every reset is a hard one: the scene is compiled again and gets a new
renderer (robosuite's default). The policy is asked when its chunk has run out. (OpenVLA-OFT's run_libero_eval.py and
openpi's examples/libero/main.py are this loop.)

The control step, the culled pictures and the scene itself are ours here too, so what the simulator saves is not in the
ratio; `handeye bench sim` measures that.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from handeye.protocols.protocol import Protocol
from handeye.sim import suites
from handeye.sim.config import SimConfig
from handeye.sim.suites import Task
from handeye.types import Env, EpisodeId, Policy


@dataclass
class PublishedLoop:
    """Keeps its environment between episodes."""

    task: Task
    sim: SimConfig
    protocol: Protocol
    policy: Policy
    cameras: Sequence[str]
    hard_resets: bool = True
    _env: Env | None = None

    def all(self, episodes: Sequence[EpisodeId]) -> dict[str, tuple[bool, int, str | None]]:
        """Each as `run` has it, by its key."""
        return {episode.key: self.run(episode) for episode in episodes}

    def run(self, episode: EpisodeId) -> tuple[bool, int, str]:
        """Success, steps, and the digest of the executed actions, which is that of the episode's record."""
        env, protocol = self._reset(episode), self.protocol
        for _ in range(protocol.settle_steps):
            env.step(np.array(protocol.settle_action), look=True)
            env.observe()
        self.policy.reset([episode])
        chunk: deque[Float[np.ndarray, "A"]] = deque()
        executed, asked, steps, success = hashlib.sha256(), 0, 0, False
        while not success and steps < protocol.horizon(episode.suite):
            seen = env.observe(seed=episode.number(f"noise/{asked}"))
            if not chunk:
                shown = replace(seen, images={name: seen.images[name] for name in self.cameras})
                [answer] = self.policy.act([shown])
                actions = (
                    answer.actions if protocol.replan_steps == "chunk" else answer.actions[: protocol.replan_steps]
                )
                chunk, asked = deque(actions.astype(np.float64)), asked + 1
            action = chunk.popleft()
            executed.update(action.tobytes())
            success, steps = env.step(action, look=True).success, steps + 1
        return success, steps, executed.hexdigest()

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None

    def _reset(self, episode: EpisodeId) -> Env:
        if self.hard_resets:
            self.close()
            _compile_again(self.task)
        if self._env is None:
            self._env = suites.make(self.task, self.sim)
        self._env.reset(episode)
        return self._env


def _compile_again(task: Task) -> None:
    """Our scenes come out of a cache; the reference composes and compiles them at every reset."""
    if suites.SUITES.get(task.suite) == "handeye.sim.libero":
        from handeye.sim import libero, scene

        scene.recompile(libero.problem(task))
    elif task.suite == "tabletop":
        from handeye.sim.tabletop import TASKS, problem
        from handeye.sim.tabletop_model import recompile

        recompile(problem(TASKS[task.index]))
