"""The rows of one episode, everything but its pictures, checked against what the lists say of it."""

from __future__ import annotations

import numpy as np

from handeye.conventions.libero import ACTION, PROPRIO
from handeye.data.lerobot.index import Index, Place
from handeye.data.lerobot.info import bad
from handeye.data.lerobot.keys import JOINTS
from handeye.data.lerobot.tables import Table, numbers, vectors
from handeye.data.lerobot.video import OFF_BY

LARGEST = 1e9
"""No position or angle comes near it; NaN and infinity are refused by the same comparison."""


def read_rows(index: Index, at: Place, table: Table) -> dict[str, np.ndarray]:
    """Column -> values, in their own precision. UserError where they are not finite, out of range or of another
    episode."""
    info, where = index.info, f"episode {at.number} of {index.info.root}"
    widths = {info.keys.state: PROPRIO.width, info.keys.actions: ACTION.width, JOINTS: 7}
    table.require(info.columns, where)
    rows = table.read(at.row, at.row + at.length, info.columns)
    found = {
        name: vectors(rows, name, widths[name], where) if name in widths else numbers(rows, name, where)
        for name in info.columns
    }
    for name in widths.keys() & found.keys():
        if (odd := np.argwhere(~(np.abs(found[name]) < LARGEST))).size:
            raise bad(where, f"{name}[{odd[0][0]}, {odd[0][1]}] is {found[name][tuple(odd[0])]}")
    actions = found[info.keys.actions]
    if (odd := np.argwhere((actions < ACTION.low) | (actions > ACTION.high))).size:
        said = f"{info.keys.actions}[{odd[0][0]}, {odd[0][1]}] is {actions[tuple(odd[0])]}"
        raise bad(where, f"{said}; LIBERO's actions lie in [{ACTION.low:g}, {ACTION.high:g}]")
    _check_numbers(found, index, at, where)
    return found


def _check_numbers(found: dict[str, np.ndarray], index: Index, at: Place, where: str) -> None:
    """The rows are those of this episode, in order, at the set's rate, and of its task."""
    counted = np.arange(at.length)
    for name, expected in (
        ("frame_index", counted),
        ("episode_index", np.full(at.length, at.number)),
        ("index", at.start + counted),
    ):
        if (odd := np.flatnonzero(found[name] != expected)).size:
            raise bad(where, f"{name} of its row {odd[0]} is {found[name][odd[0]]} instead of {expected[odd[0]]}")
    moments, fps = found["timestamp"], index.info.fps
    if (odd := np.flatnonzero(~(np.abs(moments * fps - counted) < OFF_BY))).size:
        raise bad(where, f"timestamp of its row {odd[0]} is {moments[odd[0]]}; it has {fps:g} rows per second")
    for number in np.unique(found["task_index"]).tolist():
        if (sentence := index.sentences.get(number)) != at.sentence:
            said = "which is not in the list of tasks" if sentence is None else repr(sentence)
            raise bad(where, f"its rows are of task {number}, {said}; the list of episodes says {at.sentence!r}")
