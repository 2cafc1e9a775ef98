"""`handeye sim check`: two probes that tell a sound simulator from one whose numbers would be about something else.

Settling: from 3.4.0 on MuJoCo lets the bowl of LIBERO-Spatial's task 5 slide off its ramekin before the policy's first
action. Drawing: from 3.3.3 on it darkens textures that are marked as sRGB, as LIBERO's most common floor is.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from handeye import console
from handeye.errors import UserError
from handeye.sim import assets, rendering, suites, versions
from handeye.sim.config import Backend, CheckConfig, SimConfig
from handeye.types import EpisodeId

if TYPE_CHECKING:
    from handeye.sim.task_env import TaskEnv

SETTLE_STEPS = 10  # what published protocols wait before the policy's first action
SETTLE_ACTION = np.array([0, 0, 0, 0, 0, 0, -1.0])
SETTLE_STATES = (0, 10, 20)
BOWL_OFFSET, BOWL_TILT = 14.53, 15.95
"""mm between bowl and ramekin, degrees of the bowl: 3.2.3, 3.3.2 and 3.3.3 agree to 0.01 on 20 initial states (facts,
field.md 3.4). 3.4.0: 37.2 and 10.5, and still moving with 59 mm/s."""

TEXTURE = (180, 120, 60)
FLOOR = np.array([134, 89, 45])
"""TEXTURE under MuJoCo's headlight (ambient 0.1, diffuse 0.4): 3.2.3 and 3.3.2. From 3.3.3: 87, 36, 9."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table."""

    about: str
    verdict: Literal["ok", "bad", "skipped"]
    measured: str
    expected: str = ""
    fix: str = ""


def run(config: CheckConfig) -> int:
    """All findings, then what to do. The exit code."""
    began = time.monotonic()
    findings = probe(config.backend)
    width = max(len(finding.about) for finding in findings)
    for finding in findings:
        wanted = f" (expected {finding.expected})" if finding.expected else ""
        console.say(f"{finding.verdict:<9}{finding.about:<{width}}  {finding.measured}{wanted}")
    bad = [finding for finding in findings if finding.verdict == "bad"]
    for finding in findings:
        if finding.fix:
            console.say(f"fix {finding.about}: {finding.fix}")
    verdict = "sound" if not bad else f"NOT sound: {', '.join(finding.about for finding in bad)}"
    console.say(f"This simulator is {verdict} ({time.monotonic() - began:.1f} s).")
    return 1 if bad else 0


def probe(backend: Backend) -> list[Finding]:
    """Each on its own: what cannot run is a bad finding."""
    findings = [_version(), _graphics(backend)]
    draws = findings[-1].verdict == "ok"
    findings.append(_floor() if draws else _skip("floor brightness", "nothing draws"))
    there = _libero()
    findings.append(there)
    suite, index = ("libero_spatial", 5) if there.verdict == "ok" else ("tabletop", 0)
    settled = _bowl_settles if there.verdict == "ok" else _tabletop_settles
    findings.append(_guarded(f"{suite} {index} settles", settled))
    if draws:
        findings.append(_guarded(f"{suite} {index} seen", lambda about: _frame(about, suite, index, backend)))
    return findings


def _version() -> Finding:
    try:
        version = versions.installed()
    except UserError as error:
        return Finding(about="MuJoCo", verdict="bad", measured=error.what, fix=error.fix)
    problem = versions.trouble(version)
    return Finding(
        about="MuJoCo",
        verdict="bad" if problem else "ok",
        measured=version,
        expected=">=3.2.3, <3.3.3",
        fix=f'{problem}: pip install "mujoco==3.3.2"' if problem else "",
    )


def _graphics(backend: Backend) -> Finding:
    try:
        choice = rendering.choice(backend)
    except UserError as error:
        return Finding(about="graphics", verdict="bad", measured=error.why or error.what, fix=error.fix)
    return Finding(about="graphics", verdict="ok", measured=f"{choice.backend}, {choice.renderer}: {choice.reason}")


def _floor() -> Finding:
    """Draws a floor whose PNG carries an sRGB chunk."""
    import mujoco

    png = _png(TEXTURE)
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><asset><texture name="t" type="2d" file="t.png"/><material name="m" texture="t"/></asset><worldbody>'
        '<geom type="plane" size="3 3 .1" material="m"/><camera name="above" pos="0 0 2"/></worldbody></mujoco>',
        {"t.png": png},
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, 32, 32)
    try:
        renderer.update_scene(data, camera="above")
        middle = renderer.render()[16, 16].astype(int)
    finally:
        renderer.close()
    same = bool(abs(middle - FLOOR).max() <= 3)  # drivers round differently
    return Finding(
        about="floor brightness",
        verdict="ok" if same else "bad",
        measured=str(middle.tolist()),
        expected=f"{FLOOR.tolist()} ± 3",
        fix="" if same else 'pip install "mujoco==3.3.2" (later ones draw sRGB textures darker); or another --backend',
    )


def _png(rgb: tuple[int, int, int]) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(rgb) * 4) * 4)
    chunks = ((b"IHDR", header), (b"sRGB", b"\0"), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in chunks)


def _libero() -> Finding:
    try:
        assets.libero_files()
        assets.robosuite_assets()
        folder = assets.libero_assets()
    except UserError as error:
        return _skip("LIBERO's files", error.what, fix=error.fix)
    return Finding(about="LIBERO's files", verdict="ok", measured=str(folder))


def _bowl_settles(about: str) -> Finding:
    env = _env("libero_spatial", 5)
    bowl, ramekin = "akita_black_bowl_1", "glazed_rim_porcelain_ramekin_1"
    worst, text = 0.0, ""
    for state in SETTLE_STATES:
        _settle(env, "libero_spatial", 5, state)
        between = env.data.body(env.scene.parts[bowl].body).xpos - env.data.body(env.scene.parts[ramekin].body).xpos
        offset = 1e3 * float(np.linalg.norm(between[:2]))
        upright = float(env.data.body(env.scene.parts[bowl].body).xmat[8])
        tilt = float(np.degrees(np.arccos(np.clip(upright, -1, 1))))
        speed = 1e3 * _speed(env, bowl)
        distance = max(abs(offset - BOWL_OFFSET), abs(tilt - BOWL_TILT), speed / 5)
        if distance >= worst:
            worst, text = distance, f"{offset:.1f} mm, {tilt:.1f}°, {speed:.1f} mm/s"
    return Finding(
        about=about,
        verdict="ok" if worst < 1 else "bad",
        measured=text,
        expected=f"{BOWL_OFFSET:.1f} mm, {BOWL_TILT:.1f}°, < 5 mm/s",
        fix=""
        if worst < 1
        else "another MuJoCo or other scene files than the numbers are about: see docs/simulator.md",
    )


def _tabletop_settles(about: str) -> Finding:
    """Weaker than LIBERO's: our own scenes stand still in every MuJoCo that was tried."""
    env = _env("tabletop", 0)
    moved = speed = 0.0
    for state in SETTLE_STATES:
        env.reset(_episode("tabletop", 0, state))
        movable = [part for part in env.scene.parts.values() if part.movable]
        before = {part.name: env.data.body(part.body).xpos.copy() for part in movable}
        _steps(env)
        moves = [np.linalg.norm(env.data.body(part.body).xpos - before[part.name]) for part in movable]
        moved = max(moved, 1e3 * float(max(moves)))
        speed = max(speed, 1e3 * max(_speed(env, part.name) for part in movable))
    still = moved < 2 and speed < 5
    return Finding(
        about=about,
        verdict="ok" if still else "bad",
        measured=f"{moved:.2f} mm, {speed:.1f} mm/s",
        expected="< 2 mm, < 5 mm/s",
        fix="" if still else 'pip install "mujoco==3.3.2"',
    )


def _frame(about: str, suite: str, index: int, backend: Backend) -> Finding:
    """A real scene through the real cameras: something is in the picture, and it is the same twice."""
    env = suites.make(suites.task(suite, index), SimConfig(backend=backend, allow_mujoco=True))
    try:
        pictures = []
        for _ in range(2):
            env.reset(_episode(suite, index, 0))
            pictures.append(env.observe().images)
    finally:
        env.close()
    spread = min(float(picture.std()) for picture in pictures[0].values())
    same = all(np.array_equal(pictures[0][name], pictures[1][name]) for name in pictures[0])
    good = spread > 15 and same
    return Finding(
        about=about,
        verdict="ok" if good else "bad",
        measured=f"contrast {spread:.0f}, {'same' if same else 'different'} twice",
        expected="> 15, same twice",
        fix="" if good else "try another --backend; a driver that draws nonsense is often one for another GPU",
    )


def _guarded(about: str, probe: Callable[[str], Finding]) -> Finding:
    """A probe that cannot run is a bad finding, not the end of the others."""
    try:
        return probe(about)
    except UserError as error:
        return Finding(about=about, verdict="bad", measured=error.what, fix=error.fix)


def _skip(about: str, why: str, *, fix: str = "") -> Finding:
    return Finding(about=about, verdict="skipped", measured=why, fix=fix)


def _env(suite: str, index: int) -> TaskEnv:
    from handeye.sim.task_env import TaskEnv

    env = suites.make(suites.task(suite, index), SimConfig(cameras=(), allow_mujoco=True))
    assert isinstance(env, TaskEnv)
    return env


def _episode(suite: str, index: int, state: int) -> EpisodeId:
    return EpisodeId(suite=suite, task=index, initial_state=state)


def _settle(env: TaskEnv, suite: str, index: int, state: int) -> None:
    env.reset(_episode(suite, index, state))
    _steps(env)


def _steps(env: TaskEnv) -> None:
    for _ in range(SETTLE_STEPS):
        env.step(SETTLE_ACTION)


def _speed(env: TaskEnv, part: str) -> float:
    """m/s of a free body."""
    (joint,) = env.scene.parts[part].joints
    return float(np.linalg.norm(env.data.joint(joint).qvel[:3]))
