"""Checkpoints in every layout that `handeye evaluate` takes: loaded up to their numbers, by the code that would load
them."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from handeye.checkpoints import load as ours
from handeye.checkpoints import manifest as manifests
from handeye.checkpoints import published
from handeye.checkpoints.adapters import CONFIG as ADAPTER_CONFIG
from handeye.checkpoints.adapters import WEIGHTS as ADAPTER_WEIGHTS
from handeye.checkpoints.adapters import read_adapter
from handeye.checkpoints.inspect.report import Report
from handeye.checkpoints.inspect.weights import (
    Weights,
    backbones,
    described,
    of_file,
    of_orbax,
    of_safetensors,
    unpublished,
)
from handeye.checkpoints.layouts import openvla
from handeye.checkpoints.manifest import Answering, Manifest
from handeye.checkpoints.orbax import ITEM, is_orbax
from handeye.checkpoints.partial import mark
from handeye.conventions.spec import Specs
from handeye.errors import UserError

SMALL = 2 << 30
"""Bytes of a checkpoint of ours whose digests are compared without being asked for: some ten seconds."""

LACKS = re.compile(r" has no | is incomplete|does not exist| has several | has the statistics of | has two sets of ")
ABSENT = re.compile(r" is missing|^missing: |No such file")
"""In an error: something is not there, or has to be said, and what is there may be sound."""

PROTOCOLS = {"openvla": "openvla-2024", "openvla_oft": "oft-2025", "pi05": "openpi-2025"}
"""Family -> the protocol of its published numbers."""


def layout_of(path: Path) -> str:
    """`handeye` for ours; "" where nobody recognises it."""
    from importlib import import_module

    if (path / manifests.FILE).is_file():
        return "handeye"
    for name, module in published.LAYOUTS.items():
        if import_module(module).recognises(path):
            return name
    return ""


def report(path: Path, layout: str, options: Mapping[str, str], *, digests: bool) -> Report:
    """Names, shapes, types, statistics and tokenizer are compared as they would be to evaluate it."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            checkpoint = _read(path, layout, options)
            _undamaged(path, layout, checkpoint.manifest, digests=digests)
    except UserError as error:
        return _refused(path, layout, options, error)
    manifest, model = checkpoint.manifest, checkpoint.model
    address = str(path) + ("#" + ",".join(f"{k}={v}" for k, v in options.items()) if options else "")
    reads = isinstance(manifest, Answering)
    protocol = PROTOCOLS.get(manifest.family, "")
    evaluate = f"handeye evaluate '{address}' --suite libero_spatial" + (f" --protocol {protocol}" if protocol else "")
    specs = getattr(manifest, "specs", None)
    begun = (mark(manifest.provenance.get("partial", [])), *unpublished(_shapes(model)))
    return Report(
        path=str(path),
        verdict="sound",
        what=f"{manifest.family}, {'which answers questions' if reads else 'a policy'}; it would load as it is",
        layout=layout,
        family=manifest.family,
        adapters="merged into the weights" if getattr(manifest, "merged", False) else "none",
        statistics=_statistics(manifest),
        conventions=_conventions(specs) if specs is not None else {},
        notes=tuple(line for line in [*said.getvalue().strip().splitlines(), *begun] if line),
        command=f"handeye evaluate-vqa {address}" if reads else evaluate,
        **_of_model(model, manifest),
    )


def _read(path: Path, layout: str, options: Mapping[str, str]) -> Any:
    if layout == "handeye" and manifests.answers_questions(path):
        return ours.load_reader(path, device="meta")
    return published.load(path, options, device="meta")


def _undamaged(path: Path, layout: str, manifest: Manifest | Answering, *, digests: bool) -> None:
    if layout == "handeye" and (digests or sum(file.bytes for file in manifest.files.values()) < SMALL):
        manifests.verify(path, manifest.files)


def _of_model(model: nn.Module, manifest: Manifest | Answering) -> dict[str, Any]:
    state, types = model.state_dict(), Counter[str]()
    for tensor in state.values():
        types[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    named = [f"named {manifest.config['language']['name']}"] if "name" in _language(manifest) else []
    return {
        "backbones": (*backbones(_shapes(model)), *named),
        "parameters": sum(tensor.numel() for tensor in state.values()),
        "tensors": len(state),
        "types": dict(types),
    }


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _language(manifest: Manifest | Answering) -> Mapping[str, Any]:
    found = manifest.config.get("language")
    return found if isinstance(found, dict) else {}


def _statistics(manifest: Manifest | Answering) -> tuple[str, ...]:
    if not isinstance(manifest, Manifest):
        return ()
    found = manifest.statistics
    key = manifest.provenance.get("statistics") or manifest.provenance.get("asset")
    counts = [f"{found.episodes} episodes"] * (found.episodes is not None)
    rows = [name for name in ("mean", "min", "q01") if getattr(found.action, name) is not None]
    return (", ".join([*([str(key)] if key else []), *counts, f"actions by {', '.join(rows)}"]),)


def _conventions(specs: Specs) -> dict[str, str]:
    image, action = specs.image, specs.action
    return {
        "pictures": f"{' and '.join(image.cameras)}, {image.height} x {image.width}, {image.orientation.name.lower()} "
        "outside the pipeline",
        "actions": f"{action.width} numbers, {action.control}, in [{action.low:g}, {action.high:g}]",
        "gripper": action.gripper.value,
        "state": ", ".join(f"{name} ({width})" for name, width in specs.proprio.parts),
    }


def _refused(path: Path, layout: str, options: Mapping[str, str], error: UserError) -> Report:
    """It is one, and would not load: something is missing, or it is damaged."""
    lacking = bool(LACKS.search(error.what) or ABSENT.search(error.why)) and "does not fit" not in error.what
    told = f"{error.what}{' ' + error.why if error.why else ''}"
    return Report(
        path=str(path),
        verdict="incomplete" if lacking else "broken",
        what=f"a checkpoint in the layout of {layout}, which would not load",
        layout=layout,
        family=_family(path, layout),
        problems=() if lacking else (told,),
        missing=(told,) if lacking else (),
        statistics=_keys(path) if layout == "openvla" else (),
        adapters="apart, in lora_adapter/" if (path / openvla.ADAPTER).is_dir() else "",
        fix=error.fix,
        **_bare(path),
    )


def _family(path: Path, layout: str) -> str:
    """As far as it can be told without loading."""
    if layout == "openvla" and any(path.glob("action_head*checkpoint*")):
        return "openvla_oft"
    return layout if layout in ("openvla", "vggt_vla") else ""


def _bare(path: Path) -> dict[str, Any]:
    """What its weights are, if they can be read at all."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else []
    try:
        if path.is_file():
            found: Weights | None = of_file(path)
        elif is_orbax(path / ITEM) or is_orbax(path):
            found = of_orbax(path / ITEM if is_orbax(path / ITEM) else path)
        else:
            found = of_safetensors(files) if files else None
    except UserError:
        found = None
    return described(found) if found else {}


def _keys(path: Path) -> tuple[str, ...]:
    try:
        value = json.loads((path / openvla.STATISTICS).read_bytes())
    except (OSError, ValueError):
        return ()
    return tuple(map(str, value)) if isinstance(value, dict) else ()


# ---- what is only part of a checkpoint -------------------------------------------------------------------------------


def adapter(path: Path) -> Report:
    """A bare LoRA adapter as peft saves it."""
    if not (path / ADAPTER_WEIGHTS).is_file():
        return Report(
            path=str(path),
            verdict="incomplete",
            what="a LoRA adapter's configuration without its weights",
            layout="peft",
            missing=(f"{ADAPTER_WEIGHTS}",),
            fix="copy the whole folder; an adapter saved as adapter_model.bin must be saved again as safetensors",
        )
    try:
        config = json.loads((path / ADAPTER_CONFIG).read_bytes())
        read = read_adapter(path)
    except (UserError, ValueError) as error:
        return Report(
            path=str(path),
            verdict="broken",
            what="a LoRA adapter that cannot be used",
            layout="peft",
            problems=(str(error).splitlines()[0] if isinstance(error, ValueError) else f"{error.what} {error.why}",),
            fix=getattr(error, "fix", "copy it again"),
        )
    base = config.get("base_model_name_or_path") or "a model that it does not name"
    targets = sorted({module.rpartition(".")[2] for module in read.down})
    return Report(
        path=str(path),
        verdict="incomplete",
        what=f"a LoRA adapter alone, for {base}",
        layout="peft",
        adapters=f"rank {config.get('r')}, alpha {config.get('lora_alpha')}, beside {len(read.down)} modules "
        f"({', '.join(targets)}); not merged",
        missing=(f"the model that it was trained on: {base}", "statistics of its actions", "the model's tokenizer"),
        fix="put it as lora_adapter/ beside config.json, dataset_statistics.json and tokenizer.json of its model",
        command=f"handeye merge {path} BASE OUT",
        **described(of_safetensors([path / ADAPTER_WEIGHTS])),
    )


def several(path: Path) -> Report | None:
    """A folder of checkpoints, such as a run of openpi's with a folder per step."""
    found = [each for each in sorted(path.iterdir()) if each.is_dir() and layout_of(each)]
    if not found:
        return None
    last = max(
        found, key=lambda each: (each.name.isdecimal(), int(each.name) if each.name.isdecimal() else 0, each.name)
    )
    return Report(
        path=str(path),
        verdict="incomplete",
        what=f"a folder of {len(found)} checkpoints ({layout_of(last)})",
        layout=layout_of(last),
        notes=(", ".join(each.name for each in found),),
        missing=("a choice: each of them is a policy",),
        fix="give one of them",
        command=f"handeye inspect {last}",
    )


def backbone(path: Path) -> Report:
    """A folder of weights that is a part of policies and none itself: a language model, VGGT, PaliGemma."""
    weights = of_safetensors(sorted(path.glob("*.safetensors")))
    config = path / "config.json"
    try:
        kind = json.loads(config.read_bytes()).get("model_type", "") if config.is_file() else ""
    except (ValueError, AttributeError):
        kind = ""
    return Report(
        path=str(path),
        verdict="unknown",
        what=f"weights of {kind or 'something'} in {len(weights.shapes)} tensors: no policy that is read here",
        layout="transformers" if kind else "safetensors",
        missing=("an action head, statistics of actions, and a configuration of a family here",),
        fix="give the policy's own folder; a backbone is where training starts (`handeye train --help`)",
        **described(weights),
    )
