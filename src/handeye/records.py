"""Files that are whole or absent, digests, and where a result came from."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from handeye.errors import UserError


def write_bytes(path: Path, content: bytes) -> None:
    """Readers see the old file or the new one, never half of one, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(
            f"Could not write {path}.",
            why=str(error),
            fix="free some space or choose another folder, then run it again",
        ) from error


def write_json(path: Path, value: object) -> None:
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def read_json(path: Path, *, what: str) -> Any:
    """`what` names the file in the error: "the run's plan", "a checkpoint manifest"."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.", why=f"it should be {what}", fix="check the path") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read as {what}.", why=_not_json(error), fix="check the path, or make it again"
        ) from None


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Add one JSON line and put it on the disk. A last line that a kill cut short is removed first."""
    line = (json.dumps(value, sort_keys=True) + "\n").encode()
    try:
        with path.open("ab") as file:
            if file.tell() and not _ends_with_newline(path):
                _cut_torn_line(path)
            file.seek(0, os.SEEK_END)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(
            f"Could not append to {path}.", why=str(error), fix="free some space, then run the same command again"
        ) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete JSON lines of a file; a torn last line (a kill while writing) is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    values = []
    for number, line in enumerate(lines, start=1):
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path} line {number} is not JSON.",
                why=_not_json(error),
                fix="the file was edited or damaged: restore it, or delete that line",
            ) from None
    return values


def _not_json(error: Exception) -> str:
    return "its JSON is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _cut_torn_line(path: Path) -> None:
    content = path.read_bytes()
    os.truncate(path, content.rfind(b"\n") + 1)


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: object) -> str:
    """Of the canonical JSON text: sorted keys, no blanks."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def provenance(packages: Iterable[str] = ("numpy", "mujoco", "torch")) -> dict[str, Any]:
    """Version, git commit and state, packages, machine and command line: the means to repeat a result."""
    return {
        "handeye": metadata.version("handeye"),
        "git": _git(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """None where the program was installed from a wheel."""
    here = Path(__file__).parent
    try:

        def ask(*args: str) -> str:
            return subprocess.run(
                ["git", "-C", str(here), *args], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()

        if not Path(ask("rev-parse", "--show-toplevel"), "src", "handeye").is_dir():
            return None
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
