"""What `handeye inspect` is configured with. Nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """What is this? Nothing of it is executed. Exit code 0: sound and whole; 1: it is broken, or something is
    missing."""

    path: Annotated[str, Positional, arg(metavar="PATH")]
    """A file or a folder: a checkpoint in any layout, a run, an adapter, a set of demonstrations, a download. After a
    published checkpoint may come what its layout leaves open, `DIR#statistics=NAME`."""

    digests: bool = False
    """Compare the digests of a checkpoint of ours even where it is large (2 GB and more); smaller ones always are."""

    json: bool = False
    """Print JSON for another program."""
