"""Leaves out of a frame what cannot change a pixel of it: geoms whose box lies outside the camera's view.

Exact, and tested to be: the boxes are MuJoCo's own (`geom_aabb`) with a margin, and where a mirror is in view (the
stove's base reflects), what its mirror image could show is kept as well. Drawing in software is bound by vertices, so
what is left out is time saved: a tenth to a half of a frame. Where a light casts shadows, everything is drawn: what is
out of sight may throw one into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mujoco
import numpy as np
from jaxtyping import Bool, Float

HIDDEN_GROUP = 5  # not drawn by default, and no scene of ours uses it
MARGIN = 0.002  # m; meshes are drawn in single precision
SLACK = 1.02  # of the view's width: more than a pixel
BOUNDLESS = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)
MIRRORS = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_BOX)
"""The only types that MuJoCo draws reflections in, a box's on its upper side."""


class Culling:
    """For one model; `of` hides and restores."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        bounded = ~np.isin(model.geom_type, [int(kind) for kind in BOUNDLESS])
        shadows = bool(model.light_castshadow.any())
        self._geoms = np.flatnonzero(bounded & (model.geom_group != 0) & (not shadows))
        self._centres, self._halves = model.geom_aabb[self._geoms, :3], model.geom_aabb[self._geoms, 3:] + MARGIN
        self._mirrors = [
            geom
            for geom in range(model.ngeom)
            if model.geom_type[geom] in [int(kind) for kind in MIRRORS]
            and model.geom_group[geom] != 0
            and (material := model.geom_matid[geom]) >= 0
            and model.mat_reflectance[material] > 0
        ]

    @contextmanager
    def of(self, data: mujoco.MjData, camera: int) -> Iterator[None]:
        """Within, the model's invisible geoms are in a group that is not drawn."""
        hidden = self._geoms[~self.visible(data, camera)]
        groups = self.model.geom_group[hidden].copy()
        self.model.geom_group[hidden] = HIDDEN_GROUP
        try:
            yield
        finally:
            self.model.geom_group[hidden] = groups

    def visible(self, data: mujoco.MjData, camera: int) -> Bool[np.ndarray, "G"]:
        """Of the geoms that could be culled, those that might be seen."""
        turns = data.geom_xmat[self._geoms].reshape(-1, 3, 3)
        centres = data.geom_xpos[self._geoms] + (turns @ self._centres[..., None])[..., 0]
        eye, view = data.cam_xpos[camera], data.cam_xmat[camera].reshape(3, 3)
        half = SLACK * np.tan(np.radians(self.model.cam_fovy[camera]) / 2)
        whole = np.array([-half, half, -half, half])
        seen = self._inside(centres, turns, eye, _sides(whole) @ view.T)
        for mirror in self._mirrors:
            window = self._window(data, mirror, eye, view, whole)
            if window is None:
                continue
            normal = data.geom_xmat[mirror].reshape(3, 3)[:, 2]
            rises = self.model.geom_size[mirror, 2] if self.model.geom_type[mirror] == MIRRORS[1] else 0.0
            flip = np.eye(3) - 2 * np.outer(normal, normal)
            # A mirror image within the view is the thing within the mirrored view.
            eye_behind = eye - 2 * normal * (normal @ (eye - data.geom_xpos[mirror]) - rises)
            seen |= self._inside(centres, turns, eye_behind, _sides(window) @ view.T @ flip)
        return seen

    def _inside(
        self,
        centres: Float[np.ndarray, "G 3"],
        turns: Float[np.ndarray, "G 3 3"],
        eye: Float[np.ndarray, "3"],
        normals: Float[np.ndarray, "5 3"],
    ) -> Bool[np.ndarray, "G"]:
        """Not entirely on the outer side of any of the planes through the eye."""
        reach = (np.abs(np.einsum("pi,gij->gpj", normals, turns)) * self._halves[:, None]).sum(-1)
        return ((centres - eye) @ normals.T + reach >= 0).all(-1)

    def _window(
        self,
        data: mujoco.MjData,
        mirror: int,
        eye: Float[np.ndarray, "3"],
        view: Float[np.ndarray, "3 3"],
        whole: Float[np.ndarray, "4"],
    ) -> Float[np.ndarray, "4"] | None:
        """Left, right, low and high of a mirror in the view, at unit distance; None if it is not in view."""
        if self.model.geom_type[mirror] == MIRRORS[0]:
            return whole
        signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
        corners = (
            data.geom_xpos[mirror]
            + signs * (self.model.geom_size[mirror] + MARGIN) @ data.geom_xmat[mirror].reshape(3, 3).T
        )
        x, y, z = ((corners - eye) @ view).T
        if (z > -1e-3).any():  # a corner beside or behind the eye: no rectangle
            return None if (z > -1e-3).all() else whole
        low, high = np.array([(x / -z).min(), (y / -z).min()]), np.array([(x / -z).max(), (y / -z).max()])
        low, high = np.maximum(low, whole[0]), np.minimum(high, whole[1])
        return None if (low > high).any() else np.array([low[0], high[0], low[1], high[1]])


def _sides(window: Float[np.ndarray, "4"]) -> Float[np.ndarray, "5 3"]:
    """Inward normals of the view through a window at distance 1 in front of a camera that looks along -z: left, right,
    low, high, and front. Unit length, so that margins are metres."""
    left, right, low, high = window
    normals = np.array([[1, 0, left], [-1, 0, -right], [0, 1, low], [0, -1, -high], [0, 0, -1]])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)
