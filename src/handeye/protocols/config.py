"""What `handeye protocols list`, `show` and `diff` are configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Every protocol there is, with the constants that people argue about."""

    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """One protocol: every constant, and where its value was read."""

    protocol: Annotated[str, Positional, arg(metavar="PROTOCOL")]
    """A name, a protocol file (mine.json), or the directory of an evaluation."""

    json: bool = False
    """Print it as a protocol file, which --protocol takes: the way to one of your own."""


@dataclass(frozen=True, kw_only=True)
class DiffConfig:
    """What differs between two protocols: what must be said when their numbers stand side by side."""

    one: Annotated[str, Positional, arg(metavar="A")]
    """A name, a protocol file (mine.json), or the directory of an evaluation."""

    other: Annotated[str, Positional, arg(metavar="B")]
    """Another one."""

    suite: str | None = None
    """Compare for this suite only: horizons of other suites are left out."""

    json: bool = False
    """Print JSON instead of a table."""
