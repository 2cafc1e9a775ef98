"""One policy in several processes, one per device: each answers batches of its own."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import Any

import numpy as np

from handeye.conventions.spec import Specs
from handeye.distributed.line import HangUp, Line, pair
from handeye.distributed.processes import begin, end, last_words
from handeye.errors import UserError
from handeye.types import ActionChunk, EpisodeId, Observation

Loader = str
"""`module:function`, called in each process with the address, `device=` and the other arguments."""


class Replica:
    """A policy in a process of its own. Used by one thread at a time."""

    def __init__(self, load: Loader, address: str, device: str, **how: Any) -> None:
        """Starts loading; `ready` waits for it."""
        self.device = device
        self._line, theirs = pair("ours")
        arguments = {"device": device, **how}
        self._process = begin(_serve, theirs, load, address, arguments, name=f"handeye-policy-{device}")

    def ready(self) -> None:
        """UserError where the policy cannot be loaded there."""
        self.specs: Specs
        self.identity: Mapping[str, Any]
        self.specs, self.identity = self._hear()

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        self._ask("reset", list(episodes))

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [ActionChunk(actions=np.asarray(actions)) for actions in self._ask("act", list(observations))]

    def close(self) -> None:
        self._line.close()
        end([self._process])

    def _ask(self, what: str, content: object) -> Any:
        with suppress(HangUp):  # why is heard below
            self._line.send((what, content))
        return self._hear()

    def _hear(self) -> Any:
        try:
            answer, error = self._line.receive()
        except HangUp:
            self._process.join(10)
            raise UserError(
                f"The policy's process on {self.device} ended.",
                why=last_words(self._process.exitcode),
                fix="mend that, then run the same command again: it goes on",
            ) from None
        if error is not None:
            raise error
        return answer


class Replicas:
    """Answers as any of them would. Close it, or use it in a `with` block."""

    def __init__(self, load: Loader, address: str, devices: Sequence[str], **how: Any) -> None:
        self.replicas = [Replica(load, address, device, **how) for device in devices]
        try:
            for replica in self.replicas:
                replica.ready()
            first = self.replicas[0]
            if other := next((each for each in self.replicas if each.identity != first.identity), None):
                raise UserError(
                    f"{first.device} and {other.device} would not answer alike.",
                    why=f"{dict(first.identity)} | {dict(other.identity)}",
                    fix="use devices of one kind, or evaluate on one of them",
                )
        except BaseException:
            self.close()
            raise
        self.specs, self.identity = first.specs, first.identity

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        for replica in self.replicas:
            replica.reset(episodes)

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return self.replicas[0].act(observations)

    def close(self) -> None:
        for replica in self.replicas:
            replica.close()

    def __enter__(self) -> Replicas:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _serve(line: Line, load: Loader, address: str, how: Mapping[str, Any]) -> None:
    """The process's life: says what it is, then answers. An error is sent like an answer, to be raised there."""
    policy: Any = None
    content: Any
    what = "load"
    try:
        while True:
            try:
                if what == "load":
                    module, _, name = load.partition(":")
                    policy = getattr(import_module(module), name)(address, **how)
                    answer: Any = policy.specs, policy.identity
                else:
                    answer = getattr(policy, what)(content)
                    if what == "act":
                        answer = [chunk.actions for chunk in answer]
                line.send((answer, None))
            except UserError as error:
                line.send((None, error))
            except Exception:  # its traceback says more than the error alone, and can always be sent
                line.send((None, RuntimeError(f"in the policy's process:\n{traceback.format_exc()}")))
            what, content = line.receive()
    except HangUp:
        os._exit(0)
