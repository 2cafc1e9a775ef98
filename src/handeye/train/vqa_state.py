"""Saves of a run on questions: the model as a checkpoint like any other, and beside it what training goes on from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from handeye.checkpoints import manifest as manifests
from handeye.checkpoints.files import read_tensors
from handeye.checkpoints.load import check_keys
from handeye.checkpoints.manifest import Answering, verify
from handeye.checkpoints.save import WEIGHTS, fill, whole_folder, write_tensors
from handeye.data.xvr.batches import QuestionBatches
from handeye.train.folder import TENSORS, newest_whole, saves, write_state


@dataclass
class Tuning:
    """What changes while training."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: QuestionBatches
    step: int = 0
    seconds: float = 0.0
    window: list[dict[str, float]] = field(default_factory=list)
    """Loss and norm of the steps since the log's last line: whoever goes on tells the same mean of the next."""


def save(run: Path, tuning: Tuning, manifest: Answering, *, keep: int) -> None:
    """The new one is whole before an old one goes."""
    with whole_folder(run / "checkpoints" / f"step-{tuning.step}") as part:
        (part / "training").mkdir()
        write_tensors(part / "training" / TENSORS, _moments(tuning))
        now = {"step": tuning.step, "seconds": tuning.seconds, "window": tuning.window}
        write_state(part, {**now, "batches": tuning.batches.state()})
        fill(part, manifest, tuning.model.state_dict())
    for old in saves(run)[keep:]:
        shutil.rmtree(old)


def restore(run: Path, tuning: Tuning) -> None:
    """From the newest save that is whole; unchanged if there is none. A damaged one is said aloud and passed over."""
    found = newest_whole(run, lambda save, _: verify(save, manifests.read_answering(save).files), aloud=True)
    if found is None:
        return
    save, state = found
    _fill(tuning, read_tensors([save / WEIGHTS]), read_tensors([save / "training" / TENSORS]), what=str(save))
    tuning.batches.restore(state["batches"])
    tuning.step, tuning.seconds = state["step"], state["seconds"]
    tuning.window = state.get("window", [])  # saves without one came after a line of the log


def _moments(tuning: Tuning) -> dict[str, Tensor]:
    names = {id(p): name for name, p in tuning.model.named_parameters()}
    return {
        f"{names[id(parameter)]}/{key}": tensor
        for parameter, state in tuning.optimizer.state.items()
        for key, tensor in state.items()
        if isinstance(tensor, Tensor)
    }


@torch.no_grad()
def _fill(tuning: Tuning, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor], *, what: str) -> None:
    wanted = {name: str(tuple(tensor.shape)) for name, tensor in tuning.model.state_dict().items()}
    check_keys(wanted, {name: str(tuple(tensor.shape)) for name, tensor in weights.items()}, what=what)
    tuning.model.load_state_dict(dict(weights))
    for name, parameter in tuning.model.named_parameters():
        start = f"{name}/"
        state = {key.removeprefix(start): tensor for key, tensor in moments.items() if key.startswith(start)}
        if state:
            tuning.optimizer.state[parameter] = {
                key: torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
                for key, tensor in state.items()
            }
