"""Did LeRobot load what lies in the folder? Its pi0 and pi0.5 print "Returning model without loading pretrained
weights" when anything goes wrong, and return random ones, with strict=True too (lerobot modeling_pi05.py:991; issue
4577). Its names differ from the file's, so numbers are looked for, not names."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from handeye.checkpoints.files import read_tensors
from handeye.console import warn
from handeye.errors import UserError

WEIGHTS = "model.safetensors"
LOOKED_FOR = 24
"""Tensors, spread over the file; constant ones, as norms and biases begin, prove nothing."""

FIRST = 64
"""Numbers that are compared before whole tensors are."""


def require_loaded(policy: Any, path: str) -> None:
    """UserError if none of the file's tensors is in the policy; a warning if some are not, or if there is no file."""
    file = Path(path) / WEIGHTS
    if not file.is_file() or not hasattr(policy, "state_dict"):
        warn(f"{path}: whether LeRobot loaded its weights was not checked ({WEIGHTS} is not in a local folder)")
        return
    there: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
    for tensor in policy.state_dict().values():
        there[tuple(tensor.shape)].append(tensor)
    varied = [(name, tensor) for name, tensor in read_tensors([file]).items() if _varies(tensor)]
    some = [varied[round(i * (len(varied) - 1) / (LOOKED_FOR - 1))] for i in range(LOOKED_FOR)] if varied else []
    absent = [name for name, tensor in dict(some).items() if not _is_among(tensor, there[tuple(tensor.shape)])]
    if some and len(absent) == len(dict(some)):
        raise UserError(
            f"LeRobot returned other weights than {path} holds.",
            why=f"none of {len(absent)} tensors of {WEIGHTS} is in the policy, among them {absent[0]}: it prints an "
            "error and goes on with random ones",
            fix="look at what it printed above; use the version of LeRobot that saved the policy",
        )
    if absent:
        warn(
            f"{path}: {len(absent)} of {len(dict(some))} tensors of {WEIGHTS} are not in LeRobot's policy: {absent[0]}"
        )


def _varies(tensor: Tensor) -> bool:
    first = tensor.flatten()[:FIRST]
    return tensor.is_floating_point() and len(first) > 1 and bool((first != first[0]).any())


def _is_among(tensor: Tensor, candidates: list[Tensor]) -> bool:
    """In the file's own type: the policy may compute in another."""
    first = tensor.flatten()[:FIRST]
    return any(
        torch.equal(candidate.flatten()[:FIRST].cpu().to(tensor.dtype), first)
        and torch.equal(candidate.cpu().to(tensor.dtype), tensor)
        for candidate in candidates
    )
