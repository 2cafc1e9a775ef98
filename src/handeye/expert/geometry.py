"""The shapes of a scene as points: what a grasp can close on, what a hand would hit, how high things stand.

Every collision geom is sampled once, in its own frame; poses are applied when they are asked for. Points carry the
outward normal of the surface they lie on. Quaternions are MuJoCo's (w, x, y, z); lengths in metres.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from handeye.sim.world import Scene

SPACING = 0.005
"""Between neighbouring sample points (m): half a finger pad, so nothing a pad could close on is missed."""

BURIED = 0.001
"""A point this deep (m) in another shape of the same body is no surface: nothing can touch it."""

CELL = 0.006
"""Side of a cell of a height map (m): a little above SPACING, so a sampled plane has no holes."""


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Surface points in the world."""

    points: Float[np.ndarray, "N 3"]
    normals: Float[np.ndarray, "N 3"]

    @property
    def low(self) -> Float[np.ndarray, "3"]:
        return self.points.min(0)

    @property
    def high(self) -> Float[np.ndarray, "3"]:
        return self.points.max(0)


def _grid(a: float, b: float) -> Float[np.ndarray, "N 2"]:
    """Points of a rectangle of half sizes a and b, its edges included."""
    u, v = (np.linspace(-h, h, max(2, int(np.ceil(2 * h / SPACING)) + 1)) for h in (a, b))
    return np.stack(np.meshgrid(u, v, indexing="ij"), -1).reshape(-1, 2)


def _box(size: Float[np.ndarray, "3"]) -> tuple[np.ndarray, np.ndarray]:
    points, normals = [], []
    for axis in range(3):
        others = [i for i in range(3) if i != axis]
        face = _grid(*size[others])
        for sign in (-1.0, 1.0):
            point = np.empty((len(face), 3))
            point[:, others], point[:, axis] = face, sign * size[axis]
            points.append(point)
            normals.append(np.tile(sign * np.eye(3)[axis], (len(face), 1)))
    return np.concatenate(points), np.concatenate(normals)


def _round(radius: float, half: float, *, caps: bool) -> tuple[np.ndarray, np.ndarray]:
    """A cylinder along z; `caps` are half spheres (a capsule) or flat discs."""
    angles = np.linspace(0, 2 * np.pi, max(12, int(2 * np.pi * radius / SPACING)), endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], -1)
    heights = np.linspace(-half, half, max(2, int(2 * half / SPACING) + 1))
    points = [radius * ring + [0, 0, z] for z in heights]
    normals = [ring] * len(heights)
    for sign in (-1.0, 1.0):
        if caps:
            for lift in np.linspace(0.2, np.pi / 2, 4):
                normal = np.cos(lift) * ring + [0, 0, sign * np.sin(lift)]
                points.append(radius * normal + [0, 0, sign * half])
                normals.append(normal)
        else:
            for r in np.linspace(0, radius, max(2, int(radius / SPACING) + 1)):
                points.append(r * ring + [0, 0, sign * half])
                normals.append(np.tile([0, 0, sign], (len(ring), 1)))
    return np.concatenate(points), np.concatenate(normals)


def _triangles(model: mujoco.MjModel, mesh: int) -> tuple[Float[np.ndarray, "3 F 3"], Float[np.ndarray, "F 3"]]:
    """Corners and outward normals of a mesh's faces; those without an area are left out."""
    start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    vertices = model.mesh_vert[start : start + count].astype(float)
    start, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    corners = np.moveaxis(vertices[model.mesh_face[start : start + count]], 1, 0)
    cross = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    twice_area = np.linalg.norm(cross, axis=1)
    real = twice_area > 1e-12
    return corners[:, real], cross[real] / twice_area[real, None]


def _mesh(model: mujoco.MjModel, mesh: int) -> tuple[np.ndarray, np.ndarray]:
    """Points spread over each triangle, in proportion to its size."""
    (a, b, c), normals = _triangles(model, mesh)
    twice_area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    points, outward = [], []
    for i in range(len(normals)):
        steps = int(np.clip(np.sqrt(twice_area[i]) / SPACING, 1, 40))
        u, v = np.divmod(np.arange((steps + 1) ** 2), steps + 1)
        inside = u + v <= steps
        u, v = u[inside, None] / steps, v[inside, None] / steps
        points.append(a[i] + u * (b[i] - a[i]) + v * (c[i] - a[i]))
        outward.append(np.tile(normals[i], (len(u), 1)))
    return np.concatenate(points), np.concatenate(outward)


def sample(model: mujoco.MjModel, geom: int) -> tuple[np.ndarray, np.ndarray]:
    """Surface points and normals of one geom, in its own frame. Planes have none."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return _box(size)
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        return _round(size[0], size[1], caps=False)
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        return _round(size[0], size[1], caps=True)
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return _round(size[0], 0.0, caps=True)
    if kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
        points, normals = _round(1.0, 0.0, caps=True)
        normals = normals / size
        return points * size, normals / np.linalg.norm(normals, axis=1, keepdims=True)
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        return _mesh(model, int(model.geom_dataid[geom]))
    return np.zeros((0, 3)), np.zeros((0, 3))


def depth(model: mujoco.MjModel, geom: int, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N"]:
    """How far points in a geom's own frame lie below its surface (m, a lower bound); negative outside. A mesh counts as
    the part of it that all of its faces bound: MuJoCo collides with hulls."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return (size - np.abs(points)).min(1)
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return size[0] - np.linalg.norm(points, axis=1)
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        return np.minimum(size[0] - np.linalg.norm(points[:, :2], axis=1), size[1] - np.abs(points[:, 2]))
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        along = np.maximum(np.abs(points[:, 2]) - size[1], 0.0)
        return size[0] - np.linalg.norm(np.column_stack([points[:, :2], along]), axis=1)
    if kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
        return size.min() * (1 - np.linalg.norm(points / size, axis=1))
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        corners, normals = _triangles(model, int(model.geom_dataid[geom]))
        return (np.einsum("fi,fi->f", normals, corners[0]) - points @ normals.T).min(1)
    return np.full(len(points), -np.inf)


def _frame(model: mujoco.MjModel, geom: int) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
    """Position and rotation of a geom in its body."""
    turn = np.empty(9)
    mujoco.mju_quat2Mat(turn, model.geom_quat[geom])
    return model.geom_pos[geom], turn.reshape(3, 3)


class Shapes:
    """The sampled collision geoms of a scene's parts; `None` stands for the arena (tables and floor)."""

    def __init__(self, scene: Scene, model: mujoco.MjModel) -> None:
        self._model = model
        self._local: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.geoms: dict[str, tuple[int, ...]] = {
            name: self._of_root(model.body(part.body).id) for name, part in scene.parts.items()
        }

    def _of_root(self, root: int) -> tuple[int, ...]:
        """Geoms that can touch something and that belong to a body or its descendants."""
        model = self._model
        family = {root}
        for body in range(root + 1, model.nbody):
            if model.body_parentid[body] in family:
                family.add(body)
        solid = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
        return tuple(g for g in range(model.ngeom) if model.geom_bodyid[g] in family and solid[g])

    def of_body(self, body: str) -> tuple[int, ...]:
        """Geoms of one body of a part and of what hangs on it: a drawer, a knob."""
        return self._of_root(self._model.body(body).id)

    def _surface(self, geom: int) -> tuple[np.ndarray, np.ndarray]:
        """Points and normals of a geom, less those inside other geoms of its body: a ring of boxes has no ends."""
        model = self._model
        points, normals = sample(model, geom)
        seen = np.ones(len(points), bool)
        pos, turn = _frame(model, geom)
        for other in self._of_root(int(model.geom_bodyid[geom])):
            if other != geom and model.geom_bodyid[other] == model.geom_bodyid[geom]:
                origin, facing = _frame(model, other)
                seen &= depth(model, other, (points @ turn.T + pos - origin) @ facing) < BURIED
        return points[seen], normals[seen]

    def cloud(self, data: mujoco.MjData, geoms: Iterable[int]) -> Cloud:
        points, normals = [np.zeros((0, 3))], [np.zeros((0, 3))]
        for geom in geoms:
            if geom not in self._local:
                self._local[geom] = self._surface(geom)
            local, outward = self._local[geom]
            turn = data.geom_xmat[geom].reshape(3, 3)
            points.append(local @ turn.T + data.geom_xpos[geom])
            normals.append(outward @ turn.T)
        return Cloud(points=np.concatenate(points), normals=np.concatenate(normals))

    def part(self, data: mujoco.MjData, name: str) -> Cloud:
        return self.cloud(data, self.geoms[name])

    def others(self, data: mujoco.MjData, *without: str) -> Cloud:
        """Everything that a hand could hit, but for the parts named."""
        return self.cloud(data, [g for name, geoms in self.geoms.items() if name not in without for g in geoms])


def inside(points: Float[np.ndarray, "*B N 3"], low: np.ndarray, high: np.ndarray) -> Bool[np.ndarray, "*B N"]:
    """Which points lie in an axis-aligned box."""
    within = (points > low) & (points < high)
    return within[..., 0] & within[..., 1] & within[..., 2]


def thin(points: Float[np.ndarray, "N 3"], cell: float = CELL) -> Float[np.ndarray, "M 3"]:
    """One point per cubic cell, the first."""
    keys = np.floor(points / cell).astype(np.int64) + (1 << 20)
    _, first = np.unique((keys[:, 0] << 42) | (keys[:, 1] << 21) | keys[:, 2], return_index=True)
    return points[np.sort(first)]


class HeightMap:
    """The highest point of a cloud above each cell of the ground, `floor` where there is none."""

    def __init__(self, points: Float[np.ndarray, "N 3"], floor: float) -> None:
        self.floor = floor
        cells = np.floor(points[:, :2] / CELL).astype(int)
        self._corner = cells.min(0) - 1 if len(cells) else np.zeros(2, int)
        self._last = cells.max(0) + 1 - self._corner if len(cells) else np.zeros(2, int)
        self._top = np.full(tuple(self._last + 1), floor)  # with a border, which stands for all that lies beyond
        at = cells - self._corner
        np.maximum.at(self._top, (at[:, 0], at[:, 1]), points[:, 2])

    def at(self, xy: Float[np.ndarray, "*B 2"]) -> Float[np.ndarray, "*B"]:
        cells = np.clip(np.floor(xy / CELL).astype(int) - self._corner, 0, self._last)
        return self._top[cells[..., 0], cells[..., 1]]

    def rest(
        self, body: Float[np.ndarray, "N 3"], xy: Float[np.ndarray, "2"], reach: tuple[int, int] = (0, 0)
    ) -> Float[np.ndarray, "X Y"]:
        """The height of a rigid body's origin when it is lowered until it touches: there, and at the places up to
        `reach` cells to either side."""
        shape = 2 * np.array(reach) + 1
        first = np.floor((xy + body[:, :2]) / CELL).astype(int) - self._corner - reach
        border = max(0, int(-first.min()), int((first + shape - self._last - 1).max()))
        top = np.pad(self._top, border, constant_values=self.floor)
        heights = np.full(tuple(shape), -np.inf)
        for (i, j), z in zip((first + border).tolist(), body[:, 2].tolist(), strict=True):
            np.maximum(heights, top[i : i + shape[0], j : j + shape[1]] - z, out=heights)
        return heights


def underside(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "M 3"]:
    """The lowest point above each cell of the ground: what touches first when a body is lowered."""
    order = np.argsort(points[:, 2], kind="stable")
    cells = np.floor(points[order, :2] / CELL).astype(np.int64) + (1 << 20)
    _, first = np.unique((cells[:, 0] << 21) | cells[:, 1], return_index=True)
    return points[order[first]]
