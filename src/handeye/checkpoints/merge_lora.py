"""`handeye merge`: a LoRA adapter into its base, once, and measured.

The reference merges in bfloat16, on every process, and nothing stops a second merge or another base (openvla
vla-scripts/finetune.py:320-364, openvla-oft vla-scripts/merge_lora_weights_and_save.py:43-69): the weights then look
right and the policy fails. Here the base is identified as far as anything tells which it was, and the merged model's
answers are compared with those of the adapter beside its base.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handeye.checkpoints import adapters
from handeye.checkpoints import manifest as manifests
from handeye.checkpoints.adapters import Adapter
from handeye.checkpoints.files import read_tensors
from handeye.checkpoints.fixed import EXAMPLES, fixed_batch
from handeye.checkpoints.layouts import openvla as openvla_layout
from handeye.checkpoints.load import Checkpoint
from handeye.checkpoints.manifest import Manifest
from handeye.checkpoints.merge_lora_config import MergeLoraConfig
from handeye.checkpoints.published import load
from handeye.checkpoints.save import save
from handeye.compute.attention import relative_error, short_states
from handeye.console import say, warn
from handeye.errors import UserError
from handeye.models.openvla import spoken_value
from handeye.records import provenance, sha256_file, sha256_json

STATE = "training/state.json"
"""In a save of a run of ours."""

PLACES = ("adapter", openvla_layout.ADAPTER)
"""Where a run's folder has its adapter: ours, the reference's."""


@dataclass(frozen=True)
class Outputs:
    """To the fixed batch."""

    answers: Tensor
    """Normalised actions, float32; tokens by what they stand for."""

    states: Tensor | None
    """Of the language model, to a short input; None where the family has none to show."""


def run(config: MergeLoraConfig, base_folder: Path, options: Mapping[str, str]) -> None:
    """`config.base`, taken apart: its folder, and what is said of it."""
    folder, run_folder = find(config.adapter)
    adapter = adapters.read_adapter(folder)
    digest = sha256_file(folder / adapters.WEIGHTS)
    if (base_folder / "final").is_dir():
        base_folder = base_folder / "final"
    base = _base(run_folder, base_folder, options)
    _refuse_second_merge(base, base_folder, digest, config)
    _refuse_foreign_base(base, base_folder, folder)
    trained = _trained(run_folder, base, base_folder, adapter)
    state = {name: tensor.detach() for name, tensor in base.model.state_dict().items()}
    weights = adapters.merged(state, adapter, what=str(folder))
    batch = fixed_batch(base.manifest)
    plain = outputs(base.model, batch)
    with beside(base.model, adapter):
        apart = outputs(base.model, batch)
    base.model.load_state_dict(weights, assign=True)
    together = outputs(base.model, batch)
    rounding, effect = difference(apart, together), difference(plain, together)
    if not any(effect.values()):
        raise UserError(
            f"The adapter {folder} changes nothing.",
            why="the fixed batch is answered the same with it and without it, to the bit",
            fix="give the adapter that training saved, not a fresh one",
        )
    told = {
        "adapter": {"sha256": digest, "scales": sorted({*adapter.scale.values()}), "modules": len(adapter.down)},
        "base": {"manifest": sha256_json(base.manifest.to_json()), "family": base.manifest.family},
        "examples": EXAMPLES,
        "largest_difference": rounding,
        "effect": effect,
        **provenance(("torch",)),
    }
    merges = [*base.manifest.provenance.get("merges", ()), told]
    save(config.out, _manifest(base.manifest, trained, merges), weights)
    say(
        f"{config.out}: {len(adapter.down)} of {len(weights)} tensors changed. On {EXAMPLES} fixed examples the "
        f"adapter changes {_said(effect)}; that it is merged, no longer beside its base, {_said(rounding)}"
    )


def _said(found: Mapping[str, float]) -> str:
    states = f", the language model's states by {found['states']:.2g} of their norm" if "states" in found else ""
    return f"normalised actions by up to {found['answers']:.3g}{states}"


def find(path: Path) -> tuple[Path, Path | None]:
    """(the adapter's folder, the folder of the run that it belongs to, as far as there is one)."""
    if (path / adapters.CONFIG).is_file():
        run_folder = path.parent if path.name in PLACES else None
        return path, run_folder
    for name in PLACES:
        if (path / name / adapters.CONFIG).is_file():
            return path / name, path
    if (path / STATE).is_file():
        raise UserError(
            f"{path} is where a run goes on from.",
            why="its adapter is among what training needs, beside modules that were trained whole",
            fix=f"use {path.parent.parent / 'final'}, the run's end, which is merged; with --merge-saves every save is",
        )
    raise UserError(
        f"{path} holds no adapter.",
        why=f"no {adapters.CONFIG}, neither in it nor in {' or '.join(PLACES)} in it",
        fix="give the folder that peft or `handeye train --lora-rank` wrote",
    )


def _base(run_folder: Path | None, base_folder: Path, options: Mapping[str, str]) -> Checkpoint:
    """What the adapter is added to: the base, with the heads of a run of the reference's that has any. A run of ours
    brings its own statistics, and recorded its base as one to fine-tune."""
    if run_folder is not None and (run_folder / "final" / manifests.FILE).is_file():
        return load(base_folder, options, to_fine_tune=True)
    if run_folder is None or not openvla_layout.recognises(run_folder) or not openvla_layout.components(run_folder):
        return load(base_folder, options)
    if not openvla_layout.recognises(base_folder):
        raise UserError(
            f"{run_folder} is a run of the reference's, {base_folder} is not one of its checkpoints.",
            why="its heads and its statistics are read with a base in the same layout",
            fix="give the published folder, or `handeye convert --to openvla` first",
        )
    return openvla_layout.load(run_folder, {**options, "base": str(base_folder)}, apart=True)


# ---- what is refused -------------------------------------------------------------------------------------------------


def _refuse_second_merge(base: Checkpoint, base_folder: Path, digest: str, config: MergeLoraConfig) -> None:
    seen = {each["adapter"]["sha256"] for each in base.manifest.provenance.get("merges", ())}
    lying = base_folder / openvla_layout.ADAPTER / adapters.WEIGHTS
    seen |= {sha256_file(lying)} if lying.is_file() else set()
    if digest in seen:
        raise UserError(
            f"This adapter is in {base_folder} already.",
            why="its digest is that of an adapter that was merged there; once more would count it twice",
            fix="use that checkpoint as it is, or give the base from before",
        )
    merged = base.manifest.merged or lying.is_file()
    if merged and not config.onto_merged:
        raise UserError(
            f"{base_folder} has an adapter merged into it.",
            why="an adapter belongs to the weights that it was trained on, and those are rarely a merge",
            fix="give the base from before; or, if it was trained on this merge, say --onto-merged",
        )


def _refuse_foreign_base(base: Checkpoint, base_folder: Path, folder: Path) -> None:
    """By the copies of its base's weights that an adapter may carry. Names and shapes are compared while merging."""
    state = base.model.state_dict()
    for name, copy in read_tensors([folder / adapters.WEIGHTS]).items():
        module = name.removeprefix(adapters.PREFIX)
        if not module.endswith(".base_layer.weight"):
            continue
        own = state.get(module.replace(".base_layer.", "."))
        if own is None or own.shape != copy.shape or not torch.equal(own.to(copy.dtype), copy):
            raise _foreign(folder, base_folder, f"the adapter carries a copy of its base's {module}, which is another")


def _trained(run_folder: Path | None, base: Checkpoint, base_folder: Path, adapter: Adapter) -> Manifest | None:
    """What a run of ours says of its end, if it is one: compared with the base that it recorded, and with the weights
    that it left alone."""
    final = run_folder and run_folder / "final"
    if not final or not (final / manifests.FILE).is_file():
        if run_folder is None or not openvla_layout.recognises(run_folder):
            warn("statistics and pipeline are the base's: right only if the adapter was trained with the same")
        return None
    trained = manifests.read(final)
    if trained.family != base.manifest.family:
        raise _more(final, f"it made a {trained.family} out of {base.manifest.family}")
    recorded = (trained.provenance.get("base") or {}).get("manifest")
    if recorded not in (None, sha256_json(base.manifest.to_json())):
        why = "the run recorded another base, or the same one read with other options (#name=value)"
        raise _foreign(run_folder or final, base_folder, why)
    state = base.model.state_dict()
    tensors = read_tensors([final / name for name in trained.files if name.endswith(".safetensors")])
    for name, tensor in tensors.items():
        if name.removesuffix(".weight") not in adapter.down and not torch.equal(state[name].to(tensor.dtype), tensor):
            raise _more(final, f"{name} is another there than in {base_folder}")
    return trained


def _manifest(base: Manifest, trained: Manifest | None, merges: list[dict[str, Any]]) -> Manifest:
    """A run's own pipeline, statistics and record of what it was trained on; else the base's pipeline and statistics,
    and nothing of what the base was trained on, which does not hold for the adapter."""
    if trained is not None:
        provenance = {**trained.provenance, "merges": merges}
        return replace(trained, config=base.config, merged=True, provenance=provenance)
    kept = {name: value for name, value in base.provenance.items() if name not in ("training", "data", "base")}
    return replace(base, merged=True, provenance={**kept, "merges": merges})


def _more(final: Path, why: str) -> UserError:
    return UserError(
        "This run trained more than its adapter.",
        why=f"{why}: what is new is not in the adapter",
        fix=f"use {final}, in which all of it is merged",
    )


def _foreign(folder: Path, base_folder: Path, why: str) -> UserError:
    return UserError(
        f"The adapter {folder} was not trained on {base_folder}.",
        why=why,
        fix="give the checkpoint that it was trained on, as in training",
    )


# ---- what is measured ------------------------------------------------------------------------------------------------


@contextmanager
def beside(model: nn.Module, adapter: Adapter) -> Iterator[None]:
    """The model computes with the adapter beside its weights, as while it was trained."""
    hooks = []
    try:
        for name, down in adapter.down.items():
            added = _added(down, adapter.up[name], adapter.scale[name])
            hooks.append(model.get_submodule(name).register_forward_hook(added))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _added(down: Tensor, up: Tensor, scale: float) -> Any:
    """In single precision, and added before anything is rounded but the layer's own answer."""

    def add(module: Any, given: tuple[Tensor, ...], answer: Tensor) -> Tensor:
        if isinstance(module, nn.Conv2d):
            narrow = F.conv2d(given[0].float(), down.float(), stride=module.stride, padding=module.padding)
            change = F.conv2d(narrow, up.float())
        else:
            change = F.linear(F.linear(given[0].float(), down.float()), up.float())
        return (answer.float() + scale * change).to(answer.dtype)

    return add


@torch.no_grad()
def outputs(model: Any, batch: Mapping[str, Tensor]) -> Outputs:
    answers = model.sample_actions(dict(batch))
    states = short_states(model, torch.device("cpu"))
    return Outputs(answers.float() if answers.is_floating_point() else spoken_value(answers), states)


def difference(one: Outputs, other: Outputs) -> dict[str, float]:
    """`answers`: the largest, in normalised actions; `states`: relative to their norm."""
    found = {"answers": float((one.answers - other.answers).abs().max())}
    if one.states is not None and other.states is not None:
        found["states"] = relative_error(other.states, one.states)
    return found
