"""Drawings as SVG text: they scale, follow the page's light or dark colours, and need no library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from handeye.evaluate.statistics import Rate, wilson

BAR_WIDTH, BAR_HEIGHT = 120, 16
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 480, 250, 44, 38, 10, 12


def interval_bar(rate: Rate, *, colour: int = 0) -> str:
    """A rate on a line from 0 to 100 %, its interval as a thick part."""
    if not rate.episodes:
        return ""
    x, low, high = (round(4 + (BAR_WIDTH - 8) * part, 1) for part in (rate.value, rate.low, rate.high))
    middle = BAR_HEIGHT / 2
    return (
        f'<svg class="bar line{colour}" viewBox="0 0 {BAR_WIDTH} {BAR_HEIGHT}" role="img" aria-label="{rate}">'
        f'<line class="track" x1="4" x2="{BAR_WIDTH - 4}" y1="{middle}" y2="{middle}"/>'
        f'<line class="interval" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>'
        f'<circle cx="{x}" cy="{middle}" r="4"/></svg>'
    )


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One run's line."""

    label: str
    steps: Sequence[int]
    """Of the successful episodes."""

    episodes: int
    """Successful or not; errors left out."""


def success_over_steps(curves: Sequence[Curve], *, horizon: int) -> str:
    """What share of episodes had succeeded after so many steps, with the 95 % Wilson band."""
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(step: int) -> float:
        return round(LEFT + across * step / horizon, 1)

    def y(share: float) -> float:
        return round(TOP + up * (1 - share), 1)

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(share)}" y2="{y(share)}"/>'
        f'<text x="{LEFT - 6}" y="{y(share) + 4}" text-anchor="end">{round(100 * share)} %</text>'
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    parts += [
        f'<text x="{x(step)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step}</text>' for step in _ticks(horizon)
    ]
    parts.append(f'<text x="{LEFT + across / 2}" y="{HEIGHT - 4}" text-anchor="middle">steps of the policy</text>')
    for number, curve in enumerate(curves):
        if not curve.episodes:
            continue
        points = _staircase(curve.steps, horizon)
        bounds = [(step, wilson(count, curve.episodes)) for step, count in points]
        upper = [f"{x(step)},{y(high)}" for step, (_, high) in bounds]
        lower = [f"{x(step)},{y(low)}" for step, (low, _) in reversed(bounds)]
        line = " ".join(f"{x(step)},{y(count / curve.episodes)}" for step, count in points)
        parts.append(f'<g class="line{number % 6}"><polygon class="band" points="{" ".join(upper + lower)}"/>')
        parts.append(f'<polyline points="{line}"/></g>')
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def _staircase(steps: Sequence[int], horizon: int) -> list[tuple[int, int]]:
    """Corners (step, successes so far): level until a success, then up."""
    corners, count = [(0, 0)], 0
    for step in sorted(steps):
        corners += [(step, count), (step, count + 1)]
        count += 1
    return [*corners, (horizon, count)]


def _ticks(horizon: int) -> list[int]:
    """About five round numbers from 0 to the horizon."""
    width = next(size for size in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000, horizon) if horizon / size <= 6)
    return list(range(0, horizon + 1, width))
