"""Where things stand at a reset: the reference's sampler, draw for draw, and the three streams that feed it.

The reference draws everything from one generator: noise for the arm (unused), one number for every opened or switched
joint, then positions and turns of all objects and fixtures. Fixtures are placed by moving their bodies in the model, so
they are not part of a stored initial state and depend on every draw before them. Quaternions are handled as the
reference does, oddities included: facts are cited as "trap n" where the code would otherwise look wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np
from jaxtyping import Float64

from handeye.errors import UserError
from handeye.sim.world import Articulation, Part, Predicate, Scene
from handeye.types import EpisodeId

ATTEMPTS = 5000
"""Positions tried for one object before the whole placement is drawn again (as in the reference)."""

RESTARTS = 20
"""Placements tried before we give up; the reference goes on for ever."""

LIFT = 0.01
"""Objects are placed this far above what they stand on (m)."""

FIRST_LOADS = 2
"""Model loads behind the first reset of an environment: its construction and the reset itself."""

RESEEDED_LOADS = 3
"""LeRobot resets each environment once before its first episode (lerobot src/lerobot/envs/libero.py, _ensure_env)."""

AXES = "xyz"


class DoesNotFitError(Exception):
    """An object found no place among the others in this draw."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One thing that already stands."""

    part: Part
    position: Float64[np.ndarray, "3"]
    quaternion: Float64[np.ndarray, "4"]


@dataclass
class Sampler:
    """Draws one placement of everything, in the reference's order."""

    scene: Scene
    data: mujoco.MjData
    rng: np.random.RandomState
    placed: dict[str, Placed] = field(default_factory=dict)

    def run(self) -> None:
        """On the arena first, then on and in what stands there, then on top of one another."""
        relations = [p for p in self.scene.problem.init if p[0] in ("on", "in")]
        places = self.scene.places
        on_place = [p for p in relations if p[2] in places]
        for _, name, region in (p for p in on_place if places[p[2]].owner is None):
            self._on_arena(self.scene.parts[name], region)
        for wanted in ("on", "in"):
            for relation, name, region in (p for p in on_place if places[p[2]].owner is not None):
                if relation == wanted:
                    self._at_site(self.scene.parts[name], region, inside=relation == "in")
        for _, name, below in (p for p in relations if p[2] not in places):
            self._on_top(self.scene.parts[name], self.placed[below])

    def _on_arena(self, part: Part, region: str) -> None:
        setting, place = self.scene.setting, self.scene.problem.regions[region]
        shrink = part.radius if setting.shrink_by_radius and part.movable else 0.0
        low_high = [((x0 + shrink, x1 - shrink), (y0 + shrink, y1 - shrink)) for x0, y0, x1, y1 in place.ranges]
        lift = LIFT if part.movable else setting.fixture_height
        self._put(part, np.array(setting.workspace), low_high, lift=lift, check=part.movable, yaw=place.yaw)

    def _at_site(self, part: Part, region: str, *, inside: bool) -> None:
        site = self.data.site(region)
        owner = self.scene.places[region].owner
        assert owner is not None
        below = self.placed[owner]
        base = below.position
        ranges = [((0.0, 0.0), (0.0, 0.0))]
        if not inside:
            base = base + np.array([0.0, 0.0, below.part.top])
            half_x, half_y = self.scene.model.site(region).size[:2] / 2
            ranges = [((-half_x + part.radius, half_x - part.radius), (-half_y + part.radius, half_y - part.radius))]
        offset = _turn(below.quaternion) @ site.xpos
        self._put(part, base, ranges, lift=0.0, check=True, offset=offset)

    def _on_top(self, part: Part, below: Placed) -> None:
        base = below.position + np.array([0.0, 0.0, below.part.top])
        self._put(part, base, [((0.0, 0.0), (0.0, 0.0))], lift=LIFT, check=False)

    def _put(
        self,
        part: Part,
        base: Float64[np.ndarray, "3"],
        ranges: Sequence[tuple[tuple[float, float], tuple[float, float]]],
        *,
        lift: float,
        check: bool,
        yaw: tuple[float, float] = (0.0, 0.0),
        offset: Float64[np.ndarray, "3"] | None = None,
    ) -> None:
        for _ in range(ATTEMPTS):
            x_range, y_range = ranges[self.rng.randint(len(ranges))]
            x = self.rng.uniform(*x_range) + base[0]
            y = self.rng.uniform(*y_range) + base[1]
            position = np.array([x, y, lift + base[2]])
            if offset is not None:
                position += offset  # the order of these sums shows in the last bit
            position[2] -= part.bottom
            if check and any(_collides(part, position, other) for other in self.placed.values()):
                continue
            turn = self._turned(part) if part.movable else _yaw(self.rng.uniform(*yaw))
            self.placed[part.name] = Placed(part=part, position=position, quaternion=turn)
            return
        raise DoesNotFitError(part.name)

    def _turned(self, part: Part) -> Float64[np.ndarray, "4"]:
        """Built as (x, y, z, w) and used as (w, x, y, z): trap 7."""
        angles = [(axis, self.rng.uniform(low, high)) for axis, low, high in part.rotation]
        turns = []
        for axis, angle in angles:
            turn = np.zeros(4)
            turn[AXES.index(axis)], turn[3] = math.sin(angle / 2), math.cos(angle / 2)
            turns.append(turn)
        if len(turns) == 1:
            return turns[0]
        whole = np.array([0.0, 0.0, 0.0, 1.0])
        for turn in turns:
            whole = _product(turn, whole).astype(np.float32).astype(np.float64)
        return whole


def _collides(part: Part, position: Float64[np.ndarray, "3"], other: Placed) -> bool:
    dx, dy, dz = position - other.position
    near = math.sqrt(dx * dx + dy * dy) <= other.part.radius + part.radius
    return bool(near and dz <= other.part.top - part.bottom)


def _yaw(angle: float) -> Float64[np.ndarray, "4"]:
    return np.array([math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)])


def _product(a: Float64[np.ndarray, "4"], b: Float64[np.ndarray, "4"]) -> Float64[np.ndarray, "4"]:
    """Hamilton product of (x, y, z, w) quaternions."""
    (ax, ay, az, aw), (bx, by, bz, bw) = a, b
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )


def _turn(quaternion: Float64[np.ndarray, "4"]) -> Float64[np.ndarray, "3 3"]:
    """Rotation matrix through single precision, as the reference rounds it (the same rule as the controller's)."""
    q = quaternion.astype(np.float32)
    norm = np.float32((q * q).sum(dtype=np.float64))
    q = (q * np.sqrt(2.0 / np.float64(norm))).astype(np.float32)
    f = np.outer(q, q)
    d = f.diagonal().astype(np.float64)
    return np.array(
        [
            [1.0 - d[2] - d[3], f[1, 2] - f[3, 0], f[1, 3] + f[2, 0]],
            [f[1, 2] + f[3, 0], 1.0 - d[1] - d[3], f[2, 3] - f[1, 0]],
            [f[1, 3] - f[2, 0], f[2, 3] + f[1, 0], 1.0 - d[1] - d[2]],
        ]
    )


def place(scene: Scene, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.RandomState, *, loads: int) -> int:
    """Draw and write everything of a reset that is not the arm: joints that start open or switched on, the poses of
    objects (`data.qpos`) and of fixtures (`model.body_pos`, `model.body_quat`). `data` holds the arm at rest;
    `rng.randn(7)`, the arm's unused noise, has been drawn. The caller runs mj_forward afterwards.

    `loads`: how often the reference would have loaded the model by now. Its joint samplers pile up, one copy a load
    (trap 6), and when nothing fits it loads again. Returns `loads` with those repetitions counted."""
    start = data.qpos.copy()
    for _ in range(RESTARTS):
        data.qpos[:] = start
        for _copy in range(loads):
            _set_joints(scene, model, data, rng)
        mujoco.mj_step1(model, data)
        sampler = Sampler(scene, data, rng)
        try:
            sampler.run()
        except DoesNotFitError:
            loads += 1
            rng.randn(7)
            continue
        _write(sampler.placed, model, data)
        return loads
    raise UserError(
        f"The objects of '{scene.problem.language}' find no place among each other.",
        why=f"{RESTARTS} placements of {ATTEMPTS} attempts each overlapped",
        fix="make the task's regions larger, or its objects fewer",
    )


def rng_for(
    episode: EpisodeId, scene: Scene, model: mujoco.MjModel, data: mujoco.MjData
) -> tuple[np.random.RandomState, int]:
    """The generator and the load count of this episode's reset.

    `episode`: a generator of the identity's own, as in the first reset of a fresh environment. `published`: the
    reference seeds once per task and resets once per episode, so the draws of all earlier resets are made and thrown
    away; `data` and the fixture poses of `model` are left as the last of them put them. `reseeded`: the global
    generator is seeded with seed + initial state right before the reset, in an environment that nobody used before,
    as where LeRobot runs the episodes of a task in one batch."""
    if episode.stream == "episode":
        return np.random.RandomState(episode.number("scene")), FIRST_LOADS
    if episode.initial_state is None:
        raise UserError(
            f"The {episode.stream} scene stream has no sampled episodes.",
            why="its scenes are numbered by their initial state",
            fix="use stored initial states, or the stream 'episode'",
        )
    if episode.stream == "reseeded":
        return np.random.RandomState(episode.seed + episode.initial_state), RESEEDED_LOADS
    rng, loads = np.random.RandomState(episode.seed), FIRST_LOADS
    for _ in range(episode.initial_state):
        mujoco.mj_resetData(model, data)
        _as_compiled(scene, model)
        rng.randn(7)
        data.qpos[: len(scene.init_qpos)] = scene.init_qpos
        loads = place(scene, model, data, rng, loads=loads) + 1
    return rng, loads


def _set_joints(scene: Scene, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.RandomState) -> None:
    for predicate in scene.problem.init:
        if (found := _starting_range(scene, predicate)) is None:
            continue
        joints, (low, high) = found
        value = rng.uniform(low, high)
        for joint in joints:
            data.qpos[model.joint(joint).qposadr[0]] = value


def _starting_range(scene: Scene, predicate: Predicate) -> tuple[tuple[str, ...], tuple[float, float]] | None:
    """The joints that a predicate such as ("open", drawer region) sets, and between which values."""
    kinds = {"open": "open_range", "close": "close_range", "turnon": "turnon_range", "turnoff": "turnoff_range"}
    if predicate[0] not in kinds:
        return None
    name = predicate[1]
    place = scene.places.get(name)
    owner = scene.parts[name if place is None else place.owner or ""]
    joints = owner.joints if place is None else place.joints
    limits: tuple[float, float] | None = getattr(owner.articulation or Articulation(), kinds[predicate[0]])
    if limits is None:
        raise ValueError(f"a {owner.category} cannot start with {predicate}")
    return joints, limits


def _write(placed: dict[str, Placed], model: mujoco.MjModel, data: mujoco.MjData) -> None:
    for thing in placed.values():
        if thing.part.movable:
            start = model.joint(thing.part.joints[-1]).qposadr[0]
            data.qpos[start : start + 3], data.qpos[start + 3 : start + 7] = thing.position, thing.quaternion
        else:
            body = model.body(thing.part.body)
            body.pos[:], body.quat[:] = thing.position, thing.quaternion


def _as_compiled(scene: Scene, model: mujoco.MjModel) -> None:
    for array in ("body_pos", "body_quat"):
        getattr(model, array)[:] = scene.pristine[array]
