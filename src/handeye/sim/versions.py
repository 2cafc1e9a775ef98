"""Which MuJoCo the numbers are about, and what goes wrong with another."""

from __future__ import annotations

import operator
import re
from functools import cache
from importlib import metadata
from typing import Any

from handeye import console
from handeye.errors import UserError

LOWEST, BELOW = (3, 2, 3), (3, 3, 3)
"""Supported: LOWEST <= version < BELOW. 3.2.3 and 3.3.2 agree to 1e-11 on the reference trajectories."""

TROUBLES = (
    ((0,), LOWEST, "older than 3.2.3: never compared with the reference"),
    ((3, 3, 3), (3, 4, 0), "from 3.3.3 the floor is rendered darker (OpenVLA on LIBERO-Object: 88 % -> 68 %)"),
    (
        (3, 4, 0),
        (99,),
        "from 3.4.0 stored scenes settle differently (the bowl of LIBERO-Spatial task 5 slides off its ramekin: "
        "98 % -> 12 %), and the floor is rendered darker (OpenVLA on LIBERO-Object: 88 % -> 68 %)",
    ),
)
"""(from, below, what happens). Sources: RLinf pull request 1496 and issue 1460; design.md section 4."""


RANGE = re.compile(r"(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+)*)")
COMPARE = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


def installed() -> str:
    """MuJoCo's version, without importing it."""
    try:
        return metadata.version("mujoco")
    except metadata.PackageNotFoundError:
        raise UserError("MuJoCo is not installed.", fix='pip install "handeye[sim]"') from None


def trouble(version: str) -> str:
    """What is wrong with this version; empty if it is supported."""
    numbers = _numbers(version)
    return next((what for low, high, what in TROUBLES if low <= numbers < high), "")


def require_range(wanted: str, *, of: str, allow: bool = False) -> str:
    """`wanted`, as in ">=3.2.3,<3.3.3", is the range that the protocol `of` was run with or may be. Is another version
    installed, it is an error, or with `allow` a warning and the words that results record. Empty if all is well."""
    version = installed()
    numbers = _numbers(version)
    for part in wanted.split(","):
        found = RANGE.fullmatch(part.strip())
        if found is None:
            raise UserError(
                f"The protocol {of} names no range of MuJoCo versions.",
                why=f"its simulator is {wanted!r}",
                fix="write one such as >=3.2.3,<3.3.3 into the protocol's file",
            )
        if not COMPARE[found[1]](numbers, _numbers(found[2])):
            break
    else:
        return ""
    if not allow:
        raise UserError(
            f"MuJoCo {version} is not the simulator of the protocol {of}, which is {wanted}.",
            why="a rate under another simulator is not that protocol's rate",
            fix=f'pip install "mujoco{wanted}"; or --allow-mujoco, which every result will mention',
        )
    said = f"MuJoCo {version} is outside the range of the protocol {of}, {wanted}"
    _warn_once(f"{said}; it was allowed")
    return said


def _numbers(version: str) -> tuple[int, ...]:
    """Three of them: 3.3 is 3.3.0."""
    return tuple(int(part) for part in [*re.findall(r"\d+", version), "0", "0"][:3])


def require(*, allow: bool = False) -> dict[str, Any]:
    """The installed version, as results record it. Outside the range an error, or with `allow` a warning."""
    version = installed()
    problem = trouble(version)
    if problem and not allow:
        raise UserError(
            f"MuJoCo {version} is outside the supported range (>=3.2.3, <3.3.3).",
            why=problem,
            fix='pip install "mujoco==3.3.2"; or --allow-mujoco, which every result will mention',
        )
    if problem:
        _warn_once(f"MuJoCo {version} was allowed although {problem}")
    return {"mujoco": version, "supported": not problem, "trouble": problem}


@cache
def _warn_once(text: str) -> None:
    """Every environment asks; a process says it once."""
    console.warn(text)
