"""`handeye inspect`, the verb: what a thing is by its bytes, then by what lies in it, then whether it would load.
Only the last needs torch, which is imported then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from handeye.checkpoints.inspect import elsewhere
from handeye.checkpoints.inspect.config import InspectConfig
from handeye.checkpoints.inspect.elsewhere import States
from handeye.checkpoints.inspect.report import Report
from handeye.checkpoints.inspect.signs import sign, stranger, strangers
from handeye.errors import UserError

STATES = (".pruned_init", ".init")
ADAPTER = "adapter_config.json"


def run(config: InspectConfig, path: Path, options: Mapping[str, str], states: States) -> int:
    """`path` and `options` are `config.path` taken apart. Exit code 1: broken or incomplete."""
    found = inspect(path, options, states, digests=config.digests)
    if config.json:
        print(json.dumps(found.to_json(), indent=2))  # noqa: T201 - JSON for another program, not for a person
    else:
        found.show()
    return 0 if found.verdict in ("sound", "unknown") and not found.problems else 1


def inspect(path: Path, options: Mapping[str, str], states: States, *, digests: bool = False) -> Report:
    if not path.exists():
        raise UserError(f"{path} does not exist.", fix="check the path")
    try:
        return _file(path, options, states) if path.is_file() else _folder(path, options, digests=digests)
    except UserError as error:
        return Report(
            path=str(path), verdict="broken", what="something that cannot be read",
            problems=(f"{error.what} {error.why}".strip(),), fix=error.fix,
        )  # fmt: skip


def _file(path: Path, options: Mapping[str, str], states: States) -> Report:
    if path.suffix in STATES:
        return elsewhere.initial_states(path, states)
    if (found := stranger(path)) is not None:
        problem, fix = found
        return Report(
            path=str(path), verdict="broken", what="not what its name says", problems=(f"{path}: {problem}",), fix=fix
        )
    kind = sign(path)
    if kind == "hdf5" or path.suffix == ".hdf5":
        return elsewhere.demonstrations(path)
    if kind == "json":
        return elsewhere.json_file(path)
    if kind in ("zip", "tar", "gzip") or path.suffix in (".zip", ".tar", ".whl"):
        return elsewhere.archive(path)
    if kind in ("safetensors", "torch", "pickle", "npz") or path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        from handeye.checkpoints.inspect import policies, weights

        layout = policies.layout_of(path)
        found_ = weights.report(path)
        if layout and not found_.code:
            return policies.report(path, layout, options, digests=False)
        return found_ if kind != "torch" else _whole(path, found_)
    return Report(path=str(path), verdict="unknown", what=f"a file of a kind that is not known here ({kind})")


def _whole(path: Path, found: Report) -> Report:
    """torch does not look at its archives' checksums."""
    if found.code:
        return found
    from handeye.checkpoints.files import read_pt

    read_pt(path, mapped=True)
    return found


def _folder(path: Path, options: Mapping[str, str], *, digests: bool) -> Report:
    from handeye.checkpoints.inspect import policies

    layout = policies.layout_of(path)
    bad = strangers(path)
    if bad and layout != "handeye":
        problems, fixes = zip(*bad, strict=True)
        named = f"{layout or 'a folder'}, with files that are not what their names say"
        return Report(path=str(path), verdict="broken", what=named, layout=layout, problems=problems, fix=fixes[0])
    if layout:
        return policies.report(path, layout, options, digests=digests)
    if (path / "final").is_dir() and policies.layout_of(path / "final"):
        return policies.report(path / "final", "handeye", options, digests=digests)
    if (found := elsewhere.run(path)) is not None:
        return found
    if (path / ADAPTER).is_file():
        return policies.adapter(path)
    if (found := policies.several(path)) is not None:
        return found
    try:
        return elsewhere.data(path)
    except UserError as error:
        if any(path.glob("*.safetensors")):
            return policies.backbone(path)
        return Report(
            path=str(path), verdict="broken", what="a folder of no kind that is known here",
            problems=(f"{error.what} {error.why}",), fix="give a checkpoint, a run, or a set of demonstrations",
        )  # fmt: skip
