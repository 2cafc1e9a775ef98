"""Room on disks, in shared memory and in main memory, and open files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from handeye import paths
from handeye.doctor.findings import Finding, of

TOPIC = "disk"
ok, warn, fail = of(TOPIC)

GB = 1e9
SCENES = 2 * GB
"""LIBERO's files and compiled scenes."""

CHECKPOINT = 40 * GB
"""A 7-billion policy and one save of it."""

SHARED = 1 * GB
"""Batches travel from loader processes through it; Docker gives 64 MB."""

MEMORY = 8 * GB
FILES = 4096
"""Descriptors: workers, videos and memory-mapped shards."""

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


def check() -> Iterator[Finding]:
    yield _room(
        "HANDEYE_HOME",
        paths.home(),
        SCENES,
        "scenes and downloads end with 'disk is full'",
        "set HANDEYE_HOME to a folder on a larger disk",
    )
    yield _room(
        "working folder",
        Path.cwd(),
        CHECKPOINT,
        "a 7-billion checkpoint and its saves need 40 GB",
        "run where there is room, or use --keep 1",
    )
    yield _shared()
    yield _memory()
    yield _files()


def _existing(path: Path) -> Path:
    """The nearest folder above that is there."""
    while not path.exists():
        path = path.parent
    return path


def _room(about: str, path: Path, wanted: float, means: str, fix: str) -> Finding:
    where = _existing(path)
    free = shutil.disk_usage(where).free
    said = f"{free / GB:.0f} GB free at {where}"
    if not os.access(where, os.W_OK):
        return fail(about, f"{where} cannot be written", means, fix)
    if free < SCENES / 4:
        return fail(about, said, means, fix)
    return warn(about, said, means, fix) if free < wanted else ok(about, said)


def _shared() -> Finding:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return ok("shared memory", "none on this system")
    total = shutil.disk_usage(shm).total
    if total < SHARED:
        return warn(
            "shared memory",
            f"{total / 1e6:.0f} MB",
            "loader processes die with 'bus error'",
            "docker run --shm-size 8g, or --loader-workers 0",
        )
    return ok("shared memory", f"{total / GB:.0f} GB")


def _memory() -> Finding:
    """What this process may have: the container's limit where there is one."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    limit = total
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = min(limit, int(Path(name).read_text()))
        except (OSError, ValueError):
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = f"{limit / GB:.0f} GB for {cores} cores"
    if limit < MEMORY:
        return warn(
            "memory",
            said,
            "a worker of the simulator takes half a GB, a set in memory 6 GB",
            "--workers 2, and --frames stream for training",
        )
    return ok("memory", said)


def _files() -> Finding:
    if resource is None:
        return ok("open files", "not limited here")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < 1024:
        return warn(
            "open files", f"{soft} at once", "many workers end with 'too many open files'", f"ulimit -n {FILES}"
        )
    return ok("open files", f"{soft} at once")
