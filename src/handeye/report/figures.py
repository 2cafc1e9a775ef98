"""Drawings as SVG text: they scale, follow the page's light or dark colours, and need no library.

Runs are told apart by colour, by line and by marker: any one of the three will do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from handeye.evaluate.statistics import wilson

RUNS = 6
"""Colours, lines and markers in a row; they repeat after that."""

DASHES = ("", "8 4", "2 3.5", "10 3 2 3", "5 2.5", "1.5 3 6 3")
BAR_WIDTH, BAR_HEIGHT, EDGE = 140, 18, 6
WIDE, NARROW, HEIGHT = 640, 360, 290
LEFT, BOTTOM, TOP, RIGHT = 48, 42, 12, 14
AXIS = 26
"""Height of the axis below a bar."""

Scale = tuple[float, float]
Number = int | float


def marker(run: int, x: Number, y: Number, r: Number = 4.5) -> str:
    """Circle, square, triangle, diamond, triangle on its tip, cross."""
    shape, a, b = run % RUNS, round(r * 0.9, 2), round(r * 1.25, 2)
    if shape == 0:
        return f'<circle cx="{x}" cy="{y}" r="{r}"/>'
    if shape == 1:
        return f'<rect x="{round(x - a, 2)}" y="{round(y - a, 2)}" width="{2 * a}" height="{2 * a}"/>'
    steps = {
        2: [(-b, a), (b, a), (0, -b)],
        3: [(0, -b), (b, 0), (0, b), (-b, 0)],
        4: [(-b, -a), (b, -a), (0, b)],
        5: [(-b, -1), (-1, -1), (-1, -b), (1, -b), (1, -1), (b, -1), (b, 1), (1, 1), (1, b), (-1, b), (-1, 1), (-b, 1)],
    }[shape]
    points = " ".join(f"{round(x + dx, 2)},{round(y + dy, 2)}" for dx, dy in steps)
    return f'<polygon points="{points}"/>'


def key(run: int) -> str:
    """The marker on a piece of line, for legends and headings."""
    return (
        f'<svg class="swatch run{run % RUNS}" viewBox="0 0 30 14" aria-hidden="true">'
        f'<line class="curve" x1="1" x2="29" y1="7" y2="7" stroke-dasharray="{DASHES[run % RUNS]}"/>'
        f"{marker(run, 15, 7)}</svg>"
    )


def interval_bar(
    value: float,
    low: float,
    high: float,
    *,
    run: int | None,
    label: str,
    scale: Scale = (0.0, 1.0),
    width: int = BAR_WIDTH,
) -> str:
    """A value on a line from one end of the scale to the other, its interval as a thick part. `run` None: not ours."""

    def x(part: Number) -> float:
        return round(
            EDGE + (width - 2 * EDGE) * (min(max(part, scale[0]), scale[1]) - scale[0]) / (scale[1] - scale[0]), 1
        )

    middle = BAR_HEIGHT / 2
    colour, shape = ("other", 0) if run is None else (f"run{run % RUNS}", run)
    return (
        f'<svg class="bar {colour}" viewBox="0 0 {width} {BAR_HEIGHT}" role="img" aria-label="{escape(label)}">'
        f'<line class="track" x1="{EDGE}" x2="{width - EDGE}" y1="{middle}" y2="{middle}"/>'
        f'<line class="interval" x1="{x(low)}" x2="{x(high)}" y1="{middle}" y2="{middle}"/>'
        f"{marker(shape, x(value), middle)}</svg>"
    )


def spread_bar(low: float, middle: float, high: float, *, run: int, most: float, label: str) -> str:
    """From the 5th to the 95th percentile, the median marked; all bars of a row end at `most`."""
    return interval_bar(middle, low, high, run=run, label=label, scale=(0.0, most or 1.0))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One run's line."""

    label: str
    run: int
    """Its colour, line and marker."""

    steps: Sequence[int]
    """Of the successful episodes."""

    episodes: int
    """Successful or not; errors left out."""


def success_over_steps(curves: Sequence[Curve], *, horizon: int, width: int = WIDE) -> str:
    """What share of episodes had succeeded after so many steps, with the 95 % Wilson band."""
    across, up = width - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(step: Number) -> float:
        return round(LEFT + across * step / horizon, 1)

    def y(share: Number) -> float:
        return round(TOP + up * (1 - share), 1)

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y(share)}" y2="{y(share)}"/>'
        f'<text x="{LEFT - 8}" y="{y(share) + 4}" text-anchor="end">{round(100 * share)} %</text>'
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    parts += [
        f'<text x="{x(step)}" y="{HEIGHT - BOTTOM + 19}" text-anchor="middle">{step}</text>' for step in ticks(horizon)
    ]
    parts.append(f'<text x="{LEFT + across / 2}" y="{HEIGHT - 4}" text-anchor="middle">steps of the policy</text>')
    for curve in curves:
        if not curve.episodes:
            continue
        points = _staircase(curve.steps, horizon)
        bounds = {count: wilson(count, curve.episodes) for _, count in points}
        upper = [f"{x(step)},{y(bounds[count][1])}" for step, count in points]
        lower = [f"{x(step)},{y(bounds[count][0])}" for step, count in reversed(points)]
        line = " ".join(f"{x(step)},{y(count / curve.episodes)}" for step, count in points)
        # Markers stand apart from each other, so that runs of equal rates can be seen.
        at = [horizon * (part + 0.04 * (curve.run % RUNS)) for part in (0.22, 0.5, 0.78)]
        marks = "".join(marker(curve.run, x(step), y(_reached(curve.steps, step) / curve.episodes)) for step in at)
        parts.append(
            f'<g class="run{curve.run % RUNS}"><title>{escape(curve.label)}</title>'
            f'<polygon class="band" points="{" ".join(upper + lower)}"/>'
            f'<polyline class="curve" stroke-dasharray="{DASHES[curve.run % RUNS]}" points="{line}"/>{marks}</g>'
        )
    ends = "; ".join(f"{c.label}: {100 * len(c.steps) / c.episodes:.1f} % at the end" for c in curves if c.episodes)
    return (
        f'<svg class="chart{" narrow" if width < WIDE else ""}" viewBox="0 0 {width} {HEIGHT}" role="img" '
        f'aria-label="{escape("Share of episodes that had succeeded, by step. " + ends)}">{"".join(parts)}</svg>'
    )


def _reached(steps: Sequence[int], step: Number) -> int:
    return sum(each <= step for each in steps)


def _staircase(steps: Sequence[int], horizon: int) -> list[tuple[int, int]]:
    """Corners (step, successes so far): level until a success, then up."""
    corners, count = [(0, 0)], 0
    for step, more in sorted(Counter(steps).items()):
        corners += [(step, count), (step, count + more)]
        count += more
    return [*corners, (horizon, count)]


def ticks(horizon: int) -> list[int]:
    """About five round numbers from 0 to the horizon."""
    width = next(size for size in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000, horizon) if horizon / size <= 6)
    return list(range(0, horizon + 1, width))


def difference_bar(
    difference: float, low: float, high: float, *, run: int, margin: float | None, names: tuple[str, str]
) -> str:
    """A difference in points and its interval about zero; the margin, where one was named, as a shaded middle."""
    width, height = 460, 64
    most = max(abs(low), abs(high), 1.5 * (margin or 0))
    end = next((size for size in (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0) if size >= most), 1.0)
    middle = 20

    def x(part: Number) -> float:
        return round(width / 2 + (width / 2 - 26) * part / end, 1)

    parts = []
    if margin is not None:
        parts.append(
            f'<rect class="margin" x="{x(-margin)}" width="{round(x(margin) - x(-margin), 1)}" y="2" height="36"/>'
        )
    parts.append(f'<line class="track" x1="{x(-end)}" x2="{x(end)}" y1="{middle}" y2="{middle}"/>')
    parts.append(f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="2" y2="38"/>')
    parts += [
        f'<text x="{x(part)}" y="52" text-anchor="middle">{"0" if part == 0 else f"{100 * part:+g}"}</text>'
        for part in (-end, -end / 2, 0, end / 2, end)
    ]
    parts.append(
        f'<g class="run{run % RUNS}"><line class="interval" x1="{x(low)}" x2="{x(high)}" y1="{middle}" y2="{middle}"/>'
    )
    parts.append(f"{marker(run, x(difference), middle, 5.5)}</g>")
    said = f"{names[1]} less {names[0]}: {100 * difference:+.1f} points, {100 * low:+.1f} to {100 * high:+.1f}"
    head = f'<svg class="difference" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(said)}">'
    return f"{head}{''.join(parts)}</svg>"


def zoomed(lows: Sequence[float]) -> Scale:
    """From a round number below all of these up to 1: good policies differ by little. From 0 if any is below a half."""
    least = min(lows, default=0.0)
    return next((start for start in (0.9, 0.8, 0.5) if start <= least), 0.0), 1.0


def axis(scale: Scale, *, width: int = BAR_WIDTH) -> str:
    """The ends and the middle of a column of bars, in per cent."""
    middle = (scale[0] + scale[1]) / 2
    places = ((scale[0], EDGE, "start"), (middle, width / 2, "middle"), (scale[1], width - EDGE, "end"))
    texts = "".join(f'<text x="{x}" y="11" text-anchor="{anchor}">{100 * part:g}</text>' for part, x, anchor in places)
    return f'<svg class="axis" viewBox="0 0 {width} 14" aria-hidden="true">{texts}</svg>'
