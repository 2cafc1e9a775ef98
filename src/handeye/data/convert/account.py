"""What became of an episode in a conversion."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of one episode."""

    id: str
    steps: int
    """In the source."""

    kept: int
    """0: the episode is left out."""

    no_ops: int = 0
    reason: str = ""
    """Why it is left out; empty: it is not."""
