"""OpenVLA's reference data as models and batches. Everything is taken from the data: other data of the same layout is
read the same way."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from handeye.checkpoints.published import load
from handeye.conventions import image
from handeye.data.pipeline.published import FUSED

TOKENIZER = "tokenizer.json"


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def cases(found: Mapping[str, np.ndarray]) -> range:
    return range(len(found["instructions"]))


def published(goldens: Path, name: str, out: Path) -> Path:
    """The folder as its README describes it: with the shared tokenizer and, where it holds only what differs, the
    weights of `oft_tiny`."""
    folder = out / name
    shutil.copytree(
        goldens / "oft_tiny", folder, ignore=shutil.ignore_patterns("*checkpoint.pt"), copy_function=shutil.copyfile
    )
    for path in (goldens / name).iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    shutil.copyfile(goldens / "openvla_tiny" / TOKENIZER, folder / TOKENIZER)
    folder.chmod(0o755)
    return folder


def model(folder: Path, **options: str) -> nn.Module:
    """In single precision, as the reference computed."""
    return load(folder, {"precision": "fp32", "statistics": "toy_arm", **options}).model


def pixels(levels: np.ndarray) -> Tensor:
    return torch.from_numpy(image.normalise(levels, means=FUSED.means, stds=FUSED.stds))


def prompts(ids: list[np.ndarray]) -> dict[str, Tensor]:
    """Right-padded to the longest."""
    longest = max(map(len, ids))
    rows = np.full((len(ids), longest), 32000, np.int64)
    for row, each in zip(rows, ids, strict=True):
        row[: len(each)] = each
    lengths = torch.tensor([len(each) for each in ids])
    return {"prompt": torch.from_numpy(rows), "prompt_mask": torch.arange(longest) < lengths[:, None]}


def error(ours: Tensor | np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference."""
    ours = ours.detach().float().numpy() if isinstance(ours, Tensor) else ours
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


def gradient_error(ours: Mapping[str, Tensor | None], names: np.ndarray, norms: np.ndarray) -> float:
    """Largest relative difference, to max(norm, 0.001 x the largest norm). A gradient that is absent is zero."""
    found = np.array([0.0 if (grad := ours[str(name)]) is None else float(grad.norm()) for name in names])
    return float((np.abs(found - norms) / np.maximum(norms, 0.001 * norms.max())).max())
