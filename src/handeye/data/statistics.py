"""What a dataset's actions and proprioception look like: exact, in one pass over the vectors (images are not read).

The JSON form is one data set's entry of OpenVLA's dataset_statistics.json, so published statistics are read by the
same function. openpi's norm_stats.json, which knows less, is read by `from_norm_stats`; how openpi estimates its
quantiles is in `handeye.data.running_statistics`.
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
Row = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class VectorStatistics:
    """Per dimension. std is the population's (ddof 0), quantiles are interpolated linearly. A row that a published file
    does not have is None; asking for it is an error."""

    mean: Row
    std: Row
    min: Row | None = None
    max: Row | None = None
    q01: Row | None = None
    q99: Row | None = None
    mask: tuple[bool, ...] | None = None
    """OpenVLA's files say which dimensions are normalised. None: all of them."""

    @property
    def width(self) -> int:
        return len(self.mean)

    def normalizer(self, kind: Kind, *, mask: tuple[bool, ...] | None = None) -> Normalizer:
        """`mask` False leaves a dimension alone; None: the statistics' own, if any. Quantiles are clipped, and what
        never changed is constant."""
        low, high = self.ends(kind)
        least, most = (self.min, self.max) if self.min and self.max else (low, high)
        still = tuple(a == b or lo == hi for a, b, lo, hi in zip(least, most, low, high, strict=True))
        used = mask or self.mask or (True,) * self.width
        return Normalizer(kind=kind, low=low, high=high, constant=still, mask=used, clip=kind == "quantiles")

    def ends(self, kind: Kind) -> tuple[Row, Row]:
        """Which two rows a normalisation of this kind uses as its low and its high."""
        low, high = {
            "mean_std": (self.mean, tuple(m + s for m, s in zip(self.mean, self.std, strict=True))),
            "bounds": (self.min, self.max),
            "quantiles": (self.q01, self.q99),
        }[kind]
        if low is None or high is None:
            raise UserError(
                f"The statistics cannot normalise by {kind}.",
                why="they have no " + {"bounds": "min and max", "quantiles": "q01 and q99"}[kind],
                fix="compute them from the demonstrations, or use another kind of normalisation",
            )
        return low, high


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of one set of demonstrations, in the demonstrations' own units."""

    action: VectorStatistics
    proprio: VectorStatistics
    episodes: int | None = None
    """None: the published file does not say."""
    steps: int | None = None

    def to_json(self) -> dict[str, Any]:
        """What is not known is left out."""
        found = {
            "action": _known(to_plain(self.action)),
            "proprio": _known(to_plain(self.proprio)),
            "num_trajectories": self.episodes,
            "num_transitions": self.steps,
        }
        return _known(found)

    @staticmethod
    def from_json(value: Any, *, what: str = "the dataset statistics") -> Statistics:
        """Checked: mean and std at least, rows of one length, finite, q01 not above q99."""
        if not isinstance(value, Mapping):
            raise _bad(what, f"expected an object, found {value!r:.80}")
        if missing := {"action", "proprio"} - set(value):
            raise _bad(what, f"no {min(missing)}")
        counts = [value.get(name) for name in ("num_trajectories", "num_transitions")]
        if bad := [count for count in counts if count is not None and type(count) is not int]:
            raise _bad(what, f"{bad[0]!r:.80} is not a number of episodes or steps")
        return Statistics(
            action=_vector(value["action"], f"{what}: action"),
            proprio=_vector(value["proprio"], f"{what}: proprio"),
            episodes=counts[0],
            steps=counts[1],
        )


def unmeasured(action_width: int, proprio_width: int) -> Statistics:
    """Numbers stay as they are. For a checkpoint that is read to be fine-tuned: what it was trained on before does not
    matter, and its own statistics are of other robots, many of them, or of none."""

    def plain(width: int) -> VectorStatistics:
        zeros, ones, minus = ((x,) * width for x in (0.0, 1.0, -1.0))
        return VectorStatistics(mean=zeros, std=ones, min=minus, max=ones, q01=minus, q99=ones)

    return Statistics(action=plain(action_width), proprio=plain(proprio_width))


def from_norm_stats(value: Any, *, what: str = "openpi's norm_stats.json") -> Statistics:
    """openpi's file: `{"norm_stats": {"state": {mean, std, q01, q99}, "actions": {...}}}`; the quantiles may be
    absent."""
    inner = value.get("norm_stats") if isinstance(value, Mapping) else None
    if not isinstance(inner, Mapping):
        raise _bad(what, "it has no 'norm_stats' object")
    if missing := {"actions", "state"} - set(inner):
        raise _bad(what, f"no {min(missing)}; it has {', '.join(sorted(map(str, inner))) or 'nothing'}")
    return Statistics(
        action=_vector(inner["actions"], f"{what}: actions"), proprio=_vector(inner["state"], f"{what}: state")
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
    rows: dict[str, Row] = {}
    for name in NAMES:
        row = value.get(name)
        if row is None and name not in ("mean", "std"):
            continue
        if not isinstance(row, list) or not row or not all(type(x) in (int, float) and math.isfinite(x) for x in row):
            raise _bad(what, f"{name} is missing or not a list of finite numbers")
        rows[name] = tuple(float(x) for x in row)
    mask = value.get("mask")
    if mask is not None and (not isinstance(mask, list) or not all(type(x) is bool for x in mask)):
        raise _bad(what, "mask is not a list of true and false")
    lengths = {name: len(row) for name, row in [*rows.items(), *([("mask", mask)] if mask is not None else [])]}
    if len(set(lengths.values())) != 1:
        raise _bad(what, "lengths differ: " + ", ".join(f"{name} {length}" for name, length in lengths.items()))
    if min(rows["std"]) < 0:
        raise _bad(what, f"std {min(rows['std'])} is below 0")
    for below, above in (("q01", "q99"), ("min", "max")):
        if (below in rows) != (above in rows):
            raise _bad(what, f"it has one of {below} and {above}")
        for index, (low, high) in enumerate(zip(rows.get(below, ()), rows.get(above, ()), strict=True)):
            if low > high:
                raise _bad(what, f"{below} {low} is above {above} {high} in dimension {index}")
    return VectorStatistics(**rows, mask=None if mask is None else tuple(mask))


def _known(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in value.items() if part is not None}


def _bad(what: str, why: str) -> UserError:
    return UserError(f"{what} cannot be used.", why=why, fix="compute the statistics again from the demonstrations")
