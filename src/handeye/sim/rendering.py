"""Which graphics library draws: EGL (a GPU, or Mesa without one), OSMesa (software) or GLFW (a screen).

MuJoCo reads $MUJOCO_GL once, when it is imported; `choose` may come before or after that. A process uses one library:
PyOpenGL cannot change its mind.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from handeye.errors import UserError
from handeye.sim.config import Backend

ORDER: tuple[Backend, ...] = ("egl", "osmesa", "glfw")
"""A GPU's own library first, then software, which draws the same pixels as Mesa's EGL, then what needs a screen."""

INSTALL = {
    "egl": "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri (with an NVIDIA driver: libegl1 alone)",
    "osmesa": "apt-get install libosmesa6",
    "glfw": "start a display (or xvfb-run), and apt-get install libgl1",
}

_SCENE = """
<mujoco>
  <visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
  <worldbody>
    <geom type="box" size=".5 .5 .1" rgba="1 0 0 1"/>
    <camera name="above" pos="0 0 3"/>
  </worldbody>
</mujoco>
"""
"""A red square in the middle of a black frame."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What draws, and why. Part of every result with images."""

    backend: str
    renderer: str
    """As the library calls itself: `llvmpipe (LLVM 15.0.6, 256 bits)`, `NVIDIA H200/PCIe/SSE2`."""

    reason: str


def choose(backend: Backend = "auto") -> str:
    """Make `mujoco.GLContext` the one of this backend, prove that it draws, and return its name."""
    return choice(backend).backend


@cache
def choice(backend: Backend = "auto") -> Choice:
    """As `choose`, with the reason. UserError names what was tried and what to install."""
    if backend != "auto" and _bound() not in ("", backend):
        raise UserError(
            f"{backend} cannot draw here: this process draws with {_bound()} already.",
            why="PyOpenGL binds a process to one library",
            fix=f"use it from the start: a new process with --backend {backend}",
        )
    wanted, reason = _candidates(backend)
    failures: list[str] = []
    for name in wanted:
        problem = _problem(name)
        if not problem:
            try:
                renderer = _prove(name)
            except Exception as error:  # a driver may raise anything; it ends as a line of the message
                problem = f"{type(error).__name__}: {error}"
            else:
                after = f"; {'; '.join(failures)}" if failures else ""
                return Choice(backend=name, renderer=renderer, reason=reason + after)
        failures.append(f"{name}: {problem}")
    raise UserError(
        "No graphics library renders a frame here." if len(wanted) > 1 else f"{wanted[0]} renders no frame here.",
        why="; ".join(failures),
        fix=" | ".join(INSTALL[name] for name in wanted) + "; evaluation without cameras needs none of these",
    )


def _candidates(backend: Backend) -> tuple[tuple[Backend, ...], str]:
    if backend != "auto":
        return (backend,), "asked for"
    if (platform := _bound()) in ORDER:
        return (platform,), "this process uses it already"
    variable = os.environ.get("MUJOCO_GL", "").lower().strip()
    if variable in ORDER:
        return (variable,), "$MUJOCO_GL"
    if sys.platform != "linux":
        return ("glfw",), "the system's own"
    return ORDER, "the first of EGL, OSMesa, GLFW that renders a frame"


def _bound() -> str:
    """What PyOpenGL was imported for; empty if it was not."""
    return os.environ.get("PYOPENGL_PLATFORM", "").lower() if "OpenGL.platform" in sys.modules else ""


def _problem(name: str) -> str:
    """What speaks against this library before anything is bound to it; empty if nothing does."""
    if _bound() not in ("", name):  # the one before it promised to work and then did not draw
        return f"not tried, {_bound()} has this process: choose it from the start, with --backend {name}"
    if sys.platform != "linux":
        return "" if name == "glfw" else "for Linux only"
    if name == "egl":
        return _egl_problem()
    if name == "osmesa":
        return _osmesa_problem()
    return "" if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") else "there is no display"


def _osmesa_problem() -> str:
    for library in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return ""
    return "libOSMesa.so.8 is not installed"


def _egl_problem() -> str:
    """Asks EGL for a device that starts, as MuJoCo will, without PyOpenGL: its first import decides for good."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return "libEGL.so.1 is not installed"
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    addresses = [egl.eglGetProcAddress(name) for name in (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT")]
    if not all(addresses):
        return "no driver that draws without a screen"
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(addresses[0])
    display_of = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(addresses[1])
    devices, count = (ctypes.c_void_p * 64)(), ctypes.c_int(0)
    if not query(64, devices, ctypes.byref(count)) or not count.value:
        return "no driver offers a device"
    for device in devices[: count.value]:
        display = display_of(0x313F, device, None)  # EGL_PLATFORM_DEVICE_EXT
        if display and egl.eglInitialize(ctypes.c_void_p(display), None, None):
            return ""  # not terminated: a process has one display per device, and others may be drawing with it
    return f"none of {count.value} devices starts (no permission for /dev/dri, or a driver without its libraries)"


def _prove(name: str) -> str:
    """Draw the red square and look at it. Returns what the library calls itself."""
    os.environ["MUJOCO_GL"] = name
    if name != "glfw":
        os.environ["PYOPENGL_PLATFORM"] = name
    import mujoco

    if sys.platform == "linux":  # mujoco may have been imported before, for another library
        gl_context: Any = import_module("mujoco.gl_context")
        mujoco.GLContext = gl_context.GLContext = import_module(f"mujoco.{name}").GLContext
    model = mujoco.MjModel.from_xml_string(_SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, 32, 32)
    try:
        renderer.update_scene(data, camera="above")
        frame = renderer.render()
        title = _title()
    finally:
        renderer.close()
    middle, corner = frame[16, 16].astype(int), frame[1, 1].astype(int)
    if not (middle[0] > 200 and middle[1:].max() < 60 and corner.max() < 60):
        raise RuntimeError(f"a red square on black came out as {middle.tolist()} on {corner.tolist()}")
    return title


def _title() -> str:
    from OpenGL import GL

    text = GL.glGetString(GL.GL_RENDERER)
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
