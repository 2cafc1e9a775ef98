"""The statistics that LeRobot keeps beside its data, computed as its library does, so that the files come out equal.

The definition is its own (lerobot 0.3.3 for versions 2, 0.4.4 for version 3, datasets/compute_stats.py): pictures are
sampled; version 3 estimates quantiles of an episode from a histogram of 5,000 bins, and averages them over episodes.
Exact ones are in `handeye.data.statistics`. One thing differs on purpose: lerobot 0.4.4 squares pictures as uint8; that
overflows and makes the standard deviation of every episode's pictures 0. Ours is the true one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

Stats = dict[str, np.ndarray]
"""min, max, mean, std, count, and for version 3 the quantiles, of one column."""

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
NAMES = tuple(f"q{round(100 * quantile):02d}" for quantile in QUANTILES)
BINS = 5000

FEWEST, MOST_SAMPLED, POWER = 100, 10_000, 0.75
"""Pictures sampled of an episode: its length to this power within these limits, but not more than there are."""

LARGE, SHRUNK = 300, 150
"""Pictures with a side of `LARGE` or more are thinned to about `SHRUNK`."""


def sampled(length: int) -> list[int]:
    """Steps of an episode whose pictures count."""
    number = max(min(FEWEST, length), min(int(length**POWER), MOST_SAMPLED))
    return np.round(np.linspace(0, length - 1, number)).astype(int).tolist()


def of_pictures(frames: UInt8[np.ndarray, "n h w 3"], *, quantiles: bool) -> Stats:
    """Of the sampled pictures of a camera, per channel, in [0, 1], shaped (3, 1, 1)."""
    height, width = frames.shape[1:3]
    if max(height, width) >= LARGE:
        thin = int((width if width > height else height) / SHRUNK)
        frames = frames[:, ::thin, ::thin]
    channels = np.ascontiguousarray(frames.transpose(0, 3, 1, 2))  # the library's order of summation
    axes = (0, 2, 3)
    found: Stats = {
        "min": channels.min(axes, keepdims=True)[0] / 255.0,
        "max": channels.max(axes, keepdims=True)[0] / 255.0,
        "mean": channels.mean(axes, keepdims=True)[0] / 255.0,
        "std": channels.std(axes, keepdims=True)[0] / 255.0,
        "count": np.array([len(frames)]),
    }
    if quantiles:
        per_channel = []
        for channel in range(3):
            counts = np.bincount(channels[:, channel].reshape(-1), minlength=256)
            levels = np.flatnonzero(counts)
            per_channel.append(_quantiles(levels, counts[levels]))
        found |= {name: np.array([q[k] for q in per_channel]).reshape(3, 1, 1) / 255.0 for k, name in enumerate(NAMES)}
    return found


def of_numbers(values: np.ndarray, *, quantiles: bool) -> Stats:
    """Of a column with a number or a vector per row, in its own precision: shaped (width,)."""
    rows = values.reshape(len(values), -1)
    found: Stats = {
        "min": rows.min(0),
        "max": rows.max(0),
        "mean": rows.mean(0),
        "std": rows.std(0),
        "count": np.array([len(rows)]),
    }
    if not quantiles:
        return found
    if len(rows) < 2:
        return found | {name: found["mean"].copy() for name in NAMES}
    # Version 3 takes the difference of squares, which loses digits where a value hardly varies.
    found["std"] = np.sqrt(np.maximum(0, (rows**2).mean(0) - found["mean"] ** 2))
    per_column = [_quantiles(column, np.ones(len(column))) for column in rows.T]
    return found | {name: np.array([q[k] for q in per_column]) for k, name in enumerate(NAMES)}


def _quantiles(values: np.ndarray, counts: np.ndarray) -> list[float]:
    """Of values that occur so many times, from a histogram, linear within a bin; the first bin counts as its lower
    edge. Single precision stays single up to the edges."""
    edges = np.linspace(values.min() - 1e-10, values.max() + 1e-10, BINS + 1)
    reached = np.cumsum(np.histogram(values, bins=edges, weights=counts)[0])
    found = []
    for quantile in QUANTILES:
        target = quantile * counts.sum()
        at = int(np.searchsorted(reached, target))
        if at == 0 or at == BINS:
            found.append(float(edges[at]))
            continue
        inside = reached[at] - reached[at - 1]
        share = (target - reached[at - 1]) / inside if inside else 0.0
        found.append(float(edges[at] + share * (edges[at + 1] - edges[at])))
    return found


def together(parts: Sequence[Mapping[str, Stats]]) -> dict[str, Stats]:
    """Of all parts, column by column. Quantiles are averaged, as the library does."""
    return {name: _merge([part[name] for part in parts]) for name in parts[0]}


def _merge(parts: Sequence[Stats]) -> Stats:
    means = np.stack([part["mean"] for part in parts])
    variances = np.stack([part["std"] ** 2 for part in parts])
    counts = np.stack([part["count"] for part in parts])
    total = counts.sum(axis=0)
    weights = counts.reshape(len(parts), *[1] * (means.ndim - 1))
    mean = (means * weights).sum(axis=0) / total
    variance = ((variances + (means - mean) ** 2) * weights).sum(axis=0) / total
    merged = {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": total,
    }
    for name in NAMES:
        if name in parts[0]:
            merged[name] = (np.stack([part[name] for part in parts]) * weights).sum(axis=0) / total
    return merged
