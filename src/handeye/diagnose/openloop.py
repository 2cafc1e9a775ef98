"""How far are a policy's answers from what was demonstrated, and how far would a constant be?

All dimensions count alike: each is measured in units of what the best constant (the median) misses it by. So 1 is as
good as not looking at all, and 0 is perfect. A dimension in which nothing moves says nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from handeye.diagnose.questions import Asked
from handeye.types import Observation, Policy

STILL = 1e-3
"""Of an action's range: a dimension that moves less on average does not move."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What one unit of error is, per dimension."""

    miss: Float64[np.ndarray, "A"]
    """Mean distance from the median; infinite where nothing moves."""

    @staticmethod
    def of(asked: Asked) -> Scale:
        actions = asked.actions()[asked.valid()]
        miss = np.abs(actions - np.median(actions, axis=0)).mean(0)
        return Scale(miss=np.where(miss > STILL, miss, np.inf))

    @property
    def moving(self) -> int:
        return int(np.isfinite(self.miss).sum())

    def per_dimension(
        self, answers: Float64[np.ndarray, "N T A"], asked: Asked, offset: int = 0
    ) -> Float64[np.ndarray, "A"]:
        """Error of each dimension; 1 is a constant's."""
        return np.asarray(np.abs(answers - asked.actions(offset))[asked.valid(offset)].mean(0) / self.miss, np.float64)

    def per_question(
        self, answers: Float64[np.ndarray, "N T A"], asked: Asked, *, offset: int = 0, axis: int | None = None
    ) -> Float64[np.ndarray, "N"]:
        """Error of each answer, or of one dimension of it; NaN where its chunk has no step that was demonstrated."""
        error_NTA = np.abs(answers - asked.actions(offset)) / self.miss
        error_NT = error_NTA.sum(-1) / max(1, self.moving) if axis is None else error_NTA[..., axis]
        valid_NT = asked.valid(offset)
        counts = valid_NT.sum(1)
        return np.where(counts > 0, (error_NT * valid_NT).sum(1) / np.maximum(counts, 1), np.nan)


def answers(policy: Policy, observations: Sequence[Observation], chunk: int | None = None) -> np.ndarray:
    """(N, T, A), cut to `chunk` steps."""
    return np.stack([each.actions[:chunk] for each in policy.act(observations)]).astype(np.float64)
