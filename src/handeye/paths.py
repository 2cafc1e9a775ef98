"""Where fetched data and caches live. One environment variable moves all of it: HANDEYE_HOME."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """$HANDEYE_HOME, else ~/.cache/handeye."""
    return Path(os.environ.get("HANDEYE_HOME") or Path.home() / ".cache" / "handeye").expanduser()


def libero_data() -> Path:
    """Task files, initial states, robot meshes and textures that `handeye fetch libero` brings."""
    return home() / "libero"


def scene_cache() -> Path:
    """Compiled scenes, keyed by content; safe to delete."""
    return home() / "scenes"
