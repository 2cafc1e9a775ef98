"""What the published LIBERO sets hold, so that a half-finished download is noticed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Known:
    """One published set, or one suite of it."""

    name: str
    tasks: int
    episodes: int
    steps: int | None
    source: str


SUITES: Mapping[str, int] = {
    "libero_spatial": 10,
    "libero_object": 10,
    "libero_goal": 10,
    "libero_10": 10,
    "libero_90": 90,
}
"""Suite -> tasks."""

DEMOS_PER_TASK = 50
"""Raw files (LIBERO scripts/create_dataset.py; 50 human demonstrations of every task)."""

NO_NOOPS: Mapping[str, int] = {
    "libero_spatial": 432,
    "libero_object": 454,
    "libero_goal": 428,
    "libero_10": 379,
}
"""Episodes left after regeneration (openvla experiments/robot/libero/regenerate_libero_dataset.py drops no-ops and
demonstrations whose replay fails); the same in openvla/modified_libero_rlds and the LeRobot copies."""

ALL_FOUR = Known(
    name="the four suites without no-ops",
    tasks=40,
    episodes=1_693,
    steps=273_465,
    source="physical-intelligence/libero meta/info.json",
)

LONGEST: Mapping[str, int] = {
    "libero_spatial": 193,
    "libero_object": 254,
    "libero_goal": 270,
    "libero_10": 505,
    "libero_90": 373,
}
"""Steps of the longest demonstration without no-ops (openvla experiments/robot/libero/run_libero_eval.py)."""


def raw(suite: str) -> Known:
    tasks = SUITES[suite]
    return Known(
        name=f"{suite}, raw",
        tasks=tasks,
        episodes=tasks * DEMOS_PER_TASK,
        steps=None,
        source="LIBERO scripts/create_dataset.py",
    )


def no_noops(suite: str) -> Known | None:
    if suite not in NO_NOOPS:
        return None
    return Known(
        name=f"{suite}, without no-ops",
        tasks=SUITES[suite],
        episodes=NO_NOOPS[suite],
        steps=None,
        source="openvla/modified_libero_rlds",
    )
