"""Randomness that depends on a seed and a place alone, so that an order can be found again anywhere."""

from __future__ import annotations

import numpy as np

from handeye.errors import UserError


def rng(seed: int, *where: int) -> np.random.Generator:
    if seed < 0:
        raise UserError(f"{seed} is not a seed.", fix="use 0 or more")
    return np.random.default_rng([seed, *where])
