"""A checkpoint as a policy in this process: what training saved answers, through the pipeline that training used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from handeye.checkpoints.load import Checkpoint, load
from handeye.checkpoints.manifest import FILE, Manifest
from handeye.conventions.spec import Specs
from handeye.types import ActionChunk, EpisodeId, Observation


class LocalPolicy:
    """Observations are answered one at a time with one thread: sums are then ordered the same way whoever else asks, so
    an answer is a function of the observation, to the last bit. A small model loses little by it."""

    def __init__(self, checkpoint: Checkpoint, *, device: str = "cpu") -> None:
        self.manifest: Manifest = checkpoint.manifest
        self.specs: Specs = checkpoint.manifest.specs
        """What it was trained on; compare with the simulator's before asking anything."""

        self.chunk: int = checkpoint.manifest.config["chunk"]
        self._model = checkpoint.model.to(device)
        self._device = device

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        """Nothing is remembered between questions."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        with _one_thread(), torch.inference_mode():
            return [self._answer(observation) for observation in observations]

    def _answer(self, observation: Observation) -> ActionChunk:
        item = self.manifest.pipeline.encode(observation)
        batch = {name: torch.from_numpy(np.ascontiguousarray(v))[None].to(self._device) for name, v in item.items()}
        actions = self._model.sample_actions(batch)[0].float().cpu().numpy()  # type: ignore[operator]
        return ActionChunk(actions=self.manifest.pipeline.decode(actions))


def load_policy(path: Path | str, *, device: str = "cpu") -> LocalPolicy:
    """`path`: a checkpoint, or the folder of a finished run, which means its `final`."""
    folder = Path(path)
    if not (folder / FILE).exists() and (folder / "final").is_dir():
        folder = folder / "final"
    return LocalPolicy(load(folder, device=device), device=device)


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch's thread count is the process's: put it back for whoever trains or evaluates beside us."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
