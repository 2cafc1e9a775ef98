from __future__ import annotations

import numpy as np
import pytest

from handeye.conventions.prompt import (
    byte_ids,
    openpi_state_text,
    openpi_text,
    openvla_text,
    plain_text,
    sentence_of_name,
    state_bins,
)
from handeye.errors import UserError


def test_plain_text() -> None:
    assert plain_text("  Put the\tBOWL \n on  the plate ") == "put the bowl on the plate"


def test_byte_ids_pad_with_zero() -> None:
    ids = byte_ids("ab", 4)
    assert ids.tolist() == [98, 99, 0, 0]
    assert bytes(i - 1 for i in byte_ids("päd", 8) if i).decode() == "päd"


@pytest.mark.parametrize("text", ["", "abcde", "ääa"])
def test_nothing_is_cut(text: str) -> None:
    with pytest.raises(UserError, match=f"has {len(text.encode())} bytes"):
        byte_ids(text, 4)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pick_up_the_black_bowl", "pick up the black bowl"),
        ("KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it", "turn on the stove and put the moka pot on it"),
        ("LIVING_ROOM_SCENE10_open_the_drawer", "open the drawer"),
        ("demo", None),
        ("", None),
        ("__", None),
    ],
)
def test_sentence_of_name(name: str, sentence: str | None) -> None:
    assert sentence_of_name(name) == sentence


def test_what_openvla_reads() -> None:
    assert openvla_text("Put the Bowl") == "In: What action should the robot take to put the bowl?\nOut:"


def test_what_openpi_reads() -> None:
    assert openpi_text("  turn_on the\nStove ") == "turn on the Stove"
    bins = state_bins(np.array([-1.0, 0.0, 0.999]))
    assert openpi_state_text("turn_on it", bins) == "Task: turn on it, State: 0 128 255;\nAction: "


def test_bins_of_the_state() -> None:
    """Below -1 it is -1, as openpi has it; above 1 the last bin."""
    assert state_bins(np.array([-1.5, -1.0, -0.9999, 0.0, 1.0, 9.0])).tolist() == [-1, 0, 0, 128, 255, 255]
