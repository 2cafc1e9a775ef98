"""In which convention is the orientation, and do joints and pose belong together? Told by forward kinematics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from handeye.conventions import proprio
from handeye.conventions.rotation import quaternion_xyzw
from handeye.data.source import EpisodeRef, Source
from handeye.data.verify.findings import Finding
from handeye.data.verify.kinematics import hand
from handeye.types import Episode

CLOSE = 0.05
"""Radians: the golden demonstrations agree to 0.001; the hand turns at most 0.05 a step."""

CANONICAL = (
    "policies and simulator use robosuite's, which keeps the quaternion's sign: convert it "
    "(Rotation.AXIS_ANGLE to AXIS_ANGLE_ROBOSUITE), or fetch another copy"
)


class PoseCheck:
    """Per step: the angle between the recorded orientation and the joints' one under each reading, and jumps."""

    def __init__(self) -> None:
        self._errors: dict[str, list[float]] = {}
        self._steps = 0
        self._with_joints = 0
        self._beyond_pi = 0
        self._jumps = 0
        self._spread = 0.0

    def measure(self, episode: Episode) -> dict[str, Any]:
        vector = np.asarray(episode.proprio[:, proprio.ORIENTATION], np.float64)
        angle = np.linalg.norm(vector, axis=1)
        jumps = np.linalg.norm(np.diff(vector, axis=0), axis=1) > 3.0
        found: dict[str, Any] = {"steps": len(vector), "beyond": int((angle > np.pi).sum()), "jumps": int(jumps.sum())}
        if episode.joints is None or episode.joints.shape[1] != 7:
            return found
        position, rotation = hand(np.asarray(episode.joints, np.float64))
        offset = np.asarray(episode.proprio[:, proprio.POSITION], np.float64) - position
        found["spread"] = float(np.abs(offset - offset.mean(0)).max())
        found["errors"] = {name: float(_angle(turned, rotation).mean()) for name, turned in _readings(vector).items()}
        return found

    def add(self, ref: EpisodeRef, measured: dict[str, Any]) -> None:
        self._steps += measured["steps"]
        self._beyond_pi += measured["beyond"]
        self._jumps += measured["jumps"]
        if "errors" in measured:
            self._with_joints += 1
            self._spread = max(self._spread, measured["spread"])
            for name, error in measured["errors"].items():
                total, count = self._errors.setdefault(name, [0.0, 0.0])
                self._errors[name] = [total + error * measured["steps"], count + measured["steps"]]

    def findings(self, source: Source) -> Sequence[Finding]:
        return [self._orientation(), self._position()] if self._with_joints else [self._continuity()]

    def _orientation(self) -> Finding:
        errors = {name: total / count for name, (total, count) in self._errors.items()}
        best = min(errors, key=errors.__getitem__)
        evidence = {"radians_from_joints": errors, "steps_beyond_pi": self._beyond_pi, "jumps": self._jumps}
        said = f"{errors['axis-angle']:.4f} rad from what the joints say"
        if errors["axis-angle"] < CLOSE:
            return self._sign(said, evidence)
        return Finding(
            check="orientation",
            verdict="fail",
            found=f"read as axis-angle it is {said}; as {best} {errors[best]:.4f}",
            fix="convert it to axis-angle of the hand (conventions/rotation.py), or fetch another copy"
            if errors[best] < CLOSE
            else "neither axis-angle nor any known reading: fetch another copy",
            evidence=evidence,
        )

    def _sign(self, said: str, evidence: dict[str, Any]) -> Finding:
        """The hand points down, so its angle is near pi all the time: robosuite's goes past it, the canonical jumps."""
        if self._jumps and not self._beyond_pi:
            return Finding(
                check="orientation",
                verdict="fail",
                found=f"{said}, but it jumps {self._jumps} times and never exceeds pi: the canonical axis-angle",
                fix=CANONICAL,
                evidence=evidence,
            )
        beyond = f"; {self._beyond_pi} of {self._steps} steps beyond pi, {self._jumps} jumps"
        return Finding(check="orientation", verdict="ok", found=said + beyond, evidence=evidence)

    def _position(self) -> Finding:
        evidence = {"metres": self._spread}
        said = f"joints and end effector agree to {1000 * self._spread:.1f} mm"
        if self._spread < 0.02:
            return Finding(check="position", verdict="ok", found=said, evidence=evidence)
        return Finding(
            check="position",
            verdict="fail",
            found=f"joints and end effector disagree by up to {1000 * self._spread:.0f} mm",
            fix="another point, other units, or rows shifted against each other: fetch another copy",
            evidence=evidence,
        )

    def _continuity(self) -> Finding:
        evidence = {"steps_beyond_pi": self._beyond_pi, "jumps": self._jumps, "steps": self._steps}
        if self._jumps and not self._beyond_pi:
            return Finding(
                check="orientation",
                verdict="warn",
                found=f"it jumps {self._jumps} times and never exceeds pi: the canonical axis-angle",
                fix=CANONICAL,
                evidence=evidence,
            )
        said = f"{self._beyond_pi} of {self._steps} steps beyond pi, {self._jumps} jumps; no joints to compare with"
        return Finding(check="orientation", verdict="ok", found=said, evidence=evidence)


def _readings(vector: Float[np.ndarray, "N 3"]) -> dict[str, Float[np.ndarray, "N 3 3"]]:
    """Ways to read three numbers as an orientation."""
    from scipy.spatial.transform import Rotation

    return {
        "axis-angle": _matrix(quaternion_xyzw(vector)),
        "Euler angles x, y, z (fixed axes)": Rotation.from_euler("xyz", vector).as_matrix(),
        "Euler angles x, y, z (moving axes)": Rotation.from_euler("XYZ", vector).as_matrix(),
        "the imaginary part of a quaternion": _matrix(_completed(vector)),
    }


def _completed(imaginary: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 4"]:
    real = np.sqrt(np.clip(1 - (imaginary**2).sum(1, keepdims=True), 0, 1))
    whole = np.concatenate([imaginary, real], axis=1)
    return np.asarray(whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-9))


def _matrix(quaternion: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 3 3"]:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_quat(quaternion).as_matrix())


def _angle(one: Float[np.ndarray, "N 3 3"], other: Float[np.ndarray, "N 3 3"]) -> Float[np.ndarray, "N"]:
    trace = np.einsum("nij,nij->n", one, other)
    return np.arccos(np.clip((trace - 1) / 2, -1, 1))
