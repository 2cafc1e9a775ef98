"""Normalisation, forward and inverse together, per dimension.

Three kinds: `mean_std` (z-score), `bounds` (min and max to -1 and 1), `quantiles` (q01 and q99 to -1 and 1, clipped).
A dimension that never changed in the data is 0 forward and its one value backward; a dimension outside `mask` (the
gripper of OpenVLA's data) passes through untouched in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from handeye.errors import UserError

Kind = Literal["mean_std", "bounds", "quantiles"]

EPSILON = 1e-8
"""Added to every range, in both directions (openvla-oft prismatic/vla/datasets/rlds/utils/data_utils.py:67-92)."""


@dataclass(frozen=True, kw_only=True)
class Normalizer:
    """forward: the data's unit -> the model's; inverse: back. Built by `handeye.data.statistics`."""

    kind: Kind
    low: tuple[float, ...]
    """q01 or min; the mean for `mean_std`."""

    high: tuple[float, ...]
    """q99 or max; mean + std for `mean_std`."""

    constant: tuple[bool, ...]
    """The data had one value only, which is `low`."""

    mask: tuple[bool, ...]
    """False: leave this dimension alone."""

    def __post_init__(self) -> None:
        widths = {len(self.low), len(self.high), len(self.constant), len(self.mask)}
        ordered = all(np.isfinite([*self.low, *self.high])) and all(
            lo < hi or c for lo, hi, c in zip(self.low, self.high, self.constant, strict=False)
        )
        if len(widths) != 1 or not ordered:
            raise UserError(
                "The normalisation's statistics are not usable.",
                why=f"low {self.low}, high {self.high}, constant {self.constant}, mask {self.mask}: they must be "
                "finite, of one length, and low below high",
                fix="compute the statistics again from the demonstrations",
            )

    @property
    def width(self) -> int:
        return len(self.low)

    def forward(self, values: Float[np.ndarray, "*n w"]) -> Float[np.ndarray, "*n w"]:
        low, range_, changed, used = self._arrays(values)
        scaled = (values - low) / range_ if self.kind == "mean_std" else 2 * (values - low) / range_ - 1
        if self.kind == "quantiles":
            scaled = np.clip(scaled, -1, 1)
        return np.where(used, np.where(changed, scaled, 0.0), values).astype(values.dtype)

    def inverse(self, values: Float[np.ndarray, "*n w"]) -> Float[np.ndarray, "*n w"]:
        low, range_, changed, used = self._arrays(values)
        unscaled = values * range_ + low if self.kind == "mean_std" else (values + 1) / 2 * range_ + low
        return np.where(used, np.where(changed, unscaled, low), values).astype(values.dtype)

    def _arrays(self, values: np.ndarray) -> Sequence[np.ndarray]:
        """low, range, changed, used; computed in float64 whatever the values' type."""
        if values.shape[-1] != self.width:
            raise UserError(
                f"A vector of width {values.shape[-1]} meets statistics of width {self.width}.",
                fix="use the statistics of this dataset",
            )
        low, high = np.array(self.low), np.array(self.high)
        return low, high - low + EPSILON, ~np.array(self.constant), np.array(self.mask)
