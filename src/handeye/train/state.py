"""Saves that training goes on from, to the bit. They lie in the folder of a run (folder.py):

runs/NAME/
├── config.json           what was asked, as understood
├── data.json             which demonstrations, by digest
├── provenance.json       versions, machine, command
├── metrics.jsonl
├── checkpoints/step-N/   a checkpoint like any other (but see --no-merge-saves), and training/: the weights that are
│                         trained, before and after averaging, the optimizer, the position in the data
├── best.json             with --keep-best: which of them it is
└── final/                the checkpoint to use; it is there when the run is finished
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from handeye.checkpoints import manifest as manifests
from handeye.checkpoints.files import read_tensors
from handeye.checkpoints.load import check_keys
from handeye.checkpoints.manifest import Manifest, verify
from handeye.checkpoints.save import fill, whole_folder, write_tensors
from handeye.data.loading.batches import Batches
from handeye.records import write_json
from handeye.train.config import TrainConfig
from handeye.train.folder import TENSORS, newest_whole, saves, write_state
from handeye.train.optimizer import Ema
from handeye.train.parallel import World, as_part_of, put, whole

BEST = "best.json"
WITHOUT_CONSEQUENCE = {
    *("out", "data", "keep", "keep_best", "merge_saves", "track"),
    *("frames", "memory_gb", "cache", "loader_workers"),
}
"""Fields that do not change the result. `data` is compared by its content."""


@dataclass
class Training:
    """What changes while training. The schedule and all randomness are functions of the step and need no saving."""

    model: nn.Module
    ema: Ema
    optimizer: torch.optim.Optimizer
    batches: Batches
    world: World = field(default_factory=World)
    step: int = 0
    seconds: float = 0.0
    best: dict[str, Any] | None = None
    """{step, arm_l1} of the best validation that was saved."""


# ---- saves -----------------------------------------------------------------------------------------------------------


def save(
    run: Path,
    training: Training,
    manifest: Manifest,
    *,
    keep: int,
    weights: Callable[[], Mapping[str, Tensor]] | None,
) -> None:
    """The new one is whole before an old one goes. `weights`: of the checkpoint that lies beside the training's state;
    None: there is none. Every process must come here, for each may have a part of the tensors; the first one writes."""
    tensors = _tensors(training)
    content = weights() if weights is not None else None
    if training.world.first:
        with whole_folder(run / "checkpoints" / f"step-{training.step}") as part:
            (part / "training").mkdir()
            write_tensors(part / "training" / TENSORS, tensors)
            state = {
                "step": training.step,
                "seconds": training.seconds,
                "batches": training.batches.state(),
                "best": training.best,
                "checkpoint": content is not None,
            }
            write_state(part, state)
            if content is not None:
                fill(part, manifest, content)
        if training.best:
            write_json(run / BEST, training.best)
        for old in saves(run)[keep:]:
            if not training.best or old.name != f"step-{training.best['step']}":
                shutil.rmtree(old)
    training.world.wait()


def restore(run: Path, training: Training) -> None:
    """From the newest save that is whole; unchanged if there is none. A damaged one is said aloud and passed over."""
    found = newest_whole(run, _check, aloud=training.world.first)
    if found is None:
        return
    save, state = found
    _restore(training, read_tensors([save / "training" / TENSORS]), what=str(save))
    training.batches.restore(state["batches"])
    training.step, training.seconds, training.best = state["step"], state["seconds"], state["best"]


def _check(save: Path, state: Mapping[str, Any]) -> None:
    if state["checkpoint"]:
        verify(save, manifests.read(save).files)


def _tensors(training: Training) -> dict[str, Tensor]:
    """Of what is trained. Frozen weights are the base's, and are read from there again."""
    parameters = training.ema.parameters
    names = {id(parameter): name for name, parameter in parameters.items()}
    tensors = {f"model/{name}": whole(parameter.detach()) for name, parameter in parameters.items()}
    for name, value in training.ema.average.items():
        tensors[f"average/{name}"] = whole(as_part_of(parameters[name], value))
    for parameter, state in training.optimizer.state.items():
        tensors |= {f"optimizer/{names[id(parameter)]}/{key}": whole(tensor) for key, tensor in state.items()}
    return tensors


@torch.no_grad()
def _restore(training: Training, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Copied into what is there, so that memory layouts, which decide the order of sums, stay as they were."""
    parameters = training.ema.parameters
    for side, names in (("model", parameters), ("average", training.ema.average)):
        source = {n.removeprefix(f"{side}/"): t for n, t in tensors.items() if n.startswith(f"{side}/")}
        wanted = {name: str(tuple(parameters[name].shape)) for name in names}
        check_keys(wanted, {name: str(tuple(tensor.shape)) for name, tensor in source.items()}, what=what)
        for name, tensor in source.items():
            if side == "model":
                put(parameters[name].detach(), tensor)
            else:
                put(as_part_of(parameters[name], training.ema.average[name]), tensor)
    for name, parameter in parameters.items():
        start = f"optimizer/{name}/"
        state = {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
        if state:  # a parameter that never had a gradient has none
            training.optimizer.state[parameter] = {
                key: _like(parameter, tensor) if tensor.shape == parameter.shape else tensor
                for key, tensor in state.items()
            }


def _like(parameter: Tensor, tensor: Tensor) -> Tensor:
    made = torch.empty_like(parameter)
    put(made, tensor)
    return made


assert {f.name for f in fields(TrainConfig)} >= WITHOUT_CONSEQUENCE  # a renamed field must not slip through
