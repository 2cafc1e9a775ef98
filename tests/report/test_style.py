"""Colours stay apart for the colour-blind, and text can be read, in light and in dark."""

from __future__ import annotations

import re
from importlib import resources
from itertools import combinations

import numpy as np
import pytest

CSS = (resources.files("handeye.report") / "templates" / "style.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part)) for part in CSS.split("* { box-sizing")[0].split("@media")
)
SEEN = {
    # Full strength, linear RGB (Machado, Oliveira and Fernandes 2009, table 2).
    "everything": np.eye(3),
    "without red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "without green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "without blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])
APART = 20
"""Of CIELAB's units, of which one sees about two side by side; small marks need many more."""


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x = TO_XYZ @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("eyes", SEEN)
@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    "names", [[f"run{i}" for i in range(6)], ["success", "failure", "error"]], ids=["runs", "outcomes"]
)
def test_colours_stay_apart(names: list[str], colours: dict[str, str], eyes: str) -> None:
    seen = {name: lab(SEEN[eyes] @ linear(colours[name])) for name in names}
    near = [pair for pair in combinations(names, 2) if np.linalg.norm(seen[pair[0]] - seen[pair[1]]) < APART]
    assert not near


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read(colours: dict[str, str]) -> None:
    """4.5 to 1 for text, 3 to 1 for marks (WCAG 2)."""
    text = [
        ("ink", "ground"),
        ("ink", "soft"),
        ("ink", "notice"),
        ("faint", "ground"),
        ("faint", "soft"),
        ("link", "ground"),
    ]
    text += [
        ("success", "success-ground"),
        ("failure-ink", "failure"),
        ("failure", "ground"),
        ("notice-edge", "ground"),
    ]
    assert {pair for pair in text if contrast(colours[pair[0]], colours[pair[1]]) < 4.5} == set()
    assert {run for run in range(6) if contrast(colours[f"run{run}"], colours["ground"]) < 3} == set()
