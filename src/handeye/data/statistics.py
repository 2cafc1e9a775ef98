"""What a dataset's actions and proprioception look like: exact, in one pass over the vectors (images are not read).

The JSON form is one data set's entry of OpenVLA's dataset_statistics.json, so published statistics are read by the same
function.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from handeye.conventions.normalize import Kind, Normalizer
from handeye.conventions.plain import to_plain
from handeye.errors import UserError

NAMES = ("mean", "std", "min", "max", "q01", "q99")


@dataclass(frozen=True, kw_only=True)
class VectorStatistics:
    """Per dimension. std is the population's (ddof 0), quantiles are interpolated linearly."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    q01: tuple[float, ...]
    q99: tuple[float, ...]

    def normalizer(self, kind: Kind, *, mask: tuple[bool, ...] | None = None) -> Normalizer:
        """`mask` False leaves a dimension alone; None: all are normalised."""
        low, high = {
            "mean_std": (self.mean, tuple(m + s for m, s in zip(self.mean, self.std, strict=True))),
            "bounds": (self.min, self.max),
            "quantiles": (self.q01, self.q99),
        }[kind]
        still = tuple(a == b or lo == hi for a, b, lo, hi in zip(self.min, self.max, low, high, strict=True))
        return Normalizer(kind=kind, low=low, high=high, constant=still, mask=mask or (True,) * len(low))


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of one set of demonstrations, in the demonstrations' own units."""

    action: VectorStatistics
    proprio: VectorStatistics
    episodes: int
    steps: int

    def to_json(self) -> dict[str, Any]:
        return {
            "action": to_plain(self.action),
            "proprio": to_plain(self.proprio),
            "num_trajectories": self.episodes,
            "num_transitions": self.steps,
        }

    @staticmethod
    def from_json(value: Any, *, what: str = "the dataset statistics") -> Statistics:
        """Checked: all six rows of each vector, of one length, finite, q01 not above q99."""
        if not isinstance(value, Mapping):
            raise _bad(what, f"expected an object, found {value!r:.80}")
        if missing := {"action", "proprio", "num_trajectories", "num_transitions"} - set(value):
            raise _bad(what, f"no {min(missing)}")
        return Statistics(
            action=_vector(value["action"], f"{what}: action"),
            proprio=_vector(value["proprio"], f"{what}: proprio"),
            episodes=int(value["num_trajectories"]),
            steps=int(value["num_transitions"]),
        )


def measure(vectors: Iterable[tuple[Float[np.ndarray, "_ A"], Float[np.ndarray, "_ S"]]]) -> Statistics:
    """Of (actions, proprio) per episode. Exact quantiles need all values: 120 bytes a step, 33 MB for all of LIBERO."""
    actions, proprios = [], []
    for action, proprio in vectors:
        actions.append(np.asarray(action, np.float64))
        proprios.append(np.asarray(proprio, np.float64))
    if not actions:
        raise _bad("no demonstrations", "statistics of nothing")
    return Statistics(
        action=_measure(np.concatenate(actions)),
        proprio=_measure(np.concatenate(proprios)),
        episodes=len(actions),
        steps=sum(map(len, actions)),
    )


def _measure(values: Float[np.ndarray, "n w"]) -> VectorStatistics:
    def row(array: np.ndarray) -> tuple[float, ...]:
        return tuple(float(x) for x in array)

    q01, q99 = np.quantile(values, (0.01, 0.99), axis=0)
    return VectorStatistics(
        mean=row(values.mean(0)), std=row(values.std(0)), min=row(values.min(0)), max=row(values.max(0)),
        q01=row(q01), q99=row(q99),
    )  # fmt: skip


def _vector(value: Any, what: str) -> VectorStatistics:
    if not isinstance(value, Mapping):
        raise _bad(what, f"expected an object, found {value!r:.80}")
    rows = {}
    for name in NAMES:
        row = value.get(name)
        if not isinstance(row, list) or not all(isinstance(x, int | float) and math.isfinite(x) for x in row):
            raise _bad(what, f"{name} is missing or not a list of finite numbers")
        rows[name] = tuple(float(x) for x in row)
    if len({len(row) for row in rows.values()}) != 1:
        raise _bad(what, "lengths differ: " + ", ".join(f"{name} {len(row)}" for name, row in rows.items()))
    for index, (low, high) in enumerate(zip(rows["q01"], rows["q99"], strict=True)):
        if low > high:
            raise _bad(what, f"q01 {low} is above q99 {high} in dimension {index}")
    return VectorStatistics(**rows)


def _bad(what: str, why: str) -> UserError:
    return UserError(f"{what} cannot be used.", why=why, fix="compute the statistics again from the demonstrations")
