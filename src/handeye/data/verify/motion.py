"""Do the actions do what their convention says? Told from what the end effector and the fingers did after them.

Three questions of the same kind. *Gripper*: does the command that should close the fingers close them? *Moment*: does
the next action explain what happened before it? Then rows hold what was seen after their action. *Scale and axes*: how
far does one unit along each axis move the end effector?
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from handeye.conventions import proprio
from handeye.conventions.gripper import Gripper, convert
from handeye.data.source import EpisodeRef, Source
from handeye.data.verify.findings import Finding
from handeye.types import Episode

AXES = ("x", "y", "z")
FUTURE = 0.4
"""Share of the movement left over by earlier actions that the next one explains: 0.03 on aligned golden demonstrations,
0.85 on the same ones with every observation one row later (360 steps each)."""

ENOUGH = 60
"""Rows below which nothing is said about the moment or the scale."""

METRES_PER_UNIT = (0.004, 0.04)
"""What one unit of action does in all, by robosuite's controller at 20 Hz: 0.011 to 0.014 m on golden demonstrations
(its goal is 0.05 m away, of which it covers a part before the next action). Three times less or more is not it."""

LATER = 2
"""Steps from a command to the fingers' distance that is compared with it. On golden and recorded demonstrations, with
and without no-ops, rows left out or observed after the action, the correlation is -0.64 to -0.98."""


class GripperCheck:
    """Correlation of the command with the fingers' distance a little later, and which values occur."""

    def __init__(self) -> None:
        self._values: dict[float, int] = {}
        self._others = 0
        self._sums = np.zeros(6)

    def measure(self, episode: Episode) -> tuple[dict[float, int], Float[np.ndarray, "6"]]:
        command = np.asarray(episode.actions[:, -1], np.float64)
        values, counts = np.unique(command, return_counts=True)
        fingers = np.asarray(episode.proprio[:, proprio.FINGERS], np.float64)
        width = fingers[:, 0] - fingers[:, 1]
        x, y = command[:-LATER], width[LATER:]
        x, y = (x - x.mean(), y - y.mean()) if len(x) else (x, y)  # about its own means: hands hold things of any size
        sums = np.array([len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])
        return dict(zip(values.tolist(), counts.tolist(), strict=True)), sums

    def add(self, ref: EpisodeRef, measured: tuple[dict[float, int], np.ndarray]) -> None:
        values, sums = measured
        self._sums = self._sums + sums
        for value, count in values.items():
            if value in self._values or len(self._values) < 64:
                self._values[value] = self._values.get(value, 0) + count
            else:
                self._others += count

    def findings(self, source: Source) -> Sequence[Finding]:
        declared = source.specs.action.gripper
        return [self._range(declared), self._sign(declared)]

    def _range(self, declared: Gripper) -> Finding:
        ends = tuple(float(convert(np.array(o), source=Gripper.ZERO_ONE_OPEN, target=declared)) for o in (0.0, 1.0))
        seen = sorted(self._values)
        shown = ", ".join(f"{v:g} ({self._values[v]})" for v in seen[:6]) + (", ..." if len(seen) > 6 else "")
        evidence = {"values": {f"{v:g}": self._values[v] for v in seen[:16]}, "distinct": len(seen)}
        name = "gripper range"
        if set(seen) <= {min(ends), max(ends)}:
            return Finding(check=name, verdict="ok", found=f"commands are {shown}", evidence=evidence)
        fix = f"they are read as {declared.value}: convert the set, or declare what it really holds"
        if seen and min(seen) >= 0 and min(ends) < 0:
            return Finding(
                check=name, verdict="fail", found=f"commands are {shown}: none below 0", fix=fix, evidence=evidence
            )
        return Finding(check=name, verdict="warn", found=f"commands are {shown}", fix=fix, evidence=evidence)

    def _sign(self, declared: Gripper) -> Finding:
        n, sx, sy, sxx, syy, sxy = self._sums
        name = "gripper sign"
        spread = (n * sxx - sx * sx) * (n * syy - sy * sy)
        if n < 20 or spread <= 0:
            return Finding(
                check=name, verdict="note", found=f"{n:.0f} steps in which the fingers move: too few to tell"
            )
        r = float((n * sxy - sx * sy) / np.sqrt(spread))
        opens = convert(np.array([0.0, 1.0]), source=Gripper.ZERO_ONE_OPEN, target=declared)
        agreement = r if opens[1] > opens[0] else -r
        evidence = {"correlation": r, "steps": int(n)}
        said = f"command against the fingers' distance {LATER} steps later: r = {r:+.2f} over {n:.0f} steps"
        if agreement > 0.3:
            return Finding(check=name, verdict="ok", found=f"{said}; as declared ({declared.value})", evidence=evidence)
        if agreement < -0.3:
            return Finding(
                check=name,
                verdict="fail",
                found=f"{said}: the opposite of what is declared ({declared.value})",
                fix="the gripper's sign is turned around: mend it where the set was made, or fetch another copy",
                evidence=evidence,
            )
        return Finding(
            check=name,
            verdict="warn",
            found=f"{said}: no clear relation",
            fix="look at it: handeye data show",
            evidence=evidence,
        )


class MomentCheck:
    """Least squares of the end effector's movement from row t to t + 1 on the actions of rows t - 2 to t + 1."""

    def __init__(self) -> None:
        self._gram = np.zeros((15, 15))
        self._rows = 0

    def measure(self, episode: Episode) -> tuple[int, Float[np.ndarray, "15 15"]]:
        position = np.asarray(episode.proprio[:, proprio.POSITION], np.float64)
        action = np.asarray(episode.actions[:, :3], np.float64)
        t = np.arange(2, len(position) - 1)
        parts = [action[t - 2], action[t - 1], action[t], action[t + 1], position[t + 1] - position[t]]
        table = np.concatenate(parts, axis=1) if len(t) else np.zeros((0, 15))
        return len(t), table.T @ table

    def add(self, ref: EpisodeRef, measured: tuple[int, np.ndarray]) -> None:
        rows, gram = measured
        self._rows += rows
        self._gram = self._gram + gram

    def findings(self, source: Source) -> Sequence[Finding]:
        if self._rows < ENOUGH:
            said = f"{self._rows} rows: too few to tell"
            return [Finding(check=name, verdict="note", found=said) for name in ("moment", "action scale")]
        return [self._moment(source), self._scale()]

    def _moment(self, source: Source) -> Finding:
        past, _ = self._left(9)
        both, _ = self._left(12)
        future = 1 - both / past if past > 0 else 0.0
        evidence = {"explained_by_next_action": future, "rows": self._rows}
        said = f"the next action explains {100 * future:.0f} % of the movement that earlier ones leave over"
        if future < FUTURE:
            found = f"{said}: each action stands with what was seen before it"
            return Finding(check="moment", verdict="ok", found=found, evidence=evidence)
        return Finding(
            check="moment",
            verdict="warn" if source.stored.format != "hdf5" else "fail",
            found=f"{said}: rows hold what was seen AFTER their action",
            fix="a policy learns to repeat the action just made: use a set regenerated by replay, or convert from raw "
            "HDF5 with handeye data convert, which moves the rows",
            evidence=evidence,
        )

    def _scale(self) -> Finding:
        _, gains = self._left(9)
        total = gains.reshape(3, 3, 3).sum(0)  # [action axis, movement axis], metres per unit, over three steps
        used = np.diag(self._gram)[6:9] / self._rows > 1e-3
        evidence = {"metres_per_unit": total.tolist(), "axes_used": used.tolist()}
        said = ", ".join(f"{axis} {total[i, i]:+.4f}" for i, axis in enumerate(AXES) if used[i]) + " m per unit"
        name = "action scale"
        if not used.any():
            return Finding(
                check=name, verdict="note", found="the actions hardly move the end effector", evidence=evidence
            )
        problems = []
        for i in np.flatnonzero(used):
            strongest = int(np.abs(total[i]).argmax())
            if strongest != i and abs(total[i, strongest]) > 2 * abs(total[i, i]):
                problems.append(f"the {AXES[i]} action moves along {AXES[strongest]}")
            elif total[i, i] < 0:
                problems.append(f"the {AXES[i]} action moves backwards")
            elif not METRES_PER_UNIT[0] < total[i, i] < METRES_PER_UNIT[1]:
                problems.append(f"the {AXES[i]} action is in other units")
        if not problems:
            return Finding(check=name, verdict="ok", found=said, evidence=evidence)
        low, high = METRES_PER_UNIT
        return Finding(
            check=name,
            verdict="fail",
            found=f"{said}: {'; '.join(problems)} (LIBERO's controller: {low:g} to {high:g})",
            fix="the actions are normalised, scaled or in another frame: undo that, or fetch another copy",
            evidence=evidence,
        )

    def _left(self, regressors: int) -> tuple[float, Any]:
        """(squared movement that the first so many columns do not explain, their coefficients)."""
        X, XY, YY = self._gram[:regressors, :regressors], self._gram[:regressors, 12:], self._gram[12:, 12:]
        coefficients = np.linalg.lstsq(X, XY, rcond=1e-10)[0]
        return float(np.trace(YY) - np.trace(coefficients.T @ XY)), coefficients
