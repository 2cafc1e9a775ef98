"""The sets of demonstrations and checkpoints that were named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from handeye.doctor.findings import Finding, of
from handeye.errors import UserError

TOPIC = "given"
ok, warn, fail = of(TOPIC)


def check(data: Sequence[Path], checkpoints: Sequence[str]) -> Iterator[Finding]:
    for path in data:
        yield _set(path)
    for address in checkpoints:
        yield _checkpoint(address)


def _set(path: Path) -> Finding:
    """As `handeye inspect` sees it; this side needs no torch."""
    try:
        from handeye.checkpoints.inspect.elsewhere import data

        found = data(path)
    except (UserError, ImportError) as error:
        fix = error.fix if isinstance(error, UserError) else "pip install 'handeye[data]'"
        return fail(str(path), str(error).splitlines()[0], "nothing can be trained on it", fix)
    if found.problems:
        return fail(str(path), found.problems[0][:300], "nothing can be trained on it", found.fix)
    if len(found.notes) > 1:
        return warn(str(path), f"{found.what}; {found.notes[1]}", "it may not be what it says", found.command)
    return ok(str(path), f"{found.what}; `{found.command}` reads all of it")


def _checkpoint(address: str) -> Finding:
    """As `handeye inspect` sees it, in a process of its own: that side needs torch."""
    command = [sys.executable, "-m", "handeye.cli", "inspect", address, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")
        return fail(address, last[:200], "it cannot be evaluated", f"handeye inspect '{address}'")
    if found["verdict"] == "sound":
        return ok(address, found["what"])
    told = (*found["problems"], *found["missing"], found["what"])
    return fail(address, told[0][:300], "it cannot be evaluated as it is", found["fix"])
