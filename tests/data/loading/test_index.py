from __future__ import annotations

import numpy as np
import pytest

from handeye.data.loading.index import Index
from handeye.errors import UserError

LENGTHS = [5, 2, 9, 3]
CHUNK = 4


@pytest.mark.parametrize("ends", ["pad", "repeat", "drop"])
def test_every_sample_is_found_where_counting_puts_it(ends) -> None:
    expected, row = [], 0
    for episode, length in enumerate(LENGTHS):
        starts = length if ends != "drop" else max(0, length - CHUNK + 1)
        expected += [(episode, row + step) for step in range(starts)]
        row += length
    index = Index(LENGTHS, CHUNK, ends)
    assert len(index) == len(expected)
    episodes, rows = index.find(np.arange(len(index)))
    assert list(zip(episodes.tolist(), rows.tolist(), strict=True)) == expected


def test_the_references_count_of_samples() -> None:
    """libero_spatial without no-ops: 432 episodes, 52,970 steps; openvla-oft trains on 49,946 of them."""
    lengths = np.full(432, 52_970 // 432)
    lengths[: 52_970 % 432] += 1
    assert (len(Index(lengths.tolist(), 8, "pad")), len(Index(lengths.tolist(), 8, "drop"))) == (52_970, 49_946)


def test_what_is_too_short_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Index(LENGTHS, CHUNK, "drop")
    assert "2 episodes are shorter than a chunk of 4 actions" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"No episode is as long as a chunk of 10.*\n.*the longest has 9"):
        Index(LENGTHS, 10, "drop")
