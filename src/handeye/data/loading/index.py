"""Sample number -> episode and step, for any number of episodes at the cost of a few numbers for each.

What becomes of chunks that reach past the end of their episode:

`pad`:    every step starts a sample; the last action is repeated, and `valid` is False there: losses leave it out.
`repeat`: the same, and the repeated actions count, as openpi trains (LeRobot repeats the last row; openpi's repacking
          drops its `actions_is_pad`: src/openpi/training/config.py).
`drop`:   the last chunk - 1 steps start no sample and are never an input, as openvla-oft trains
          (prismatic/vla/datasets/rlds/traj_transforms.py:25-55, effective_traj_len).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer

from handeye import console
from handeye.data.config import Ends
from handeye.errors import UserError


class Index:
    """Rows are the steps of all episodes, one episode after the other."""

    def __init__(self, lengths: Sequence[int], chunk: int, ends: Ends) -> None:
        self.lengths = np.asarray(lengths, np.int64)
        self.stops = np.cumsum(self.lengths)
        """Per episode: the row after its last."""

        self.firsts = self.stops - self.lengths
        starts = self.lengths if ends != "drop" else np.maximum(self.lengths - (chunk - 1), 0)
        self._until = np.cumsum(starts)
        """Per episode: samples up to its end."""

        self._before = self._until - starts
        if not len(self):
            raise UserError(
                f"No episode is as long as a chunk of {chunk} actions.",
                why=f"the longest has {self.lengths.max()} steps, and chunks that reach past an end are dropped",
                fix="use a shorter --chunk, or --chunk-ends pad",
            )
        if short := int((starts == 0).sum()):
            console.warn(
                f"{short} episodes are shorter than a chunk of {chunk} actions and are left out (chunk ends: drop)"
            )

    def __len__(self) -> int:
        return int(self._until[-1])

    def find(self, samples: Integer[np.ndarray, "B"]) -> tuple[Integer[np.ndarray, "B"], Integer[np.ndarray, "B"]]:
        """Of each sample its episode and its row."""
        episodes = np.searchsorted(self._until, samples, side="right")
        return episodes, self.firsts[episodes] + samples - self._before[episodes]
