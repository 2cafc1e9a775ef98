from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handeye.errors import UserError
from handeye.sim import libero, suites


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("put_the_bowl_on_the_stove", "put the bowl on the stove"),
        ("KITCHEN_SCENE8_put_both_moka_pots_on_the_stove", "put both moka pots on the stove"),
        ("KITCHEN_SCENE10_close_the_top_drawer_of_the_cabinet", "close the top drawer of the cabinet"),
        ("LIVING_ROOM_SCENE2_pick_up_the_milk", "pick up the milk"),
    ],
)
def test_language_is_the_file_name_without_its_scene(name: str, sentence: str) -> None:
    assert libero.language(name) == sentence


@pytest.mark.libero
def test_all_130_tasks() -> None:
    """29 sentences differ from the task files' own (facts 1.4): policies were trained with the file names."""
    count, other, rows = 0, 0, set()
    for suite in ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"):
        for task in libero.tasks(suite):
            problem, states = libero.problem(task), libero.initial_states(task)
            other += problem.language != task.language
            movable = sum(len(names) for names in problem.objects.values())
            assert states.shape[0] == 50 and states.shape[1] >= 1 + 9 + 9 + 13 * movable
            assert not states[:, 0].any() and np.isfinite(states).all()
            rows.add(states.shape[1])
            count += 1
    assert (count, other) == (130, 29) and len(rows) > 10


def test_without_files_it_says_what_to_type(home: Path) -> None:
    with pytest.raises(UserError, match="handeye fetch libero"):
        suites.tasks("libero_goal")
