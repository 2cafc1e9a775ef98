"""A pytest plugin: a process that outlives the test run is a bug, in a test or in the program, and fails the run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

MARK = "HANDEYE_TEST_RUN"
"""Environment variable that every process started by a test inherits."""


def pytest_configure() -> None:
    os.environ.setdefault(MARK, str(os.getpid()))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background: children would inherit it


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In the controlling process, after its workers have gone."""
    if os.environ.get("PYTEST_XDIST_WORKER") or not (found := left(grace=10)):
        return
    session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for pid, command in found:
        print(f"\nprocess {pid} outlived the tests and was ended: {command}")  # noqa: T201 - pytest has closed its own reports
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def left(grace: float) -> list[tuple[int, str]]:
    """(pid, command) of what still runs after `grace` seconds."""
    deadline = time.monotonic() + grace
    while found := _marked():
        if time.monotonic() > deadline:
            return found
        time.sleep(0.2)
    return []


def _parent(folder: Path) -> int:
    return int((folder / "stat").read_text().rpartition(")")[2].split()[1])


def _marked() -> list[tuple[int, str]]:
    wanted = f"{MARK}={os.environ.get(MARK, '')}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) != os.getpid() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                # A zombie has no command. Our own resource tracker goes with us.
                if command and not ("multiprocessing.resource_tracker" in command and _parent(folder) == os.getpid()):
                    found.append((int(folder.name), command))
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
    return found
