"""What a set's files hold, as SHA-256, without reading tens of gigabytes at every start of a training run.

A digest is of bytes. Of a large set it is remembered under HANDEYE_HOME, and a file is not read again as long as its
size, its modification time and its change time are those of then: the system sets the last one whenever the file is
written to or replaced, and nobody can set it back. Delete HANDEYE_HOME/digests to have everything read again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from handeye import console
from handeye.errors import UserError
from handeye.paths import home
from handeye.records import read_json, sha256_file, write_json

LARGE = 1_000_000_000
"""Bytes of a set from which what was found out about it is kept for the next time. Below, reading is quick."""

SETTLED = 2.0
"""Seconds that a file must have been left alone to be remembered: times on some file systems are that coarse."""

NOTE_EVERY = 30.0
"""Seconds of reading that a kill may cost."""

_BLOCK = 1 << 20


def file_digests(root: Path, files: Sequence[Path]) -> list[str]:
    """SHA-256 of each file of the set `root`."""
    facts = {path: _facts(path) for path in files}
    total = sum(size for size, *_ in facts.values())
    if total < LARGE:
        return [sha256_file(path) for path in files]
    note = home() / "digests" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"
    known = _known(note)
    unread = {path for path in files if _remembered(known, path, facts[path]) is None}
    found, noted = {}, time.monotonic()
    if not unread:
        return [known[str(path)]["sha256"] for path in files]
    with console.progress(f"reading {root} for its digest", sum(facts[p][0] for p in unread), unit="bytes") as advance:
        for path in files:
            found[path] = _remembered(known, path, facts[path]) or _read(path, advance)
            if _facts(path) == facts[path] and time.time() - facts[path][2] / 1e9 > SETTLED:
                known[str(path)] = {"facts": facts[path], "sha256": found[path]}
            if time.monotonic() - noted > NOTE_EVERY:
                _note(note, root, known)
                noted = time.monotonic()
    _note(note, root, {str(path): known[str(path)] for path in files if str(path) in known})
    return [found[path] for path in files]


def _facts(path: Path) -> list[int]:
    """Size, and when it was modified and changed, in nanoseconds."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _remembered(known: dict[str, Any], path: Path, facts: list[int]) -> str | None:
    entry = known.get(str(path))
    return entry["sha256"] if isinstance(entry, dict) and entry.get("facts") == facts else None


def _read(path: Path, advance: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()


def _known(note: Path) -> dict[str, Any]:
    """Nothing where the note is missing or damaged: everything is then read."""
    try:
        files = read_json(note, what="remembered digests")["files"]
        return dict(files)
    except (UserError, KeyError, TypeError, ValueError):
        return {}


def _note(note: Path, root: Path, known: dict[str, Any]) -> None:
    try:
        write_json(note, {"root": os.fspath(root.resolve()), "files": known})
    except (UserError, OSError) as error:
        console.warn(f"the digests of {root} are not remembered, and will be computed again: {error}")
