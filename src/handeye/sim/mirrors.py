"""Draws in a mirror only what it shows, and in front of it only what is in view.

MuJoCo draws a frame with a mirror twice, first mirrored, then as it is, both times all of it. Which meshes each pass
needs is known (culling.py), but `mjr_render` takes one list of geoms for both. It draws a mesh by calling the OpenGL
display list whose number stands in the geom. So a mesh that only one pass needs is given the number of a list that
calls another one, counted from OpenGL's list base: the mesh in one pass, nothing in the other. The first mesh, which
both passes reach first, moves the base as well. What is drawn is drawn by MuJoCo, in its own order: the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from handeye.sim.culling import OPAQUE, Seen

MESH, MODEL_GEOM = int(mujoco.mjtGeom.mjGEOM_MESH), int(mujoco.mjtObj.mjOBJ_GEOM)


class Passes:
    """The display lists of one rendering context, which must be current when they are made and used.

    Entries, counted from the list base: 0 moves the base to the other pass's lists, then one per mesh for those that
    only the view needs, then one per mesh for those that only the mirror needs. An entry that a pass does not need is
    no list, and calling it does nothing.
    """

    def __init__(self, context: mujoco.MjrContext) -> None:
        from OpenGL import GL  # bound to the library that draws

        self._gl: Any = GL
        self._meshes, self._base = context.rangeMesh, context.baseMesh
        entries = 1 + 2 * self._meshes
        self._view = GL.glGenLists(3 * entries + 1)
        self._mirror, self._callers, self._first = (self._view + count * entries for count in (1, 2, 3))
        self._recorded: set[int] = set()
        self._record(self._view, lambda: GL.glListBase(self._mirror))
        self._record(self._mirror, lambda: GL.glListBase(self._view))

    def arrange(self, scene: mujoco.MjvScene, seen: Seen) -> None:
        """Between `mjv_updateScene` and `mjr_render`. Without a mirror in the frame nothing is done."""
        geoms = [geom for geom in scene.geoms[: scene.ngeom] if geom.objtype == MODEL_GEOM and geom.rgba[3] >= OPAQUE]
        if not any(geom.objid == seen.mirror and geom.reflectance > 0 for geom in geoms):
            return
        if not scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION]:
            return
        meshes = [geom for geom in geoms if geom.type == MESH and geom.dataid >= 0]
        for geom in meshes:
            if seen.direct[geom.objid] and not seen.mirrored[geom.objid]:
                geom.dataid = self._caller(1 + geom.dataid, self._view, self._base + geom.dataid) - self._base
            elif seen.mirrored[geom.objid] and not seen.direct[geom.objid]:
                entry = 1 + self._meshes + geom.dataid
                geom.dataid = self._caller(entry, self._mirror, self._base + geom.dataid) - self._base
        if meshes:
            switch, then = self._caller(0), self._base + meshes[0].dataid
            self._record(self._first, lambda: (self._gl.glCallList(switch), self._gl.glCallList(then)))
            meshes[0].dataid = self._first - self._base
            self._gl.glListBase(self._view)  # what moves away from it is the mirrored pass, which comes first

    def _caller(self, entry: int, lists: int | None = None, mesh: int = 0) -> int:
        """The list that calls this entry of the current pass; the entry is the mesh in these lists."""
        caller = self._callers + entry
        if caller not in self._recorded:
            if lists is not None:
                self._record(lists + entry, lambda: self._gl.glCallList(mesh))
            number = np.array([entry], np.uint32)
            self._record(caller, lambda: self._gl.glCallLists(1, self._gl.GL_UNSIGNED_INT, number))
            self._recorded.add(caller)
        return caller

    def _record(self, number: int, calls: Callable[[], object]) -> None:
        self._gl.glNewList(number, self._gl.GL_COMPILE)
        calls()
        self._gl.glEndList()
