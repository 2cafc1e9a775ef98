"""Where to compute: the device that was asked for, if it is there."""

from __future__ import annotations

import torch

from handeye.errors import UserError


def device_of(name: str) -> str:
    """`auto`: a GPU if there is one. UserError if this device does not answer, before anything was read for it."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name).zero_()
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"There is no device {name}.",
            why=str(error).splitlines()[0],
            fix="use --device cpu, or cuda where PyTorch can use a GPU (`handeye doctor` says why not)",
        ) from None
    return name
