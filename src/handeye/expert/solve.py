"""From a task's goal to actions: which predicates are open, in what order to satisfy them, with which skills."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from handeye.expert.fixtures import joints_and_limits, pull_open, push_shut, sign, slide, turn
from handeye.expert.grasps import Taste, best
from handeye.expert.places import find_spot
from handeye.expert.skills import (
    OPEN_HAND,
    Command,
    LostError,
    Pose,
    Script,
    World,
    carry,
    pick,
    release,
    retreat,
    servo,
)
from handeye.sim.world import Predicate

if TYPE_CHECKING:
    from handeye.sim.task_env import TaskEnv

FIRST = ("open", "turnon", "turnoff", "on", "in", "close")
"""Order of subtasks: what must be open before something goes in, what is closed at the end."""


class Expert:
    """Solves the task an environment is in. Ask `act` for an action, step the environment with it, ask again."""

    def __init__(self, env: TaskEnv, *, noise: float = 0.0, speed: float = 1.0, seed: int = 0) -> None:
        """`noise`: standard deviation of what is added to the arm's actions (1 is full speed). `speed`: share of the
        greatest speed."""
        self._env, self._noise, self._speed, self._seed = env, noise, speed, seed
        self.reset()

    def reset(self) -> None:
        """The environment was put in a new state."""
        self._random = np.random.default_rng(self._seed)
        self._world: World | None = None
        self._script: Script = iter(())
        self._grip = OPEN_HAND
        self._drift = np.zeros(6)
        self.note = ""

    @property
    def done(self) -> bool:
        return self._env.success()

    def act(self) -> Float[np.ndarray, "7"]:
        if self._world is None:
            self._world = World(self._env)
            self._script = solve(self._world, self)
        command = next(self._script, None)
        if command is None:
            command = Command(pos=self._world.pos, rot=self._world.rot, grip=self._grip)
        self._grip = command.grip
        action = servo(self._world, command, speed=self._speed)
        if self._noise:
            # Correlated over some steps, so that it moves the arm instead of averaging out.
            self._drift = 0.8 * self._drift + 0.6 * self._random.normal(size=6)
            action[:6] += self._noise * self._drift * [1, 1, 1, 0.3, 0.3, 0.3]
        return np.clip(action, -1.0, 1.0)


def solve(world: World, expert: Expert) -> Script:
    """Work on open predicates until none is left; a lost thing is picked up again."""
    for _ in range(20):
        truths = world.env.truths()
        todo = [p for p in sorted(world.scene.problem.goal, key=lambda p: FIRST.index(p[0])) if not truths[p]]
        if not todo:
            return
        try:
            yield from _achieve(world, todo[0])
            expert.note = ""
        except LostError as lost:
            expert.note = f"lost {lost}"
            yield from retreat(world)


def _achieve(world: World, predicate: Predicate) -> Script:
    match predicate:
        case ("on" | "in", thing, place):
            yield from put(world, predicate, thing, place)
        case ("open", name):
            yield from pull_open(world, name)
        case ("close", name):
            yield from push_shut(world, name)
        case ("turnon" | "turnoff" as kind, name):
            yield from turn(world, name, on=kind == "turnon")
        case _:
            raise NotImplementedError(predicate)


def put(world: World, predicate: Predicate, thing: str, place: str) -> Script:
    """Pick a thing and place it where the predicate holds."""
    if place in world.scene.places and world.scene.places[place].joints and not _stands_open(world, place):
        yield from pull_open(world, place)
    if world.scene.parts[thing].category == "plate" and place in world.scene.places:
        yield from slide(world, thing, world.data.site(place).xpos[:2].copy())
        return
    grasp = best(world.cloud(thing), world.others(thing), [Taste()])
    if grasp is None:
        raise LostError(thing)
    yield from pick(world, thing, grasp)
    yield from carry(world, thing, find_spot(world, predicate))
    yield from release(world, Pose(pos=world.pos, rot=world.rot))
    yield from retreat(world)


def _stands_open(world: World, place: str) -> bool:
    joints, limits = joints_and_limits(world, place)
    if limits.is_open is None:
        return True
    return any(sign(limits.is_open) * (world.joint(j) - limits.is_open[1]) > -0.01 for j in joints)
