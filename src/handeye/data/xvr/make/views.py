"""A camera anywhere: where a point of the world is in its picture, what it sees, and how far away that is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from handeye.sim.observe import COLLISION_GROUP, MAX_GEOMS

NEAR = 0.01
"""Metres by which a picture's depth may differ from a point's distance for the point to be what is seen there."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A camera that looks at a point from some distance: MuJoCo's free camera. Degrees and metres."""

    azimuth: float
    """Of the direction in which it looks, about the vertical, from the x axis."""

    elevation: float
    """Of that direction; negative: downwards."""

    distance: float
    lookat: tuple[float, float, float]
    fovy: float = 45.0

    @property
    def forward(self) -> Float64[np.ndarray, "3"]:
        azimuth, elevation = np.radians((self.azimuth, self.elevation))
        return np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])

    @property
    def position(self) -> Float64[np.ndarray, "3"]:
        return np.array(self.lookat) - self.distance * self.forward

    @property
    def right(self) -> Float64[np.ndarray, "3"]:
        azimuth = np.radians(self.azimuth)
        return np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])

    @property
    def up(self) -> Float64[np.ndarray, "3"]:
        return np.cross(self.right, self.forward)

    def project(self, points: Float64[np.ndarray, "N 3"], size: int) -> tuple[Float64[np.ndarray, "N 2"], Any]:
        """Pixels (x to the right, y down, 0 at the picture's corner) and distances along the optical axis (N,)."""
        away = points - self.position
        depth = away @ self.forward
        focal = size / 2 / np.tan(np.radians(self.fovy) / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = np.stack([away @ self.right, -(away @ self.up)], axis=1) / depth[:, None] * focal + size / 2
        return pixels, depth

    def to_json(self) -> dict[str, Any]:
        """Enough to compute everything again: pose, and the pinhole's angle."""
        return {
            "position": self.position.tolist(),
            "forward": self.forward.tolist(),
            "up": self.up.tolist(),
            "fovy": self.fovy,
        }


class Studio:
    """Draws one model, whatever its data, from any view."""

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        self.model, self.size = model, size
        with _buffer(model, size):
            self._renderer = mujoco.Renderer(model, size, size, max_geom=MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[COLLISION_GROUP] = 0

    def picture(self, data: mujoco.MjData, view: View) -> UInt8[np.ndarray, "H W 3"]:
        self._aim(data, view)
        return np.array(self._renderer.render())

    def depth(self, data: mujoco.MjData, view: View) -> Float32[np.ndarray, "H W"]:
        """Metres along the optical axis."""
        self._renderer.enable_depth_rendering()
        try:
            self._aim(data, view)
            return np.array(self._renderer.render())
        finally:
            self._renderer.disable_depth_rendering()

    def sees(
        self, data: mujoco.MjData, view: View, points: Float64[np.ndarray, "N 3"], *, margin: float = 0.06
    ) -> Bool[np.ndarray, "N"]:
        """Whether a point is what the view shows at its place; `margin`: fraction of the picture at its edges that does
        not count."""
        pixels, depth = view.project(points, self.size)
        edge = margin * self.size
        inside = (depth > 0.1) & ((pixels > edge) & (pixels < self.size - edge)).all(1)
        seen, drawn = np.zeros(len(points), bool), self.depth(data, view)
        columns, rows = pixels[inside].astype(int).T
        seen[inside] = np.abs(drawn[rows, columns] - depth[inside]) < NEAR
        return seen

    def close(self) -> None:
        self._renderer.close()

    def _aim(self, data: mujoco.MjData, view: View) -> None:
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.azimuth, camera.elevation, camera.distance = view.azimuth, view.elevation, view.distance
        camera.lookat[:] = view.lookat
        before = self.model.vis.global_.fovy
        self.model.vis.global_.fovy = view.fovy
        try:
            self._renderer.update_scene(data, camera, self._option)
        finally:
            self.model.vis.global_.fovy = before


@contextmanager
def _buffer(model: mujoco.MjModel, size: int) -> Iterator[None]:
    """Large enough to draw into, while a context is made; the model is shared."""
    before = model.vis.global_.offwidth, model.vis.global_.offheight
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    try:
        yield
    finally:
        model.vis.global_.offwidth, model.vis.global_.offheight = before
