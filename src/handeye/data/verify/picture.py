"""Pictures: are they there, do they move, and which way up are they? Told from what moves in them.

The agent's camera of every LIBERO scene looks along the same direction, so where things move in its picture follows
the end effector's position up to scale and shift. In the wrist's picture the world moves against the hand. Each of the
eight ways to turn and mirror a picture predicts other correlations; the declared one should win by far. No simulator
is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from handeye.conventions import proprio
from handeye.conventions.rotation import quaternion_xyzw
from handeye.data.source import EpisodeRef, Source
from handeye.data.verify.findings import Finding
from handeye.types import Episode

TURNS: Mapping[str, tuple[bool, bool, bool]] = {
    "as declared": (False, False, False),
    "upside down (rows reversed)": (False, True, False),
    "mirrored (columns reversed)": (False, False, True),
    "turned by 180 degrees": (False, True, True),
    "rows and columns swapped": (True, False, False),
    "turned by 90 degrees": (True, True, False),
    "turned by 270 degrees": (True, False, True),
    "swapped and turned by 180 degrees": (True, True, True),
}
"""What pictures are instead -> what makes them right: (swap rows and columns, reverse rows, reverse columns)."""

AGENT_UP = np.array([-0.6283, 0.0, 0.7780])
"""The picture's upward direction in the world; its right is y. From the camera's quaternion (sim/catalogue.py: AGENT;
living room and floor scenes look 7 degrees flatter, which changes no sign)."""

CLEAR = 0.3
"""Mean standardised effect that counts as evidence: 0.9 (agent) and 0.8 (wrist) on the golden demonstrations."""

INDEPENDENT = 0.02
"""Determinant of the correlations of what is expected along the two axes; below, they cannot be told apart."""

MARGIN = 0.15
"""By which the best way round must win over the second to be believed."""

STILL = 0.5
"""Grey levels: a picture whose values spread less shows nothing."""

SHIFT = 4
"""Largest movement that is looked for between two wrist pictures, in pixels of 64."""


class PictureCheck:
    """Per camera: blank and frozen pictures; the correlations that tell the orientation."""

    def __init__(self) -> None:
        self._cameras: dict[str, dict[str, Any]] = {}
        self._equal = 0
        self._episodes = 0

    def measure(self, episode: Episode) -> dict[str, Any]:
        found: dict[str, Any] = {"steps": len(episode), "cameras": {}, "equal": False}
        frames = list(episode.images.values())
        found["equal"] = len(frames) > 1 and all(_equal(frames[0], other) for other in frames[1:])
        for name, pictures in episode.images.items():
            grey = _grey(pictures)
            spread = grey.std((1, 2))
            frozen = int((np.abs(np.diff(grey, axis=0)).max((1, 2)) == 0).sum()) if len(grey) > 1 else 0
            motion = _agent(grey, episode) if name == "agentview" else _wrist(grey, episode)
            found["cameras"][name] = {
                "blank": int((spread < STILL).sum()),
                "frozen": frozen,
                "first_blank": int(np.argmax(spread < STILL)),
                "sums": motion,
            }
        return found

    def add(self, ref: EpisodeRef, measured: dict[str, Any]) -> None:
        self._episodes += 1
        self._equal += measured["equal"]
        for name, one in measured["cameras"].items():
            kept = self._cameras.setdefault(
                name, {"blank": 0, "frozen": 0, "where": "", "steps": 0, "sums": np.zeros((5, 4))}
            )
            kept["steps"] += measured["steps"]
            kept["blank"] += one["blank"]
            kept["frozen"] += one["frozen"]
            kept["sums"] = kept["sums"] + one["sums"]
            if one["blank"] and not kept["where"]:
                kept["where"] = f"{ref.id} step {one['first_blank']}"

    def findings(self, source: Source) -> Sequence[Finding]:
        found = [finding for name, kept in self._cameras.items() for finding in self._of_camera(name, kept)]
        if self._equal:
            found.append(
                Finding(
                    check="cameras",
                    verdict="fail",
                    found=f"all cameras show the same pictures in {self._equal} of {self._episodes} episodes",
                    fix="one camera was stored under two names: fetch or convert the set again",
                )
            )
        return found

    def _of_camera(self, name: str, kept: Mapping[str, Any]) -> list[Finding]:
        blank, frozen, steps = kept["blank"], kept["frozen"], kept["steps"]
        evidence = {"blank": blank, "repeated": frozen, "steps": steps}
        if blank:
            contents = Finding(
                check=f"pictures {name}",
                verdict="fail",
                found=f"{blank} of {steps} pictures are of one colour, the first in {kept['where']}",
                fix="a camera is missing and was filled with zeros: fetch the set again, or leave these episodes out",
                evidence=evidence,
            )
        elif frozen > 0.5 * steps:
            contents = Finding(
                check=f"pictures {name}",
                verdict="warn",
                found=f"{frozen} of {steps} pictures repeat the one before",
                fix="look at it: handeye data show",
                evidence=evidence,
            )
        else:
            found = f"{steps} pictures, none blank, {frozen} repeated"
            contents = Finding(check=f"pictures {name}", verdict="ok", found=found, evidence=evidence)
        return [contents, self._orientation(name, kept["sums"])]

    def _orientation(self, name: str, sums: Float[np.ndarray, "5 4"]) -> Finding:
        effect = _effects(sums)
        scores = {turn: _score(effect, *how) for turn, how in TURNS.items()}
        best = max(scores, key=scores.__getitem__)
        here = scores["as declared"]
        evidence = {"scores": scores, "effects": effect.tolist()}
        check = f"orientation {name}"
        second = max(value for turn, value in scores.items() if turn != best)
        if scores[best] < CLEAR or scores[best] - second < MARGIN:
            said = f"{scores[best]:.2f} at best, {second:.2f} second: too little to tell which way up it is"
            return Finding(check=check, verdict="note", found=said, evidence=evidence)
        if best == "as declared":
            said = f"what moves follows the arm ({here:.2f} of 1; next best way round {second:.2f})"
            return Finding(check=check, verdict="ok", found=said, evidence=evidence)
        return Finding(
            check=check,
            verdict="fail",
            found=f"what moves follows the arm by {here:.2f} of 1, but {scores[best]:.2f} if the pictures are {best}",
            fix="the set was turned once too often or too seldom: convert it again, or fetch another copy",
            evidence=evidence,
        )


def _effects(sums: Float[np.ndarray, "5 4"]) -> Float[np.ndarray, "2 2"]:
    """Standardised coefficients of what is seen along the picture's axes (0 down, 1 right) on what is expected along
    both at once: an arm that moves on a diagonal makes every pair of axes correlate, but only the right pair counts."""
    count, gram = sums[4, 0], sums[:4]
    variance = np.diag(gram)
    if count < 20 or (variance <= 0).any():
        return np.zeros((2, 2))
    r = gram / np.sqrt(np.outer(variance, variance))
    expected = r[2:, 2:]
    if np.linalg.det(expected) < INDEPENDENT:
        return np.zeros((2, 2))
    return np.asarray(r[:2, 2:] @ np.linalg.inv(expected))


def _score(effect: Float[np.ndarray, "2 2"], swapped: bool, rows: bool, columns: bool) -> float:
    """Mean of the two effects that this way round says should be +1. effect[i, j]: of what is expected along axis j on
    what is seen along axis i."""
    down, right = (effect[1, 0], effect[0, 1]) if swapped else (effect[0, 0], effect[1, 1])
    return float(((-down if rows else down) + (-right if columns else right)) / 2)


def _equal(one: UInt8[np.ndarray, "N H W 3"], other: UInt8[np.ndarray, "N H W 3"]) -> bool:
    """A few pixels first: of two cameras they differ."""
    return np.array_equal(one[:, ::16, ::16], other[:, ::16, ::16]) and np.array_equal(one, other)


def _grey(pictures: UInt8[np.ndarray, "N H W 3"]) -> Float[np.ndarray, "N h w"]:
    """About 64 pixels wide: enough to see an arm move."""
    step = max(1, pictures.shape[1] // 64)
    return np.asarray(pictures[:, ::step, ::step].astype(np.float32).mean(-1))


def _sums(seen: Float[np.ndarray, "n 2"], expected: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "5 4"]:
    """Products of (seen down, right, expected down, right) about this episode's own means, so that they can be added
    over episodes; the last row holds the count."""
    sums = np.zeros((5, 4))
    if len(seen) >= 3:
        table = np.concatenate([seen, expected], axis=1)
        table = table - table.mean(0)
        sums[:4], sums[4, 0] = table.T @ table, len(table)
    return sums


def _agent(grey: Float[np.ndarray, "N h w"], episode: Episode) -> Float[np.ndarray, "5 4"]:
    """Centre of what changed between two pictures, against the end effector seen from the camera."""
    change = np.abs(np.diff(grey, axis=0))
    change = np.where(change > 8, change, 0)
    weight = change.sum((1, 2))
    moved = weight > 200
    if not moved.any():
        return np.zeros((5, 4))
    change, weight = change[moved], weight[moved]
    rows = (change.sum(2) * np.arange(grey.shape[1])).sum(1) / weight
    columns = (change.sum(1) * np.arange(grey.shape[2])).sum(1) / weight
    position = np.asarray(episode.proprio[:, proprio.POSITION], np.float64)
    middle = ((position[1:] + position[:-1]) / 2)[moved]
    expected = np.stack([-(middle @ AGENT_UP), middle[:, 1]], axis=1)
    return _sums(np.stack([rows, columns], axis=1), expected)


def _wrist(grey: Float[np.ndarray, "N h w"], episode: Episode) -> Float[np.ndarray, "5 4"]:
    """Shift between two pictures (phase correlation), against the hand's own movement along its x and y."""
    if len(grey) < 4:
        return np.zeros((5, 4))
    window = np.outer(np.hanning(grey.shape[1]), np.hanning(grey.shape[2]))
    spectrum = np.fft.fft2((grey - grey.mean((1, 2), keepdims=True)) * window)
    cross = spectrum[1:] * np.conj(spectrum[:-1])
    surface = np.fft.ifft2(cross / (np.abs(cross) + 1e-9)).real
    near = np.roll(surface, (SHIFT, SHIFT), (1, 2))[:, : 2 * SHIFT + 1, : 2 * SHIFT + 1]
    peak = near.reshape(len(near), -1).argmax(1)
    shift = np.stack(np.divmod(peak, 2 * SHIFT + 1), axis=1) - SHIFT
    position = np.asarray(episode.proprio[:, proprio.POSITION], np.float64)
    turn = _turns(np.asarray(episode.proprio[:, proprio.ORIENTATION], np.float64))
    moved = np.einsum("nji,nj->ni", turn[:-1], np.diff(position, axis=0))
    expected = np.stack([moved[:, 0], -moved[:, 1]], axis=1)  # measured on upright golden pictures: r = 0.68, 0.87
    return _sums(shift.astype(np.float64), expected)


def _turns(vector: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3 3"]:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_quat(quaternion_xyzw(vector)).as_matrix())
