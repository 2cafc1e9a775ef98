"""Does the same question get the same answer: asked again, alone, and among others? And is it an answer at all?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from handeye.diagnose.cause import Cause
from handeye.diagnose.questions import Asked
from handeye.types import Observation, Policy

ASKED = 8
"""Questions that are asked again."""

SAME = 1e-5
"""Largest difference between the answers, in the action's unit (design: batch equals single within 1e-5)."""


@dataclass(frozen=True, kw_only=True)
class Steadiness:
    again: float
    """Largest difference when the same is asked again."""

    alone: float
    """Largest difference between an answer given alone and one given among others."""

    def causes(self) -> list[Cause]:
        if self.again > SAME:
            return [
                Cause(
                    name="not the same twice",
                    likelihood=0.96,
                    what=f"the same question with the same seed gets another answer (by up to {self.again:.2g})",
                    fix="put the model into evaluation mode (dropout off), and draw noise from the question's seed",
                    evidence={"difference": self.again},
                )
            ]
        if self.alone > SAME:
            return [
                Cause(
                    name="depends on its neighbours",
                    likelihood=0.95,
                    what=f"an answer given among others differs from the same given alone (by up to {self.alone:.2g})",
                    fix="check masks and position ids of padded prompts, and norms over the batch; meanwhile ask one "
                    "by one (--rows 1)",
                    evidence={"difference": self.alone},
                )
            ]
        return []


def measure(policy: Policy, asked: Asked) -> Steadiness:
    seen = asked.observations[:: max(1, len(asked.questions) // ASKED)][:ASKED]
    first, again = (_stacked(policy, seen) for _ in range(2))
    alone = np.concatenate([_stacked(policy, [each]) for each in reversed(seen)])[::-1]
    return Steadiness(again=float(np.abs(first - again).max()), alone=float(np.abs(first - alone).max()))


def broken(answers: np.ndarray) -> list[Cause]:
    """Numbers that are none."""
    if np.isfinite(answers).all():
        return []
    share = 1 - np.isfinite(answers).mean()
    return [
        Cause(
            name="no numbers",
            likelihood=0.99,
            what=f"{100 * share:.0f} % of its answers are not finite",
            fix="look for half precision that overflows, statistics with a range of zero, and damaged weights "
            "(`handeye inspect`)",
            evidence={"share": float(share)},
        )
    ]


def _stacked(policy: Policy, seen: Sequence[Observation]) -> np.ndarray:
    return np.stack([each.actions for each in policy.act(seen)]).astype(np.float64)
