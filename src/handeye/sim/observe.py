"""What the robot feels and the cameras show at one moment of a simulation.

Pixels equal the reference's: four samples per pixel, visual geoms only (group 0, the collision shapes, is left out),
one light set-up, a context that is made once per model and size and shared by every environment that shows it.
"""

from __future__ import annotations

import atexit
import weakref
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from handeye.sim import rendering
from handeye.sim.config import CAMERAS, Backend
from handeye.sim.controller import ARM, FINGERS
from handeye.sim.culling import Culling
from handeye.sim.mirrors import Passes

MAX_GEOMS = 1000  # of a frame, as in the reference; no scene comes near
COLLISION_GROUP = 0


def proprioception(data: mujoco.MjData, site: int, hand: int) -> Float[np.ndarray, "16"]:
    """Grip site 3, the hand body's quaternion x, y, z, w, fingers 2, arm joints 7. After a substep the first two are
    of its position stage, before integration, and the joints are the newest; the benchmark's observations mix likewise.
    """
    w, x, y, z = data.xquat[hand]
    return np.concatenate([data.site_xpos[site], (x, y, z, w), data.qpos[FINGERS], data.qpos[ARM]])


class Cameras:
    """An offscreen renderer of one model at one size. Make it with `cameras`, which shares it."""

    def __init__(self, model: mujoco.MjModel, size: int, backend: Backend) -> None:
        rendering.choose(backend)
        self.model, self.size = model, size
        self._ids = {
            name: mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, theirs) for name, theirs in CAMERAS.items()
        }
        self._gl: Any = mujoco.GLContext(size, size)
        self._gl.make_current()
        self._context = _context(model, size)
        self._free = weakref.finalize(self, _free, self._gl, self._context)
        self._free.atexit = False  # too late for EGL, which MuJoCo shuts down at exit too; see _close_all
        self._scene = mujoco.MjvScene(model, MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[COLLISION_GROUP] = 0
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)
        self._culling = Culling(model)
        self._passes: Passes | None = None

    def render(self, data: mujoco.MjData, name: str) -> UInt8[np.ndarray, "H W 3"]:
        """Upright: the top row first, as a person would hang the picture. The reference hands out the bottom row."""
        self._gl.make_current()
        self._camera.fixedcamid = self._ids[name]
        with self._culling.of(data, self._ids[name]) as seen:
            mujoco.mjv_updateScene(
                self.model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
            )
        if seen.mirror is not None:
            self._passes = self._passes or Passes(self._context)
            self._passes.arrange(self._scene, seen)
        mujoco.mjr_render(self._view, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._view, self._context)
        return self._pixels[::-1].copy()

    def close(self) -> None:
        self._free()


def _context(model: mujoco.MjModel, size: int) -> mujoco.MjrContext:
    """With a buffer no larger than the image and without a shadow map (no light of ours casts any): the same pixels
    from some 75 MB less."""
    width, height, shadows = model.vis.global_.offwidth, model.vis.global_.offheight, model.vis.quality.shadowsize
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    if not model.light_castshadow.any():
        model.vis.quality.shadowsize = 0
    try:
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    finally:
        model.vis.global_.offwidth, model.vis.global_.offheight, model.vis.quality.shadowsize = width, height, shadows
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
    return context


def _free(gl: Any, context: mujoco.MjrContext) -> None:
    gl.make_current()  # several contexts in one process: each is freed in its own
    context.free()
    gl.free()


_SHARED: weakref.WeakValueDictionary[tuple[int, int], Cameras] = weakref.WeakValueDictionary()
_LAST: list[Cameras] = []
"""The renderer made last is kept when its environment closes: making one takes longer than a hundred control steps."""


def cameras(model: mujoco.MjModel, size: int, backend: Backend) -> Cameras:
    """The renderer of this model at this size, made if there is none; it lives as long as somebody holds it, or until
    another one is made."""
    shared = _SHARED.get((id(model), size))
    if shared is None:
        _LAST.clear()  # first, so that its memory can be used
        shared = Cameras(model, size, backend)
        atexit.unregister(_close_all)
        atexit.register(_close_all)  # after the graphics library was loaded, so that it runs before its own end
        _SHARED[id(model), size] = shared
        _LAST.append(shared)
    return shared


def _close_all() -> None:
    for one in list(_SHARED.values()):
        one.close()
