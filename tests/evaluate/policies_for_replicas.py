"""Policies as a replica's process loads them. Imported there, hence a file. The address is a folder for marks."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from handeye.errors import UserError
from handeye.policy.scripted import BLIND, Noise
from handeye.types import ActionChunk, EpisodeId, Observation


class Marking:
    """The baseline `noise`; notes that it was asked, and in which process."""

    specs = BLIND
    identity: Mapping[str, str] = {"name": "noise"}

    def __init__(self, folder: str, device: str) -> None:
        self._mark, self._noise = Path(folder, f"{device}.asked"), Noise()

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        pass

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        with self._mark.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return self._noise.act(observations)


class Means(Marking):
    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        means = [seen.images["agentview"].mean() for seen in observations]
        return [ActionChunk(actions=np.full((1, 7), mean, np.float32)) for mean in means]


class Mortal(Marking):
    """Dies of its tenth question."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        if self._mark.exists() and len(self._mark.read_text().split()) > 10:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().act(observations)


def noise(folder: str, *, device: str) -> Marking:
    return Marking(folder, device)


def means(folder: str, *, device: str) -> Marking:
    return Means(folder, device)


def mortal(folder: str, *, device: str) -> Marking:
    return Mortal(folder, device)


def missing(folder: str, *, device: str) -> Marking:
    raise UserError("There is no such checkpoint: no such checkpoint.", fix="check the path")


def broken(folder: str, *, device: str) -> Marking:
    raise KeyError("weights")


def different(folder: str, *, device: str) -> Marking:
    policy = Marking(folder, device)
    policy.identity = {"name": "noise", "device": device}
    return policy


def dying(folder: str, *, device: str) -> Marking:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
