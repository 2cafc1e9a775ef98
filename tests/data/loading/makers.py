"""What loader processes are given in tests: things that can be pickled."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from handeye.errors import UserError


def work(job: tuple[str, Path | int]) -> dict[str, np.ndarray]:
    """Does what the job says."""
    what, how = job
    if what == "refuse":
        raise UserError("the data is broken", why="a test", fix="mend it")
    if what == "fail":
        raise ZeroDivisionError("of a test")
    if what == "die" or (what == "die once" and _first_time(Path(how))):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(600)
    size = int(how) if isinstance(how, int) else 1
    return {"who": np.array(os.getpid()), "large": np.arange(size, dtype=np.uint8)}


def _first_time(note: Path) -> bool:
    try:
        note.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
