"""`handeye merge-vlm` and `handeye extract-vlm`: PaliGemma out of pi0.5, and back under it after it was tuned.

openpi's own way there is forgiving: a wrong prefix merges nothing, a missing expert is replaced by noise, a shape is
not compared, and none of it is an error (openpi training/weight_loaders.py:76-104). Here every array of the result is
accounted for, and what does not fit is refused before anything is written.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.layouts.openpi import ASSETS, TOKENIZER, WEIGHTS
from handeye.checkpoints.layouts.openpi_write import write_assets
from handeye.checkpoints.load import check_keys
from handeye.checkpoints.manifest import FILE
from handeye.checkpoints.merge_config import ExtractVlmConfig, MergeVlmConfig, Stored
from handeye.checkpoints.npz import cast, write_npz
from handeye.checkpoints.orbax import ITEM, write_orbax
from handeye.checkpoints.reading_half import Policy, read_half, read_policy
from handeye.checkpoints.save import whole_folder
from handeye.checkpoints.trees import read_tree
from handeye.console import say, warn
from handeye.errors import UserError
from handeye.models import pi05
from handeye.models.gemma import precision
from handeye.records import provenance, write_json

Origin = Literal["base", "tuned"]
REPORT = "merge.json"


@dataclass(frozen=True, kw_only=True)
class Merged:
    """The result, and where each of its arrays is from."""

    tree: dict[str, Tensor]
    origin: dict[str, Origin]
    changed: tuple[str, ...]
    """Arrays that differ from the base's."""

    left_out: tuple[str, ...]
    """Arrays of the tuned file that are the action expert's."""


def run(config: MergeVlmConfig, folder: Path, options: Mapping[str, str]) -> None:
    """`config.base`, taken apart: where it is, and what is said of it."""
    base, tuned = read_policy(folder, options), _tuned(config.tuned)
    merged = merge(base.tree, tuned, dtype=config.dtype, base_name=str(folder), tuned_name=str(config.tuned))
    counts = Counter[str](merged.origin.values())
    report: dict[str, Any] = {
        "base": config.base,
        "tuned": str(config.tuned),
        "counts": {**counts, "changed": len(merged.changed), "left_out": len(merged.left_out)},
        "left_out": list(merged.left_out),
        "arrays": {
            key: {
                "from": merged.origin[key],
                "changed": key in set(merged.changed),
                "dtype": str(array.dtype).removeprefix("torch."),
                "shape": list(array.shape),
            }
            for key, array in merged.tree.items()
        },
        "provenance": provenance(("torch", "numpy")),
    }
    where = _write(config, base, merged.tree, report)
    if merged.left_out:
        warn(f"{len(merged.left_out)} arrays of an action expert in {config.tuned} are left out: the base's are kept")
    say(
        f"{config.out}: {counts['tuned']} arrays tuned ({len(merged.changed)} differ from the base), "
        f"{counts['base']} from the base; each is accounted for in {where}"
    )


def _tuned(path: Path) -> dict[str, Tensor]:
    """From an `.npz` file, an Orbax directory, or what `handeye train paligemma_xvr` wrote."""
    if not (path / FILE).exists() and not (path / "final" / FILE).exists():
        return read_tree(path)
    half = read_half(path)
    return names.to_tree(half.state, half.config)


def extract(config: ExtractVlmConfig, folder: Path, options: Mapping[str, str]) -> None:
    """As `run`."""
    inside = vlm_of(read_policy(folder, options).tree, what=str(folder))
    tree = stored(inside, config.dtype, what=str(folder))
    write_npz(config.out, {f"params/{key}": array for key, array in tree.items()})
    kinds = ", ".join(sorted({str(array.dtype).removeprefix("torch.") for array in tree.values()}))
    say(f"{config.out}: {len(tree)} arrays, {sum(x.numel() for x in tree.values()):,} numbers, {kinds}")


def vlm_of(base: Mapping[str, Tensor], *, what: str) -> dict[str, Tensor]:
    """PaliGemma's arrays, as big_vision names them. The base is checked as a whole first."""
    _require_whole(base, what)
    inside = {key: array for key, array in base.items() if key.startswith(names.VLM) and not names.of_expert(key)}
    return {key.removeprefix(names.VLM): array for key, array in inside.items()}


def merge(
    base: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    *,
    dtype: Stored = "base",
    base_name: str = "the base",
    tuned_name: str = "the tuned model",
) -> Merged:
    """Neither input is changed."""
    wanted = vlm_of(base, what=base_name)
    _refuse_prefix(tuned, tuned_name)
    left_out = tuple(sorted(key for key in tuned if names.of_expert(key) and names.VLM + key in base))
    found = {key: array for key, array in tuned.items() if key not in left_out}
    check_keys(_shapes(wanted), _shapes(found), what=tuned_name)
    _require_finite(found, tuned_name)
    _require_finite(base, base_name)
    origin: dict[str, Origin] = {key: "tuned" if key.removeprefix(names.VLM) in wanted else "base" for key in base}
    kinds = {key: array.dtype if dtype == "base" else getattr(torch, dtype) for key, array in base.items()}
    tree, changed = {}, []
    for key, array in base.items():
        own = cast({key: array}, kinds[key], what=base_name)[key]
        tree[key] = own
        if origin[key] == "tuned":
            tree[key] = cast({key: found[key.removeprefix(names.VLM)]}, kinds[key], what=tuned_name)[key]
            changed += [key] * (not torch.equal(tree[key], own))
    if not changed:
        raise UserError(
            f"{tuned_name} is no other model than {base_name}.",
            why="every array equals the base's: nothing was tuned, or not enough to be seen in the type of the result",
            fix="give the tuned weights, not those that tuning started from",
        )
    return Merged(tree=tree, origin=origin, changed=tuple(changed), left_out=left_out)


def stored(tree: Mapping[str, Tensor], dtype: Stored, *, what: str) -> dict[str, Tensor]:
    return dict(tree) if dtype == "base" else cast(tree, getattr(torch, dtype), what=what)


def _require_whole(base: Mapping[str, Tensor], what: str) -> None:
    """Every array of a pi0 or pi0.5, none besides. How many actions it answers does not matter to its weights."""
    if not any(key.startswith(names.VLM) for key in base):
        raise UserError(
            f"{what} is not pi0 or pi0.5.",
            why=f"no key begins with {names.VLM}; they begin with {', '.join(sorted({k.split('/')[0] for k in base}))}",
            fix="give the policy first and the tuned PaliGemma second",
        )
    config = names.config_of(base, what=what, chunk=1)
    check_keys({k: str(s) for k, s in names.tree_shapes(config).items()}, _shapes(base), what=what)


def _refuse_prefix(tuned: Mapping[str, Tensor], what: str) -> None:
    if wrong := [key for key in tuned if key.startswith(names.VLM)]:
        raise UserError(
            f"{what} has keys under {names.VLM}, as pi0 and pi0.5 have.",
            why=f"{len(wrong)} of {len(tuned)}, such as {wrong[0]}; PaliGemma's begin with img/ and llm/",
            fix="give what tuning PaliGemma saved, or take PaliGemma out of a policy first: `handeye extract-vlm`",
        )


def _require_finite(tree: Mapping[str, Tensor], what: str) -> None:
    bad = {key: array for key, array in tree.items() if not bool(array.isfinite().all())}
    if bad:
        kinds = [f"{key} ({'NaN' if bool(x.isnan().any()) else 'infinite'}, {x.dtype})" for key, x in bad.items()]
        raise UserError(
            f"{what} holds numbers that are not finite.",
            why=", ".join(kinds).replace("torch.", ""),
            fix="use weights from before they went wrong; numbers too large for float16 fit into bfloat16",
        )


def _shapes(tree: Mapping[str, Tensor]) -> dict[str, str]:
    return {key: str(list(array.shape)) for key, array in tree.items()}


def _write(config: MergeVlmConfig, base: Policy, tree: dict[str, Tensor], report: Mapping[str, Any]) -> Path:
    """Where the report is."""
    if config.out.suffix == ".npz":
        where = config.out.with_suffix(f".{REPORT}")
        write_json(where, report)
        write_npz(config.out, tree)
        return where
    with whole_folder(config.out) as part:
        if config.to == "openpi-orbax":
            write_orbax(part / ITEM, tree)
        else:
            save_file(_for_torch(tree, what=str(config.out)), part / WEIGHTS, metadata=names.TORCH_METADATA)
        _write_assets(part, base)
        if not (part / ASSETS).is_dir():
            warn(f"{config.base} has no {ASSETS}/: put its statistics into {config.out} before acting with it")
        write_json(part / REPORT, report)
    return config.out / REPORT


def _for_torch(tree: dict[str, Tensor], *, what: str) -> dict[str, Tensor]:
    """By openpi's PyTorch names. Its model is in bfloat16 but for some tensors, or in float32: where only some of what
    it lowers is stored in bfloat16, all is float32, and nothing is lost."""
    config = names.config_of(tree, what=what, chunk=1)
    assert isinstance(config, pi05.Config)
    state = names.from_tree(tree, config, what=what)
    lowered = {array.dtype for name, array in state.items() if precision(name, "bfloat16") == torch.bfloat16}
    if lowered == {torch.bfloat16}:
        state = {name: array.to(precision(name, "bfloat16")) for name, array in state.items()}
    elif torch.bfloat16 in lowered:
        state = {name: array.float() for name, array in state.items()}
    return names.to_torch(state, config)


def _write_assets(part: Path, base: Policy) -> None:
    """The base's statistics and tokenizer, where it has them."""
    if base.manifest is not None:
        write_assets(part, base.manifest)
        return
    if base.home is None:
        return
    for name in (ASSETS, TOKENIZER):
        lying = base.home / name
        if lying.is_dir():
            shutil.copytree(lying, part / name)
        elif lying.is_file():
            shutil.copy2(lying, part / name)
