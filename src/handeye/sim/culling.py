"""Which geoms can change a pixel of a frame: those in the camera's view, and those that a mirror in it shows.

Exact, and tested to be: the view is a pyramid, and where a box fills it (a hand's camera sees little but the table) it
ends there. A geom is left out if a plane keeps the box around it (MuJoCo's `geom_aabb`), or a large mesh's convex hull,
out of the pyramid, with a margin. Drawing in software is bound by triangles, so what is left out is time saved:
a tenth to a half of a frame. Where a light casts shadows, everything is drawn: what is out of sight may throw one into
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int

DRAWN = (1, 2)  # of the groups that MuJoCo draws by default, 0 are our collision shapes, which are not
HIDDEN_GROUP = 5
MARGIN = 0.002  # m; meshes are drawn in single precision
SLACK = 1.02  # of the view's width: more than a pixel
BOUNDLESS = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)
LARGE = 2000
"""Vertices from which a mesh is worth a closer look than its box."""

WIDE = 0.1
"""Least half extents (m) of a box's face that may fill a view."""

OPAQUE = 0.995
"""MuJoCo's alpha from which a geom lets nothing through."""

MIRRORS = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_BOX)
"""The only types that MuJoCo draws reflections in, a box's on its upper side."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """By geom of the model: whether it may be in the view itself, and whether a mirror may show it. Both are true of
    what cannot be judged (a plane has no end)."""

    direct: Bool[np.ndarray, "G"]
    mirrored: Bool[np.ndarray, "G"]
    mirror: int | None
    """The geom that MuJoCo draws a reflection in, if the camera sees its front for certain."""


class Culling:
    """For one model; `of` hides and restores."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        bounded = ~np.isin(model.geom_type, [int(kind) for kind in BOUNDLESS])
        drawn = np.isin(model.geom_group, DRAWN)
        shadows = bool(model.light_castshadow.any())
        mirrors = [
            geom
            for geom in range(model.ngeom)
            if model.geom_type[geom] in [int(kind) for kind in MIRRORS]
            and drawn[geom]
            and (material := model.geom_matid[geom]) >= 0
            and model.mat_reflectance[material] > 0
        ]
        self._mirror = mirrors[0] if mirrors else None
        # Only the first mirror of a frame reflects: were it left out, the next one would.
        kept = np.isin(np.arange(model.ngeom), mirrors if len(mirrors) > 1 else [])
        self._geoms = np.flatnonzero(bounded & drawn & ~kept & (not shadows))
        self._centres, self._halves = model.geom_aabb[self._geoms, :3], model.geom_aabb[self._geoms, 3:] + MARGIN
        self._hulls = _Hulls(model)
        self._screens = [
            geom
            for geom in self._geoms.tolist()
            if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX
            and np.sort(model.geom_size[geom])[1] >= WIDE
            and _alpha(model, geom) >= OPAQUE
        ]

    @contextmanager
    def of(self, data: mujoco.MjData, camera: int) -> Iterator[Seen]:
        """Within, geoms that are seen neither way are in a group that is not drawn."""
        seen = self.seen(data, camera)
        hidden = np.flatnonzero(~(seen.direct | seen.mirrored))
        groups = self.model.geom_group[hidden].copy()
        self.model.geom_group[hidden] = HIDDEN_GROUP
        try:
            yield seen
        finally:
            self.model.geom_group[hidden] = groups

    def seen(self, data: mujoco.MjData, camera: int) -> Seen:
        turns, origins = data.geom_xmat[self._geoms].reshape(-1, 3, 3), data.geom_xpos[self._geoms]
        things = _Things(
            geoms=self._geoms,
            origins=origins,
            turns=turns,
            centres=origins + (turns @ self._centres[..., None])[..., 0],
            halves=self._halves,
            hulls=self._hulls,
        )
        eye, view = data.cam_xpos[camera], data.cam_xmat[camera].reshape(3, 3)
        half = SLACK * np.tan(np.radians(self.model.cam_fovy[camera]) / 2)
        sides = _Planes.through(eye, _view(half) @ view.T)
        rays = np.array([(x, y, -1.0) for x in (-half, half) for y in (-half, half)]) @ view.T
        direct, mirrored = np.ones(self.model.ngeom, bool), np.ones(self.model.ngeom, bool)
        direct[self._geoms] = things.within(sides.closed_by(self._lid(data, eye, rays)))
        if self._mirror is not None and direct[self._mirror]:
            mirror = _Mirror(self.model, data, self._mirror)
            height = mirror.height(eye)
            if abs(height) < MARGIN:  # too close to tell on which side MuJoCo sees it
                return Seen(direct=direct, mirrored=mirrored, mirror=None)
            if height > 0:
                # A mirror image within the view is the thing within the mirrored view, and above the mirror.
                behind = eye - 2 * height * mirror.normal
                frame = _Planes.through(behind, np.concatenate([sides.normals @ mirror.flip, mirror.frame(behind)]))
                mirrored[self._geoms] = things.within(
                    frame.closed_by(_Planes.through(mirror.centre, mirror.normal[None]))
                )
                return Seen(direct=direct, mirrored=mirrored, mirror=self._mirror)
        mirrored[self._geoms] = False
        return Seen(direct=direct, mirrored=mirrored, mirror=None)

    def _lid(self, data: mujoco.MjData, eye: Float[np.ndarray, "3"], rays: Float[np.ndarray, "4 3"]) -> _Planes | None:
        """The face of a box that all rays along the edges of the view meet first of that box; nothing is seen of what
        lies behind it. The box is taken a little smaller than it is."""
        for screen in self._screens:
            turn, half = data.geom_xmat[screen].reshape(3, 3), self.model.geom_size[screen] - MARGIN
            start, way = (eye - data.geom_xpos[screen]) @ turn, rays @ turn
            way = np.where(np.abs(way) < 1e-9, 1e-9, way)
            enters, leaves = (-np.sign(way) * half - start) / way, (np.sign(way) * half - start) / way
            axis = enters.argmax(1)
            if (enters.max(1) < leaves.min(1)).all() and (enters.max(1) > 0).all() and (axis == axis[0]).all():
                side = np.sign(start[axis[0]])
                normal = side * turn[:, axis[0]]
                return _Planes.through(data.geom_xpos[screen] + half[axis[0]] * normal, normal[None])
        return None


@dataclass(frozen=True, kw_only=True)
class _Planes:
    """A convex space: the points x with normals @ x >= offsets. Unit normals, so that margins are metres."""

    normals: Float[np.ndarray, "P 3"]
    offsets: Float[np.ndarray, "P"]

    @classmethod
    def through(cls, point: Float[np.ndarray, "3"], normals: Float[np.ndarray, "P 3"]) -> _Planes:
        return cls(normals=normals, offsets=normals @ point)

    def closed_by(self, lid: _Planes | None) -> _Planes:
        """This space up to a plane. Between each side and the lid another plane is laid through their common edge: it
        keeps out what stands outside beside the edge."""
        if lid is None:
            return self
        normals, offsets = self.normals + lid.normals, self.offsets + lid.offsets
        lengths = np.linalg.norm(normals, axis=1)
        real = lengths > 0.1
        normals, offsets = normals[real] / lengths[real, None], offsets[real] / lengths[real]
        return _Planes(
            normals=np.concatenate([self.normals, lid.normals, normals]),
            offsets=np.concatenate([self.offsets, lid.offsets, offsets]),
        )


@dataclass(frozen=True, kw_only=True)
class _Things:
    """Geoms as they stand in the world."""

    geoms: Int[np.ndarray, "G"]
    origins: Float[np.ndarray, "G 3"]
    turns: Float[np.ndarray, "G 3 3"]
    centres: Float[np.ndarray, "G 3"]
    halves: Float[np.ndarray, "G 3"]
    hulls: _Hulls

    def within(self, space: _Planes) -> Bool[np.ndarray, "G"]:
        """Those that no plane keeps out."""
        reach = np.abs(space.normals @ (self.turns * self.halves[:, None])).sum(-1)
        found = (self.centres @ space.normals.T + reach >= space.offsets).all(-1)
        for thing in np.flatnonzero(found):
            hull = self.hulls.of(int(self.geoms[thing]))
            if hull is not None:
                farthest = (hull @ (space.normals @ self.turns[thing]).T).max(0) + MARGIN
                found[thing] = bool((farthest + self.origins[thing] @ space.normals.T >= space.offsets).all())
        return found


class _Hulls:
    """Of a model's large meshes, each made when it is first asked for (5 to 25 ms)."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._made: dict[int, Float[np.ndarray, "V 3"]] = {}

    def of(self, geom: int) -> Float[np.ndarray, "V 3"] | None:
        """The vertices, in the geom's frame; None where the box must do."""
        model, mesh = self._model, int(self._model.geom_dataid[geom])
        if model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_MESH or model.mesh_vertnum[mesh] < LARGE:
            return None
        if mesh not in self._made:
            from scipy.spatial import ConvexHull, QhullError

            start = model.mesh_vertadr[mesh]
            vertices = model.mesh_vert[start : start + model.mesh_vertnum[mesh]].astype(float)
            with suppress(QhullError):  # a flat mesh has none
                vertices = vertices[ConvexHull(vertices).vertices]
            self._made[mesh] = vertices
        return self._made[mesh]


class _Mirror:
    """A reflecting face as it stands in the world."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> None:
        self._turn, self._size = data.geom_xmat[geom].reshape(3, 3), model.geom_size[geom]
        self._box = bool(model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX)
        self.normal = self._turn[:, 2]
        self.centre = data.geom_xpos[geom] + (self._size[2] * self.normal if self._box else 0.0)
        self.flip = np.eye(3) - 2 * np.outer(self.normal, self.normal)

    def height(self, eye: Float[np.ndarray, "3"]) -> float:
        return float(self.normal @ (eye - self.centre))

    def frame(self, eye: Float[np.ndarray, "3"]) -> Float[np.ndarray, "P 3"]:
        """Inward normals of the planes through an eye and the face's edges; none for a plane, which may be endless."""
        if not self._box:
            return np.zeros((0, 3))
        signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        corners = self.centre + signs * (self._size[:2] + MARGIN) @ self._turn[:, :2].T - eye
        normals = np.cross(corners, np.roll(corners, -1, axis=0))
        normals *= np.sign(normals @ (self.centre - eye))[:, None]
        return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _alpha(model: mujoco.MjModel, geom: int) -> float:
    material = model.geom_matid[geom]
    return float(min(model.geom_rgba[geom, 3], model.mat_rgba[material, 3] if material >= 0 else 1.0))


def _view(half: float) -> Float[np.ndarray, "5 3"]:
    """Inward normals of a square view whose half width is `half` at distance 1, of a camera that looks along -z: left,
    right, low, high, and front. Unit length, so that margins are metres."""
    normals = np.array([[1, 0, -half], [-1, 0, -half], [0, 1, -half], [0, -1, -half], [0, 0, -1.0]])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)
