"""Leaves out of a frame what cannot change a pixel of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mujoco


class Culling:
    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model

    @contextmanager
    def of(self, data: mujoco.MjData, camera: int) -> Iterator[None]:
        yield
