"""Normalisation, forward and inverse together, per dimension.

Three kinds: `mean_std` (z-score), `bounds` (min and max to -1 and 1), `quantiles` (q01 and q99 to -1 and 1). A
dimension outside `mask` (the gripper of OpenVLA's data) passes through untouched in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64

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
    """The data had one value only, which is `low`: 0 forward, `low` backward (within epsilon). Where such a dimension
    is not declared constant, as in openpi, a value beside `low` is divided by epsilon."""

    mask: tuple[bool, ...]
    """False: leave this dimension alone."""

    clip: bool = False
    """Forward stops at -1 and 1."""

    epsilon: float = EPSILON
    """Added to the range. OpenVLA's own inverse adds none, openpi adds 1e-6."""

    def __post_init__(self) -> None:
        widths = {len(self.low), len(self.high), len(self.constant), len(self.mask)}
        ordered = all(np.isfinite([*self.low, *self.high])) and all(
            lo < hi or (lo == hi and (still or not used or self.epsilon > 0))
            for lo, hi, still, used in zip(self.low, self.high, self.constant, self.mask, strict=False)
        )
        if len(widths) != 1 or not ordered or not 0 <= self.epsilon < 1:
            raise UserError(
                "The normalisation's statistics are not usable.",
                why=f"low {self.low}, high {self.high}, constant {self.constant}, mask {self.mask}, epsilon "
                f"{self.epsilon}: they must be finite, of one length, and low below high",
                fix="compute the statistics again from the demonstrations",
            )

    @property
    def width(self) -> int:
        return len(self.low)

    def forward(self, values: Float[np.ndarray, "*n w"]) -> Float64[np.ndarray, "*n w"]:
        """In double precision, as the statistics are: what comes next may sort the result into bins."""
        low, range_, constant, used = self._arrays(values)
        with np.errstate(divide="ignore", invalid="ignore"):  # only where it is constant, and not looked at
            scaled = (values - low) / range_ if self.kind == "mean_std" else (values - low) / range_ * 2 - 1
        if self.clip:
            scaled = np.clip(scaled, -1, 1)
        return np.where(used, np.where(constant, 0.0, scaled), values).astype(np.float64)

    def inverse(self, values: Float[np.ndarray, "*n w"]) -> Float64[np.ndarray, "*n w"]:
        """In double precision, once the statistics come in: (x + 1) / 2 is in the precision of x, as in the
        references."""
        low, range_, _, used = self._arrays(values)
        unscaled = values * range_ + low if self.kind == "mean_std" else (values + 1) / 2 * range_ + low
        return np.where(used, unscaled, values).astype(np.float64)

    def first(self, width: int) -> Normalizer:
        """Of the first dimensions alone."""
        if not 0 < width <= self.width:
            raise ValueError(f"{width} of {self.width} dimensions")
        names = ("low", "high", "constant", "mask")
        return replace(self, **{name: getattr(self, name)[:width] for name in names})

    def _arrays(self, values: np.ndarray) -> Sequence[np.ndarray]:
        """low, range, constant, used."""
        if values.shape[-1] != self.width:
            raise UserError(
                f"A vector of width {values.shape[-1]} meets statistics of width {self.width}.",
                fix="use the statistics of this dataset",
            )
        low, high = np.array(self.low), np.array(self.high)
        return low, high - low + self.epsilon, np.array(self.constant), np.array(self.mask)
