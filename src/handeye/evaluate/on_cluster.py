"""A policy on a Ray cluster: one process per GPU, each answering the workers that are assigned to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from handeye.conventions.spec import Specs
from handeye.distributed import cluster
from handeye.distributed.cluster import Office
from handeye.errors import UserError
from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.replicas import Loader
from handeye.evaluate.scheduler import answer, at_once, prompt
from handeye.evaluate.worker import Question
from handeye.policy.scripted import SCRIPTED
from handeye.types import ActionChunk, EpisodeId, Observation

LIGHT = ("ws://", "wss://", "replay:")
"""Addresses of policies that compute nothing here."""


@dataclass(frozen=True)
class Setup:
    """Which policy a desk loads."""

    load: Loader
    address: str
    how: Mapping[str, Any]


class Desk:
    """Answers with a policy of its own."""

    def __init__(self, setup: Setup) -> None:
        module, _, name = setup.load.partition(":")
        self._policy = getattr(import_module(module), name)(setup.address, **setup.how)
        self.about = self._policy.specs, dict(getattr(self._policy, "identity", {}))
        self.most = at_once(self._policy)

    def __call__(self, questions: Sequence[Question]) -> list[Any]:
        return answer(self._policy, questions)


class ClusterPolicy:
    """What a plan needs to know of it. Its questions go to the desks of `office`."""

    def __init__(self, office: Office) -> None:
        self.office = office
        (specs, identity), *others = office.about()
        self.specs: Specs = specs
        self.identity: Mapping[str, Any] = identity
        for _, identity in others:
            if identity != self.identity:
                raise UserError(
                    "The cluster's GPUs would not answer alike.",
                    why=f"{self.identity} | {identity}",
                    fix="use machines of one kind, or --policies 1",
                )

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        """The desks are told by the questions."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        raise RuntimeError("the policy is asked where it is, by the workers")


@contextmanager
def on_cluster(config: EvaluateConfig, load: Loader, how: Mapping[str, Any]) -> Iterator[ClusterPolicy | None]:
    """Connected, with the policy loaded; None for the expert."""
    assert config.ray is not None
    with cluster.connected(config.ray):
        if config.policy == "expert":
            yield None
            return
        light = config.policy in SCRIPTED or config.policy.startswith(LIGHT)
        gpus = 0 if light or config.devices[0] == "cpu" else cluster.count("GPU")
        desks = config.policies or max(1, gpus)
        address = str(Path(config.policy).resolve()) if Path(config.policy).exists() else config.policy
        office = Office(
            answerer=Desk,
            setup=Setup(load, address, {"device": config.devices[0], **how}),
            desks=desks,
            gpus=1.0 if gpus else 0.0,
            batch=config.batch,
            wait=config.wait_ms / 1000,
            crowd=-(-config.workers // desks),
            alike=prompt,
        )
        yield ClusterPolicy(office)
