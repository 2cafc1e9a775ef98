"""How much memory loading a full-size checkpoint takes: OpenVLA-7B of random bfloat16 weights, in published shards.

    nice python recipes/peak_memory_7b.py --folder FOLDER --tokenizer tokenizer.json

Writes 15.1 GB there (and removes it at the end), loads it in a process of its own, touches every weight, and prints
the process's peak resident memory as a multiple of the weights. With `--names FILE` the tensors are those of that file
(name -> [shape, type]); otherwise our own model's, which a test holds equal to the published ones.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from handeye.console import say
from handeye.models import openvla

SHARD = 5e9
"""Bytes; transformers' default of the time."""

ALLOWED = 1.1


def shapes(names: Path | None) -> dict[str, list[int]]:
    if names is not None:
        return {name: shape for name, (shape, _) in json.loads(names.read_text()).items()}
    with torch.device("meta"):
        return {name: list(t.shape) for name, t in openvla.Model(openvla.Config()).state_dict().items()}


def random(shape: list[int], block: torch.Tensor) -> torch.Tensor:
    """The same random numbers over and over: as heavy as others, and made in a hundredth of the time."""
    count = torch.Size(shape).numel()
    return block.repeat(-(-count // len(block)))[:count].reshape(shape).clone()


def write(folder: Path, tokenizer: Path, names: Path | None) -> int:
    """Returns the bytes of all weights. One shard is in memory at a time."""
    folder.mkdir(parents=True)
    block = torch.empty(2**24, dtype=torch.bfloat16).normal_(0, 0.02)
    parts: list[dict[str, list[int]]] = [{}]
    size = 0.0
    for name, shape in shapes(names).items():
        tensor = 2 * torch.Size(shape).numel()
        if parts[-1] and size + tensor > SHARD:
            parts.append({})
            size = 0.0
        parts[-1][name] = shape
        size += tensor
    where = {}
    for number, part in enumerate(parts, 1):
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        save_file({name: random(shape, block) for name, shape in part.items()}, folder / file)
        where |= dict.fromkeys(part, file)
        say(f"wrote {file}")
    total = sum(2 * torch.Size(shape).numel() for part in parts for shape in part.values())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": where})
    )
    row = {name: [value] * 7 for name, value in (("mean", 0.0), ("std", 1.0), ("q01", -1.0), ("q99", 1.0))}
    statistics = {"random": {"action": row, "proprio": row}}
    config = {
        "model_type": "openvla",
        "use_fused_vision_backbone": True,
        "image_sizes": [224, 224],
        "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
        "norm_stats": statistics,
        "text_config": {"model_type": "llama", "vocab_size": 32064, "pad_token_id": 32000},
    }
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    return total


def load(folder: Path) -> None:
    """In a process of its own: the peak is the process's."""
    from handeye.checkpoints.published import load as load_checkpoint

    model = load_checkpoint(folder).model
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with torch.inference_mode():
        for tensor in model.state_dict().values():
            tensor.view(torch.int16).amax()  # every page is read
    touched = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"loaded": loaded, "touched": touched}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="any Llama tokenizer.json")
    parser.add_argument("--names", type=Path)
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        load(arguments.folder)
        return
    if arguments.folder.exists():
        raise SystemExit(f"{arguments.folder} exists: give a folder that may be written and removed")
    try:
        size = write(arguments.folder, arguments.tokenizer, arguments.names)
        command = [sys.executable, __file__, "--load", "--folder", str(arguments.folder), "--tokenizer", "-"]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=3600).stdout
        peaks = json.loads(out.splitlines()[-1])
    finally:
        shutil.rmtree(arguments.folder, ignore_errors=True)
    say(f"weights {size / 1e9:.2f} GB")
    for what, peak in peaks.items():
        say(f"{what}: peak {peak / 1e9:.2f} GB, {peak / size:.3f} x the weights")
    if peaks["touched"] > ALLOWED * size:
        raise SystemExit(f"more than {ALLOWED} x")


if __name__ == "__main__":
    main()
