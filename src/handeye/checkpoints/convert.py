"""`handeye convert`: a policy's checkpoint from one layout into another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from handeye.checkpoints import manifest as manifests
from handeye.checkpoints.convert_config import ConvertConfig
from handeye.checkpoints.layouts import openpi, openvla_write
from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.layouts.openpi_write import write_assets
from handeye.checkpoints.npz import write_npz
from handeye.checkpoints.orbax import ITEM, write_orbax
from handeye.checkpoints.partial import mark
from handeye.checkpoints.published import load
from handeye.checkpoints.reading_half import read_half
from handeye.checkpoints.save import save, whole_folder
from handeye.console import say, warn
from handeye.errors import UserError
from handeye.models import pi05


def convert(config: ConvertConfig, folder: Path, options: Mapping[str, str]) -> None:
    """`config.checkpoint`, taken apart: its folder, and what is said of it. A run's folder means its `final`."""
    if (folder / "final").is_dir():
        folder = folder / "final"
    if manifests.answers_questions(folder):
        _convert_reader(config, folder)
        return
    if openpi.recognises(folder):
        options = {"precision": "fp32", **options}  # what acting computes in is no reason to store less
    checkpoint = load(folder, options)
    if config.to != "handeye" and (begun := mark(checkpoint.manifest.provenance.get("partial", []))):
        warn(f"{begun} {config.to} has no place for that: {config.out} will not say so.")
    state = {name: tensor.detach() for name, tensor in checkpoint.model.state_dict().items()}
    if config.to == "handeye":
        save(config.out, checkpoint.manifest, state)
    elif config.to == "openvla":
        with whole_folder(config.out) as part:
            openvla_write.write(part, checkpoint, statistics=config.statistics)
    elif not isinstance(checkpoint.model, pi05.Model):
        raise UserError(
            f"{config.checkpoint} is {checkpoint.manifest.family}.",
            why=f"only pi0 and pi0.5 can be written as {config.to}",
            fix="leave out --to",
        )
    elif config.to == "openpi-jax":
        write_npz(config.out, names.to_tree(state, checkpoint.model.config))
    else:
        with whole_folder(config.out) as part:
            if config.to == "openpi-orbax":
                write_orbax(part / ITEM, names.to_tree(state, checkpoint.model.config))
            else:
                tensors = names.to_torch(state, checkpoint.model.config)
                save_file(tensors, part / openpi.WEIGHTS, metadata=names.TORCH_METADATA)
            write_assets(part, checkpoint.manifest)
    say(f"{config.out}: {len(state)} tensors, {sum(x.numel() for x in state.values()):,} numbers")


def _convert_reader(config: ConvertConfig, folder: Path) -> None:
    """A PaliGemma that answers questions: big_vision's file."""
    if config.to != "openpi-jax":
        raise UserError(
            f"{folder} answers questions and does not act.",
            why=f"it can be written as openpi-jax, an .npz file by big_vision's names, not as {config.to}",
            fix="use --to openpi-jax; or put it under a policy first: `handeye merge-vlm`",
        )
    half = read_half(folder)
    write_npz(config.out, {f"params/{key}": array for key, array in names.to_tree(half.state, half.config).items()})
    say(f"{config.out}: {len(half.state)} tensors, {sum(x.numel() for x in half.state.values()):,} numbers")
