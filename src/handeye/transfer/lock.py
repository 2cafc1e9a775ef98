"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from handeye import console
from handeye.errors import UserError


@contextlib.contextmanager
def alone(folder: Path, *, fix: str) -> Iterator[None]:
    """Makes `folder`; a second process waits for the first, and then finds what that one left. The lock goes with the
    process, however that ends. `fix`: what to type where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"Nothing can be kept in {folder}.", why=str(error), fix=fix) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say(f"another process is at work in {folder}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
