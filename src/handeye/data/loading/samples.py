"""Demonstrations -> samples: what was seen at a step, and the actions that follow, as the model's input and targets.

Array names of a batch: those of `Pipeline.encode_frames`, and `actions` (B, T, A), `valid` bool (B, T).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Integer

from handeye.data.config import Ends, Way
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.loading.frames import Encoder, hold
from handeye.data.loading.index import Index
from handeye.data.pipeline.pipeline import Pipeline


class Samples:
    """One sample for every step that starts a chunk of `chunk` actions. `ends`: which do, and what becomes of chunks
    that reach past the end (index.py)."""

    def __init__(
        self,
        demos: Demonstrations,
        pipeline: Pipeline,
        chunk: int,
        *,
        ends: Ends = "pad",
        frames: Way = "auto",
        memory_gb: float = 4.0,
        cache: Path | None = None,
        share: bool = False,
    ) -> None:
        """`frames` and what follows: where encoded frames are kept (frames.py). The samples are the same to the bit."""
        self.demos, self.pipeline, self.chunk, self.ends = demos, pipeline, chunk, ends
        self.index = Index([ref.length for ref in demos.episodes], chunk, ends)
        self.frames = hold(Encoder(demos, pipeline, self.index), frames, memory_gb=memory_gb, cache=cache, share=share)
        vectors = demos.vectors()
        self._rows = np.array([vectors.firsts[ref.id] for ref in demos.episodes]) - self.index.firsts
        """Per episode: what leads from a row of the index to one of the set's vectors."""

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        return {name: value[0] for name, value in self.batch(np.array([number])).items()}

    def batch(self, numbers: Integer[np.ndarray, "B"]) -> dict[str, np.ndarray]:
        """These samples, not augmented."""
        episodes, rows = self.index.find(numbers)
        rows_BT = rows[:, None] + np.arange(self.chunk)
        stops_B1 = self.index.stops[episodes][:, None]
        inside_BT = np.minimum(rows_BT, stops_B1 - 1) + self._rows[episodes][:, None]
        batch = self.frames.take(episodes, rows)
        actions_BTA = self.demos.vectors().actions[inside_BT]
        batch["actions"] = self.pipeline.targets(actions_BTA, self.proprio(numbers))
        batch["valid"] = rows_BT < stops_B1 if self.ends != "repeat" else np.ones(rows_BT.shape, bool)
        return batch

    def proprio(self, numbers: Integer[np.ndarray, "B"]) -> Float32[np.ndarray, "B S"]:
        """As demonstrated: a pipeline's targets and answers may be relative to it."""
        episodes, rows = self.index.find(numbers)
        return self.demos.vectors().proprio[rows + self._rows[episodes]].astype(np.float32)

    def demonstrated(self) -> tuple[Float64[np.ndarray, "R A"], Float32[np.ndarray, "R S"]]:
        """Actions and proprioception of all steps of these demonstrations, whether they start a sample or not."""
        found = [self.demos.vectors().of(ref) for ref in self.demos.episodes]
        return (
            np.concatenate([actions for actions, _ in found]),
            np.concatenate([proprio for _, proprio in found]).astype(np.float32),
        )
