"""What a server did: counts, batch sizes and latencies, and the line that says so."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

KEPT = 10_000
"""Latencies that percentiles are made of: the newest."""


@dataclass(kw_only=True)
class Traffic:
    """Of one stretch of time. The server's own thread writes to it."""

    answered: int = 0
    """Questions."""

    observations: int = 0
    errors: int = 0
    """Questions that were answered with an error."""

    refused: int = 0
    """Connections that never became a conversation: no token, no room, no websocket."""

    dropped: int = 0
    """Conversations that the server ended: idle, or too slow to take an answer."""

    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Seconds from a question's arrival to the last byte of its answer."""

    batches: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))
    """For each answered question, how many observations its batch had."""

    def add(self, *, observations: int, batch: int, seconds: float) -> None:
        self.answered += 1
        self.observations += observations
        self.batches.append(batch)
        self.latencies.append(seconds)

    def include(self, other: Traffic) -> None:
        """Two stretches of time as one."""
        for name, value in vars(other).items():
            if isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)
            else:
                getattr(self, name).extend(value)

    @property
    def busy(self) -> bool:
        return bool(self.answered or self.errors or self.refused or self.dropped)

    def line(self, *, clients: int, waiting: int, seconds: float) -> str:
        parts = [
            f"{clients} clients",
            f"{waiting} waiting",
            f"{self.answered} answered ({self.answered / seconds:.1f}/s)",
        ]
        if self.latencies:
            p50, p99 = 1000 * np.percentile(self.latencies, (50, 99))
            parts.append(f"latency p50 {p50:.1f} ms, p99 {p99:.1f} ms")
            parts.append(f"batch mean {np.mean(self.batches):.1f}, largest {max(self.batches)}")
        counted = {"errors": self.errors, "refused": self.refused, "dropped": self.dropped}
        return ", ".join(parts + [f"{count} {name}" for name, count in counted.items() if count])
