"""One demonstration: an episode that the expert acts in, seen before every action, kept if it reaches the goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float

from handeye.data.hdf5.demo import DemoRecord, TaskHeader, record
from handeye.data.hdf5.write import write_task_file
from handeye.errors import UserError
from handeye.protocols.protocol import Protocol as EvaluationProtocol
from handeye.sim import suites
from handeye.sim.config import SimConfig
from handeye.sim.suites import Task
from handeye.types import Env, EpisodeId


@runtime_checkable
class OpenEnv(Env, Protocol):
    """An environment that shows what it knows."""

    def state(self) -> Float[np.ndarray, "D"]:
        """Time, qpos, qvel."""
        ...

    def proprio(self) -> Float[np.ndarray, "16"]:
        """At the last sampling moment: end effector position 3 and quaternion x, y, z, w; fingers 2; arm joints 7."""
        ...


class Acting(Protocol):
    def act(self) -> Float[np.ndarray, "7"]: ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attempt at one demonstration."""

    task: int
    number: int
    """Counts the task's attempts; scene, noise and speed follow from it."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How it went. A success has left its file."""

    success: bool
    steps: int


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What every attempt has in common; sent to each worker once."""

    tasks: tuple[Task, ...]
    sim: SimConfig
    protocol: EvaluationProtocol
    start: str
    initial_states: tuple[int, int]
    seed: int
    noise: float
    speed: tuple[float, float]
    expert: str
    parts: Path
    """Folder for the demonstrations, one file each, until they are assembled."""

    def identity(self, job: Job) -> EpisodeId:
        first, end = self.initial_states
        return EpisodeId(
            suite=self.tasks[0].suite,
            task=job.task,
            initial_state=None if self.start == "sampled" else first + job.number % (end - first),
            seed=self.seed * 1_000_000 + job.number,  # a million attempts per task before two seeds share a scene
        )

    def part(self, job: Job) -> Path:
        return self.parts / f"{job.task:03d}" / f"{job.number:05d}.h5"


def recorder(recording: Recording) -> Callable[[Job], Attempt]:
    """For a worker: does a job, and keeps the task's environment for the next one."""
    tasks = {task.index: task for task in recording.tasks}
    kept: dict[int, OpenEnv] = {}

    def attempt(job: Job) -> Attempt:
        if job.task not in kept:
            for env in kept.values():
                env.close()
            kept.clear()
            kept[job.task] = _open(suites.make(tasks[job.task], recording.sim))
        steps, demo = _roll(kept[job.task], recording, job)
        if demo is None:
            return Attempt(success=False, steps=steps)
        write_task_file(recording.part(job), header(tasks[job.task]), [demo])
        return Attempt(success=True, steps=steps)

    return attempt


def header(task: Task) -> TaskHeader:
    """What the task's file says about it, in LIBERO's words."""
    problem, text = f"handeye_{task.suite}", ""
    if suites.SUITES.get(task.suite) == "handeye.sim.libero":
        from handeye.sim import assets, libero

        problem = libero.problem(task).name
        text = (assets.libero_files() / "bddl_files" / task.suite / f"{task.name}.bddl").read_text()
    return TaskHeader(
        name=task.name,
        language=task.language,
        env_name="_".join(word.capitalize() for word in problem.split("_")),  # Libero_Tabletop_Manipulation
        problem_name=problem,
        bddl_file=f"{task.suite}/{task.name}.bddl" if text else "",
        bddl_text=text,
    )


def _roll(env: OpenEnv, recording: Recording, job: Job) -> tuple[int, DemoRecord | None]:
    """Settle as an evaluation does, then look, act, look, act. None: the goal was not reached within the horizon."""
    episode, protocol = recording.identity(job), recording.protocol
    random = np.random.default_rng(episode.number("speed"))
    how: dict[str, Any] = {
        "noise": recording.noise,
        "speed": float(random.uniform(*recording.speed)),
        "seed": episode.number("expert"),
    }
    env.reset(episode)
    settle = np.array(protocol.settle_action)
    for left in reversed(range(protocol.settle_steps)):
        env.step(settle, look=left == 0)
    expert = _expert(recording.expert)(env, **how)
    actions, states, bodies, frames = [], [], [], []
    for _ in range(protocol.horizon(episode.suite)):
        frames.append(env.observe().images)
        bodies.append(env.proprio())
        states.append(env.state())
        actions.append(np.asarray(expert.act(), np.float64))
        if env.step(actions[-1], look=True).success:
            break
    else:
        return len(actions), None
    eef, fingers, joints = np.split(np.array(bodies), [7, 9], axis=1)
    demo = record(
        actions=np.array(actions),
        states=np.array(states),
        images={name: np.stack([frame[name] for frame in frames]) for name in frames[0]},
        robot_states=np.concatenate([fingers, eef], axis=1),
        joint_states=joints,
        info={"episode": asdict(episode), "expert": {"class": recording.expert, **how}, "scene": env.hashes()},
    )
    return len(actions), demo


def _expert(path: str) -> Callable[..., Acting]:
    module, _, name = path.partition(":")
    try:
        return cast(Callable[..., Acting], getattr(import_module(module), name))
    except (ImportError, AttributeError) as error:
        raise UserError(f"--expert {path} cannot be imported.", why=str(error), fix="write module:class") from error


def _open(env: Env) -> OpenEnv:
    if not isinstance(env, OpenEnv):
        raise UserError(
            f"{type(env).__name__} cannot be recorded.",
            why="a demonstration holds the simulator's state, which this environment does not show",
            fix="give it `state` and `proprio`, as TaskEnv has them",
        )
    return env
