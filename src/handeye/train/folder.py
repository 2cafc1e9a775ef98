"""The folder of a run: one run owns it, one process works in it, and the same command goes on in it."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from handeye.checkpoints.manifest import File, describe, verify
from handeye.console import warn
from handeye.errors import UserError
from handeye.records import read_json, write_json

CONFIG, DATA = "config.json", "data.json"
STATE, TENSORS = "training/state.json", "state.safetensors"
"""Within a save: what training goes on from."""

Found = tuple[Path, Mapping[str, Any]]


@contextmanager
def claim(run: Path, config: Any, *, ignored: Collection[str]) -> Iterator[None]:
    """The folder is this run's: new, or begun by the same command; and nobody else is at it now. `ignored`: settings
    (a dataclass's fields) that do not change the result."""
    if run.exists() and not run.is_dir():
        raise UserError(f"{run} is a file.", fix="name a folder with --out")
    if (run / CONFIG).exists():
        _require_same(run, read_json(run / CONFIG, what="a run's configuration"), to_json(config), ignored)
    elif run.is_dir() and any(path.name not in (".lock", DATA) for path in run.iterdir()):
        raise UserError(
            f"{run} is not the folder of a training run.",
            why=f"it is not empty and has no {CONFIG}",
            fix="name a new folder with --out",
        )
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # freed by the kernel however this process ends
        except OSError:
            raise UserError(f"{run} is in use by another process.", fix="wait for it, or use another --out") from None
        yield


def require_same_data(run: Path, found: Mapping[str, Any]) -> None:
    """Data that was added, lost or changed since the run began would make another run of it."""
    if (run / DATA).exists():
        _require_same(run, read_json(run / DATA, what="a run's data"), found, ())


def sign(run: Path, config: Any, data: Mapping[str, Any]) -> None:
    """From here on the folder belongs to this run. Not earlier: a setting that turned out to be wrong may be mended."""
    write_json(run / DATA, data)
    write_json(run / CONFIG, to_json(config))


def to_json(config: Any) -> dict[str, Any]:
    """Of a dataclass."""
    return dict(json.loads(json.dumps(asdict(config), default=str)))


def saves(run: Path) -> list[Path]:
    """The newest first."""
    found = [path for path in (run / "checkpoints").glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def write_state(save: Path, state: Mapping[str, Any]) -> None:
    """After the tensors, whose digest it has."""
    write_json(save / STATE, {**state, "file": asdict(describe(save / "training", [TENSORS])[TENSORS])})


def newest_whole(run: Path, check: Callable[[Path, Mapping[str, Any]], None], *, aloud: bool) -> Found | None:
    """The newest save whose files are as they were written, and its state; None if there is none. `check(save, state)`
    looks at what else is in it. A damaged one is passed over, and said `aloud`."""
    for save in saves(run):
        try:
            state = read_json(save / STATE, what="a save to go on from")
            verify(save / "training", {TENSORS: File(**state["file"])})
            check(save, state)
        except (UserError, KeyError, TypeError) as error:
            if aloud:
                warn(f"{save} cannot be used to go on from, an older save is tried.\n{error}")
            continue
        return save, state
    return None


def _require_same(run: Path, there: Mapping[str, Any], here: Mapping[str, Any], ignored: Collection[str]) -> None:
    before, now = dict(_flat(there)), dict(_flat(here))
    names = sorted(name for name in before.keys() | now.keys() if name not in ignored)
    differing = [name for name in names if before.get(name) != now.get(name)]
    if differing:
        raise UserError(
            f"{run} belongs to another run.",
            why="; ".join(f"{n}: {before.get(n, 'absent')} there, {now.get(n, 'absent')} here" for n in differing),
            fix="use another --out, or the same settings and data",
        )


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, part in value.items():
        if isinstance(part, dict):
            yield from _flat(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", part
