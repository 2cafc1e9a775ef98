"""Where workers' questions are answered, several at once.

Questions gather until there are `batch` of them, until the oldest has waited `wait` seconds, or until nobody is left
who could ask another. Each answerer has a thread of its own and takes the next batch when it is free, so the process
that owns the workers goes on listening meanwhile. An answerer is only ever called from its own thread. (A server's
clients are served by the same rule in handeye.serve.batcher, which says why it is not the same code.)
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

Answerer = Callable[[Sequence[Any]], Sequence[Any]]
"""Questions -> one answer each, in order. What it raises stops everything."""


@dataclass(frozen=True)
class Asked:
    """A question, who asked it and when."""

    who: int
    question: Any
    since: float


@dataclass(kw_only=True)
class Use:
    """How much the answerers had to do so far."""

    questions: int = 0
    batches: int = 0
    seconds: float = 0.0
    """Of answering, summed over the answerers."""

    waiting: int = 0
    """Questions that wait at this moment."""

    answerers: int = 1


def _all_alike(question: Any) -> Hashable:
    return None


@dataclass(eq=False, kw_only=True)
class Desk:
    """Open it, `ask`, and collect `answers` when `bell` can be read. Used by one thread."""

    answerers: Sequence[Answerer]
    batch: int = 1
    wait: float = 0.0
    """Seconds that a question may be held back for company."""

    alike: Callable[[Any], Hashable] = _all_alike
    """Questions of the same kind are put into the same batch first; it is filled up with others."""

    bell: int = field(default=-1, init=False)
    """File descriptor: can be read when there are answers."""

    _waiting: list[Asked] = field(default_factory=list, init=False)
    _answered: list[tuple[int, Any]] = field(default_factory=list, init=False)
    _error: BaseException | None = field(default=None, init=False)
    _busy: int = field(default=0, init=False)  # questions that are being answered
    _crowd: int = field(default=0, init=False)
    _closed: bool = field(default=False, init=False)
    _use: Use = field(default_factory=Use, init=False)

    def open(self) -> None:
        self._waiting, self._answered, self._error, self._busy, self._closed = [], [], None, 0, False
        self._use = Use()
        self._changed = threading.Condition()
        self.bell, self._ring = os.pipe()
        self._threads = [
            threading.Thread(target=self._serve, args=(answerer,), daemon=True, name=f"answerer-{number}")
            for number, answerer in enumerate(self.answerers)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """An answer that is under way is nobody's any more; its thread ends when it has been given."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(5)
        os.close(self.bell)
        with self._changed:
            os.close(self._ring)
            self._ring = -1

    def ask(self, who: int, question: Any) -> None:
        with self._changed:
            self._waiting.append(Asked(who, question, time.monotonic()))
            self._changed.notify_all()

    def expect(self, crowd: int) -> None:
        """So many might ask: when all of them have, nobody is waited for."""
        with self._changed:
            if crowd != self._crowd:
                self._crowd = crowd
                self._changed.notify_all()

    def drop(self, who: int) -> None:
        """Its question needs no answer any more. One that is being answered is answered all the same."""
        with self._changed:
            self._waiting = [asked for asked in self._waiting if asked.who != who]

    def answers(self) -> list[tuple[int, Any]]:
        """(Who asked, answer), as often as `bell` rings. Raises what an answerer raised."""
        os.read(self.bell, 1 << 16)
        with self._changed:
            if self._error is not None:
                raise self._error
            found, self._answered = self._answered, []
        return found

    def use(self) -> Use:
        with self._changed:
            return Use(**{**vars(self._use), "waiting": len(self._waiting), "answerers": len(self.answerers)})

    def _serve(self, answerer: Answerer) -> None:
        while batch := self._gather():
            before = time.monotonic()
            try:
                answers = answerer([asked.question for asked in batch])
                found = [(asked.who, answer) for asked, answer in zip(batch, answers, strict=True)]
            except BaseException as error:  # of whatever kind: it is raised where the desk is used
                with self._changed:
                    self._error = error
                    self._tell()
                return
            with self._changed:
                self._busy -= len(batch)
                self._use.questions += len(batch)
                self._use.batches += 1
                self._use.seconds += time.monotonic() - before
                self._answered += found
                self._tell()

    def _gather(self) -> list[Asked]:
        """The next batch; empty when the desk is closed."""
        with self._changed:
            while not self._closed:
                if not self._waiting:
                    self._changed.wait()
                    continue
                left = self._waiting[0].since + self.wait - time.monotonic()
                everyone = len(self._waiting) + self._busy >= self._crowd
                if len(self._waiting) >= self.batch or everyone or left <= 0:
                    return self._take()
                self._changed.wait(left)
        return []

    def _take(self) -> list[Asked]:
        """The oldest question, then those like it, then the others, each by age."""
        kind = self.alike(self._waiting[0].question)
        order = sorted(self._waiting, key=lambda asked: self.alike(asked.question) != kind)
        taken = order[: self.batch]
        self._waiting = [asked for asked in self._waiting if not any(asked is other for other in taken)]
        self._busy += len(taken)
        return taken

    def _tell(self) -> None:
        if self._ring >= 0:
            os.write(self._ring, b"!")
