"""Do the statistics that the policy carries fit the numbers that it meets?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from handeye.conventions.normalize import Normalizer
from handeye.data.pipeline.pipeline import Pipeline
from handeye.diagnose.cause import Cause
from handeye.types import Observation

OUTSIDE = 0.2
"""Share of the demonstrations' values that lie outside what a dimension is normalised to (a tenth beyond it). 2 % is
what quantiles leave out."""

FAR = 6.0
"""Standard deviations, for mean and deviation."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Of one vector."""

    what: str
    """`action` or `state`."""

    outside: tuple[float, ...]
    """Per dimension: the share of values outside."""

    def causes(self) -> list[Cause]:
        worst = int(np.argmax(self.outside))
        if self.outside[worst] <= OUTSIDE:
            return []
        return [
            Cause(
                name=f"{self.what} statistics",
                likelihood=0.6,
                what=f"{100 * self.outside[worst]:.0f} % of the demonstrations' {self.what} values in dimension "
                f"{worst} lie outside the range that the policy's statistics normalise",
                fix="the policy carries another data set's statistics: choose the right key (DIR#statistics=NAME), or "
                "train again on these demonstrations",
                evidence=self.to_json(),
            )
        ]

    def to_json(self) -> dict[str, Any]:
        return {"what": self.what, "outside": [round(share, 4) for share in self.outside]}


def of_state(pipeline: Pipeline | None, seen: Sequence[Observation], used: Normalizer | None) -> Range | None:
    """Of the state as the model gets it, after every step before it. None where the policy does not say."""
    if pipeline is None or used is None or not seen:
        return None
    got = np.stack([pipeline.encode(each)["proprio"][: used.width] for each in seen])
    outside = np.abs(got) > (FAR if used.kind == "mean_std" else 1.2)
    looked = np.array(used.mask) & ~np.array(used.constant)
    return Range(what="state", outside=tuple(np.where(looked, outside.mean(0), 0.0).tolist()))


def of_actions(actions: Float64[np.ndarray, "R A"], used: Normalizer | None) -> Range | None:
    """Of what was demonstrated. None where the policy does not say, or says it of vectors of another width."""
    if used is None or used.width != actions.shape[1]:
        return None
    low, high = np.array(used.low), np.array(used.high)
    if used.kind == "mean_std":
        outside = np.abs(actions - low) > FAR * np.maximum(high - low, 1e-9)
    else:
        margin = 0.1 * (high - low) + 1e-6
        outside = (actions < low - margin) | (actions > high + margin)
    looked = np.array(used.mask) & ~np.array(used.constant)
    return Range(what="action", outside=tuple(np.where(looked, outside.mean(0), 0.0).tolist()))
