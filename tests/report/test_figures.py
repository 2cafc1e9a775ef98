"""Drawings hold the numbers they show."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from handeye.evaluate.statistics import wilson
from handeye.report.figures import (
    BAR_WIDTH,
    BOTTOM,
    DASHES,
    EDGE,
    HEIGHT,
    NARROW,
    RUNS,
    TOP,
    Curve,
    axis,
    difference_bar,
    interval_bar,
    key,
    marker,
    success_over_steps,
    ticks,
    zoomed,
)


def share(x: str | None) -> float:
    return (float(x or "nan") - EDGE) / (BAR_WIDTH - 2 * EDGE)


def test_interval_bar_is_drawn_to_scale() -> None:
    drawn = ElementTree.fromstring(interval_bar(0.75, 0.598, 0.858, run=0, label="75 %"))
    circle, interval = drawn.find("circle"), drawn.findall("line")[1]
    assert circle is not None
    assert share(circle.get("cx")) == pytest.approx(0.75, abs=1e-3)
    assert [share(interval.get(end)) for end in ("x1", "x2")] == pytest.approx([0.598, 0.858], abs=1e-3)


def test_a_zoomed_bar_is_cut_at_its_scale() -> None:
    drawn = ElementTree.fromstring(interval_bar(0.95, 0.7, 1.0, run=None, label="", scale=(0.8, 1.0)))
    circle, interval = drawn.find("circle"), drawn.findall("line")[1]
    assert circle is not None
    assert share(circle.get("cx")) == pytest.approx(0.75, abs=1e-3)
    assert share(interval.get("x1")) == 0
    assert re.findall(r">([\d.]+)<", axis((0.8, 1.0))) == ["80", "90", "100"]


@pytest.mark.parametrize(
    ("lows", "start"), [([0.95, 0.91], 0.9), ([0.95, 0.85], 0.8), ([0.51], 0.5), ([0.49, 0.9], 0.0), ([], 0.0)]
)
def test_bars_zoom_in_where_all_are_good(lows: list[float], start: float) -> None:
    assert zoomed(lows) == (start, 1.0)


def test_runs_are_told_apart_without_colour() -> None:
    assert len({marker(run, 0, 0) for run in range(RUNS)}) == RUNS
    assert len(set(DASHES)) == len(DASHES) == RUNS
    assert marker(RUNS, 0, 0) == marker(0, 0, 0)
    for run in range(2 * RUNS):
        ElementTree.fromstring(key(run))


@pytest.mark.parametrize("width", [640, NARROW])
def test_the_curve_ends_at_the_rate(width: int) -> None:
    curves = [
        Curve(label="<a>", run=0, steps=[10, 30, 20], episodes=12),
        Curve(label="b", run=1, steps=[], episodes=0),
    ]
    svg = success_over_steps(curves, horizon=100, width=width)
    drawn = ElementTree.fromstring(svg)
    [line] = re.findall(r'polyline [^>]*points="([^"]*)"', svg)
    heights = [float(point.split(",")[1]) for point in line.split()]
    up = HEIGHT - TOP - BOTTOM
    assert heights[0] == TOP + up
    assert heights[-1] == pytest.approx(TOP + up * 0.75, abs=0.1)
    assert heights == sorted(heights, reverse=True), "it never falls"
    assert drawn.get("viewBox") == f"0 0 {width} {HEIGHT}"
    assert "25.0 % at the end" in str(drawn.get("aria-label"))
    [band] = re.findall(r'polygon class="band" points="([^"]*)"', svg)
    low, high = wilson(3, 12)
    ends = [float(point.split(",")[1]) for point in band.split()[7:9]]
    assert ends == pytest.approx([TOP + up * (1 - high), TOP + up * (1 - low)], abs=0.1)


def test_a_difference_is_drawn_about_zero() -> None:
    svg = difference_bar(0.03, -0.01, 0.07, run=2, margin=0.02, names=("a", "b<"))
    drawn = ElementTree.fromstring(svg)
    middle = float(str(drawn.get("viewBox")).split()[2]) / 2
    [interval] = [line for line in drawn.iter("line") if line.get("class") == "interval"]
    right, left = float(interval.get("x2", "")) - middle, middle - float(interval.get("x1", ""))
    assert right == pytest.approx(7 * left, abs=0.5)
    rect = drawn.find("rect")
    assert rect is not None and float(rect.get("width", "")) == pytest.approx(4 * left, abs=0.5)
    assert drawn.get("aria-label") == "b< less a: +3.0 points, -1.0 to +7.0"
    assert "<rect" not in difference_bar(0.0, -1.0, 1.0, run=0, margin=None, names=("a", "b"))


@pytest.mark.parametrize(("horizon", "width"), [(40, 10), (220, 50), (520, 100), (5, 1)])
def test_ticks_are_round_and_few(horizon: int, width: int) -> None:
    found = ticks(horizon)
    assert found[1] == width
    assert len(found) <= 7
