"""What a training run begins with. A family's module here turns a configuration and what is known of the data into it:

begin(config, specs, statistics) -> Begin
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from handeye.checkpoints.backbones import explain
from handeye.checkpoints.load import Checkpoint, check_keys
from handeye.checkpoints.partial import Record, compare
from handeye.checkpoints.published import load
from handeye.conventions.spec import Specs
from handeye.data.pipeline.pipeline import Pipeline
from handeye.data.statistics import Statistics
from handeye.errors import UserError
from handeye.policy.address import folder_and_options
from handeye.records import sha256_json
from handeye.train.config import TrainConfig

FAMILIES = {
    "TinyConfig": "handeye.train.families.tiny",
    "OpenvlaConfig": "handeye.train.families.openvla",
    "OftConfig": "handeye.train.families.openvla",
    "OpenpiConfig": "handeye.train.families.openpi",
    "VggtConfig": "handeye.train.families.vggt_vla",
}
"""By the name of the configuration's class."""


DOWNLOADS = {
    "openvla-7b": "hf download openvla/openvla-7b --local-dir {}",
    "pi0_base": "gsutil -m cp -r gs://openpi-assets/checkpoints/pi0_base {parent}",
    "pi05_base": "gsutil -m cp -r gs://openpi-assets/checkpoints/pi05_base {parent}",
    "pi05_xvr": "handeye merge-vlm checkpoints/pi05_base runs/paligemma_xvr {}",
    "VGGT-1B": "hf download facebook/VGGT-1B --local-dir {}",
    "Qwen3-0.6B-Base": "hf download Qwen/Qwen3-0.6B-Base --local-dir {}",
}
"""What brings the folders that presets start from."""


def require_base(config: TrainConfig) -> None:
    """UserError if what training begins with is not there: before demonstrations are read, which takes minutes."""
    for flag in ("start_from", "vggt", "qwen", "tokenizer"):
        if (given := getattr(config, flag, None)) is None:
            continue
        path = Path(folder_and_options(str(given))[0])
        if path.exists():
            continue
        folder = path if path.name in DOWNLOADS else path.parent
        brings = DOWNLOADS.get(folder.name, "").format(folder, parent=folder.parent)
        raise UserError(
            f"There is nothing at {path}.",
            why="training begins with it",
            fix=(f"{brings}; or " if brings else "") + f"say with --{flag.replace('_', '-')} where it is",
        )


def samples(batch: Mapping[str, Tensor]) -> Tensor:
    return torch.tensor(float(len(batch["actions"])))


def valid_steps(batch: Mapping[str, Tensor]) -> Tensor:
    return batch["valid"].sum().float().cpu()


def spoken_tokens(batch: Mapping[str, Tensor]) -> Tensor:
    """Of models that speak actions: the words of steps that count, and each sample's stop."""
    return valid_steps(batch) * batch["actions"].shape[-1] + samples(batch)


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What of a model that starts from a checkpoint did not come from it."""

    new: Mapping[str, int] = field(default_factory=dict)
    """Tensors that are initialised from the seed, and how many numbers each has. They are trained, adapters or not."""

    partial: Sequence[Record] = ()
    """Those among them that the checkpoint should have had, and those of the checkpoints before it
    (checkpoints/partial.py)."""


@dataclass(frozen=True, kw_only=True)
class Begin:
    """A model with its weights, in single precision unless its family says otherwise, and what training must know."""

    model: nn.Module
    config: Any
    """The family's Config as the checkpoint will have it."""

    pipeline: Pipeline

    weight: Callable[[Mapping[str, Tensor]], Tensor] = valid_steps
    """Over how many terms the loss of a batch is a mean: with it, parts of a batch add up to the whole."""

    targets: Sequence[str] = ()
    """Modules that get an adapter, where there are adapters."""

    whole: Callable[[str], bool] = lambda name: False
    """Parameters that are trained themselves, beside adapters: parts that the base does not have."""

    frozen: Callable[[str], bool] = lambda name: False
    """Parameters that are never trained."""

    blocks: Sequence[nn.Module] = ()
    """What is recomputed on the way back, and what FSDP gathers at once."""

    saved_as: Callable[[str], torch.dtype] = lambda name: torch.float32
    """The type of a weight in the checkpoint."""

    base: Mapping[str, Any] = field(default_factory=dict)
    """What is recorded of the checkpoint that the run started from."""

    filled: Filled = Filled()


def begin(config: TrainConfig, specs: Specs, statistics: Statistics) -> Begin:
    found: Begin = import_module(FAMILIES[type(config).__name__]).begin(config, specs, statistics)
    return found


def read_base(start_from: Path, *, options: Mapping[str, str] | None = None) -> tuple[Checkpoint, dict[str, Any]]:
    """A checkpoint to fine-tune, whole, and what is recorded of it. A run's folder means its `final`."""
    where, given = folder_and_options(str(start_from))
    folder = Path(where)
    if (folder / "final").is_dir():
        folder = folder / "final"
    checkpoint = load(folder, {**(options or {}), **given}, to_fine_tune=True)
    manifest = checkpoint.manifest
    told = {"path": str(start_from), "family": manifest.family, "manifest": sha256_json(manifest.to_json())}
    return checkpoint, told


def require_family(found: str, known: Sequence[str], config: TrainConfig) -> None:
    if found not in known:
        raise UserError(
            f"{config.start_from} is {found}.",
            why=f"this preset is fine-tuned from {' or '.join(known)}",
            fix=f"give a checkpoint of {' or '.join(known)}, or choose another preset",
        )


@torch.no_grad()
def fill(
    model: nn.Module, tensors: Mapping[str, Tensor], *, fresh: Sequence[str], config: TrainConfig, what: str
) -> Filled:
    """A model from `meta`: these tensors, copied and in its own types; parts named by `fresh` that the checkpoint lacks
    are initialised from the seed. Anything else that does not fit is an error, or, with `allow_partial`, is initialised
    as well. Another backbone than the model's is an error in any case."""
    like = model.state_dict()
    wanted = {name: list(tensor.shape) for name, tensor in like.items()}
    found = {name: list(tensor.shape) for name, tensor in tensors.items()}
    record = compare(wanted, found, fresh=fresh, what=what)
    if record and (other := explain(wanted, found)):
        raise UserError(
            f"{what} holds another backbone than the model.",
            why=other,
            fix="give the weights of the backbone that is named, or name the one that they are",
        )
    if record and not config.allow_partial:
        kinds = ({name: str(shape) for name, shape in shapes.items()} for shapes in (wanted, found))
        check_keys(*kinds, what=what, fresh=fresh, or_else="--allow-partial starts with what fits")
    new = {name: tensor.numel() for name, tensor in like.items() if found.get(name) != wanted[name]}
    generator = torch.Generator().manual_seed(config.seed)
    made = {
        name: _fresh(name, tensor, generator) if name in new else tensors[name].to(tensor.dtype, copy=True)
        for name, tensor in like.items()
    }
    model.load_state_dict(made, assign=True)
    return Filled(new=new, partial=[record] if record else [])


def fill_from(model: nn.Module, checkpoint: Checkpoint, config: TrainConfig, *, fresh: Sequence[str] = ()) -> Filled:
    """The same from a checkpoint, which tells what was not loaded into it either."""
    filled = fill(model, checkpoint.model.state_dict(), fresh=fresh, config=config, what=str(config.start_from))
    return replace(filled, partial=[*checkpoint.manifest.provenance.get("partial", []), *filled.partial])


def _fresh(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    """As torch initialises a Linear, and as the reference's heads and FiLM start; norms as the identity."""
    if like.ndim == 1:
        return torch.ones_like(like, device="cpu") if name.endswith("weight") else torch.zeros_like(like, device="cpu")
    bound = like[0].numel() ** -0.5
    drawn = torch.empty(like.shape).uniform_(-bound, bound, generator=generator)
    return drawn.to(like.dtype)
