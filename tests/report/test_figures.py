"""Drawings hold the numbers they show."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from handeye.evaluate.statistics import rate
from handeye.report.figures import BAR_WIDTH, BOTTOM, HEIGHT, TOP, Curve, _ticks, interval_bar, success_over_steps


def test_interval_bar_is_drawn_to_scale() -> None:
    drawn = ElementTree.fromstring(interval_bar(rate(30, 40)))
    circle, interval = drawn.find("circle"), drawn.findall("line")[1]
    assert circle is not None
    assert float(circle.get("cx", "")) == pytest.approx(4 + 0.75 * (BAR_WIDTH - 8))
    low, high = float(interval.get("x1", "")), float(interval.get("x2", ""))
    assert [(x - 4) / (BAR_WIDTH - 8) for x in (low, high)] == pytest.approx([0.598, 0.858], abs=2e-3)
    assert interval_bar(rate(0, 0)) == ""


def test_the_curve_ends_at_the_rate() -> None:
    curves = [Curve(label="a", steps=[10, 30, 20], episodes=4), Curve(label="b", steps=[], episodes=0)]
    svg = success_over_steps(curves, horizon=100)
    drawn = ElementTree.fromstring(svg)
    [line] = re.findall(r'polyline points="([^"]*)"', svg)
    heights = [float(point.split(",")[1]) for point in line.split()]
    up = HEIGHT - TOP - BOTTOM
    assert heights[0] == TOP + up
    assert heights[-1] == pytest.approx(TOP + up * 0.25, abs=0.1)
    assert heights == sorted(heights, reverse=True), "it never falls"
    assert drawn.tag == "svg"


@pytest.mark.parametrize(("horizon", "width"), [(40, 10), (220, 50), (520, 100), (5, 1)])
def test_ticks_are_round_and_few(horizon: int, width: int) -> None:
    ticks = _ticks(horizon)
    assert ticks[1] == width
    assert len(ticks) <= 7
