"""Processes that are spawned, end with their parent, never see Ctrl-C, and whose memory can be asked for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess, parent_process
from pathlib import Path
from typing import Any

from handeye.distributed.line import Line


def begin(target: Callable[..., None], line: Line, *arguments: Any, name: str) -> BaseProcess:
    """`target(line, *arguments)` in a new process; `line` is its end. Its death closes the other one."""
    context = multiprocessing.get_context("spawn")  # fork would copy threads and the GL library
    process = context.Process(target=_live, args=(target, line, *arguments), name=name, daemon=True)
    with _interrupts_held():
        process.start()
    line.close_connection()
    return process


def end(processes: Iterable[BaseProcess]) -> None:
    """Ask them, then make them."""
    processes = list(processes)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


def held(process: int | None) -> int | None:
    """Bytes of memory that a process holds; None where nobody says (outside Linux, or it is gone)."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def last_words(exit_code: int | None) -> str:
    """Why a process is gone, for people."""
    if exit_code is not None and exit_code < 0:
        return f"it was killed by {signal.Signals(-exit_code).name} (out of memory, or a crash in a library)"
    return f"it ended with exit code {exit_code}"


def _live(target: Callable[..., None], line: Line, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then lets us go
    threading.Thread(target=_end_with_parent, daemon=True).start()
    target(line, *arguments)


def _end_with_parent() -> None:
    """Whoever is in the middle of a long job hears nothing on its line. The parent's death it hears here."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process started here never sees Ctrl-C, not even before its first line; ours arrives afterwards."""
    resource_tracker.ensure_running()  # it would lift the mask, were it started inside
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
