"""What is no checkpoint: demonstrations, questions, statistics, archives, initial states, runs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from handeye.checkpoints.inspect import pickles
from handeye.checkpoints.inspect.report import Report
from handeye.data.source import Source, format_of, open_source
from handeye.data.statistics import Statistics, from_norm_stats
from handeye.data.xvr.verify import verify as verify_xvr
from handeye.errors import UserError
from handeye.transfer.archives import unpack

LOOKED_AT = 8
"""Demonstrations that are read whole, spread over the set. `handeye data verify` reads all."""

MANY = 32 << 20
"""Bytes of an archive that is unpacked, and of questions whose pictures are decoded, to look at them."""

States = Callable[[Path], Any]
"""Reads a file of initial states: the simulator's own, which is handed in."""


def data(path: Path) -> Report:
    """Of what trains or is asked: demonstrations or questions. UserError where it is neither."""
    asks = path.suffix == ".jsonl" or (path.is_dir() and any(path.glob("*.jsonl")) and not (path / "meta").is_dir())
    return questions(path) if asks else demonstrations(path)


def demonstrations(path: Path) -> Report:
    """Of a folder or file in a format of demonstrations. UserError where it is none."""
    kind = format_of(path)
    try:
        source = open_source(path)
        _read_some(source)
    except UserError as error:
        return Report(
            path=str(path), verdict="broken", what=f"demonstrations ({kind}) with a defect", layout=kind,
            problems=(f"{error.what} {error.why}".strip(),), fix=error.fix, command=f"handeye data verify {path}",
        )  # fmt: skip
    image, tasks = source.specs.image, {ref.prompt for ref in source.episodes}
    steps = sum(ref.length for ref in source.episodes)
    return Report(
        path=str(path),
        verdict="sound",
        what=f"demonstrations: {len(source.episodes)} episodes, {steps:,} steps, {len(tasks)} tasks",
        layout=f"{source.stored.format} {source.stored.version}",
        conventions={
            "pictures": f"{' and '.join(image.cameras)}, {image.height} x {image.width}",
            "gripper": source.specs.action.gripper.value,
        },
        notes=(f"{min(LOOKED_AT, len(source.episodes))} of them were read whole", *source.warnings),
        missing=(),
        command=f"handeye data verify {path}",
    )


def _read_some(source: Source) -> None:
    count = len(source.episodes)
    for index in sorted({round(i * (count - 1) / max(1, LOOKED_AT - 1)) for i in range(LOOKED_AT)} & set(range(count))):
        ref = source.episodes[index]
        source.load(ref)
        source.frames(ref, [0])


def questions(path: Path) -> Report:
    files = [path] if path.is_file() else sorted(path.glob("*.jsonl"))
    many = sum(file.stat().st_size for file in files) > MANY
    found = verify_xvr(path, quick=many)
    problems = tuple(f"{each.check}: {each.found}" for each in found if each.verdict == "fail")
    first = next((each.fix for each in found if each.verdict == "fail"), "")
    read = "pictures were looked up and not decoded" if many else "every picture was decoded"
    return Report(
        path=str(path), verdict="broken" if problems else "sound", what="questions about pictures (XVR)", layout="xvr",
        problems=problems, fix=first, command=f"handeye data verify {path}",
        notes=(read, *(f"{each.check}: {each.found}" for each in found if each.verdict == "warn")),
    )  # fmt: skip


def archive(path: Path) -> Report:
    """Every member is judged before the first byte is written; a small archive is also unpacked, into a folder that is
    removed again."""
    whole, names = path.stat().st_size < MANY, []

    def select(name: str) -> str | None:
        names.append(name)
        return name if whole else None

    try:
        with tempfile.TemporaryDirectory() as folder:
            unpack(path, Path(folder) / "unpacked", select=select)
    except UserError as error:
        return Report(
            path=str(path), verdict="broken", what="an archive that is refused", layout="archive",
            problems=(f"{error.what} {error.why}",), fix=error.fix,
        )  # fmt: skip
    return Report(
        path=str(path), verdict="sound", what=f"an archive of {len(names)} files", layout="archive",
        notes=() if whole else ("its list alone was judged",), fix="unpack it, and give the folder",
    )  # fmt: skip


def initial_states(path: Path, read: States) -> Report:
    code = tuple(_code(path))
    try:
        states = read(path)
    except UserError as error:
        return Report(
            path=str(path), verdict="broken", what="a file of initial states that is refused", layout="init states",
            problems=(f"{error.what} {error.why}",), code=code, fix=error.fix,
        )  # fmt: skip
    return Report(
        path=str(path), verdict="sound", what=f"{states.shape[0]} initial states of {states.shape[1]} numbers",
        layout="init states",
    )  # fmt: skip


def _code(path: Path) -> list[str]:
    try:
        return pickles.code_in(pickles.names_in(pickles.pickle_of(path)))
    except Exception:  # torn pickles are told by who reads them
        return []


def run(path: Path) -> Report | None:
    """A folder of `handeye train` or `handeye evaluate`, where it is one."""
    if (path / "plan.json").is_file() and (path / "episodes.jsonl").is_file():
        done = (path / "summary.json").is_file()
        return Report(
            path=str(path),
            verdict="sound" if done else "incomplete",
            what="an evaluation" + ("" if done else " that did not finish"),
            layout="evaluation",
            missing=() if done else ("summary.json, which is written last",),
            fix="" if done else "run the same `handeye evaluate` again: it goes on",
            command=f"handeye report {path}",
        )
    if not ((path / "config.json").is_file() and (path / "metrics.jsonl").exists()):
        return None
    steps = sorted(each.name for each in (path / "checkpoints").glob("step-*") if each.is_dir())
    return Report(
        path=str(path),
        verdict="incomplete",
        what="a training run that has not finished",
        layout="run",
        notes=(f"saves: {', '.join(steps)}",) * bool(steps),
        missing=("final/, which is written last",),
        fix="run the same `handeye train` again: it goes on",
        command=f"handeye inspect {path / 'checkpoints' / steps[-1]}" if steps else "",
    )


def json_file(path: Path) -> Report:
    """Statistics, or what other JSON says of itself."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        return _broken(path, "a JSON file", str(error))
    if not isinstance(value, dict) or not value:
        return Report(path=str(path), verdict="unknown", what="a JSON file of no kind that is known here")
    if "norm_stats" in value and isinstance(value["norm_stats"], dict) and "actions" in value["norm_stats"]:
        return _statistics(path, ["openpi's"], lambda: from_norm_stats(value, what=str(path)))
    if all(isinstance(part, dict) and "action" in part for part in value.values()):
        return _statistics(
            path,
            [str(name) for name in value],
            lambda: [Statistics.from_json(part, what=f"{path}: {name}") for name, part in value.items()],
        )
    named = {"model_type": "a model's configuration", "peft_type": "an adapter's", "files": "a checkpoint's manifest"}
    kind = next((what for key, what in named.items() if key in value), "")
    return Report(
        path=str(path), verdict="unknown", what=kind or "a JSON file of no kind that is known here",
        fix="give the folder that it lies in", command=f"handeye inspect {path.parent}",
    )  # fmt: skip


def _statistics(path: Path, keys: Sequence[str], read: Callable[[], object]) -> Report:
    try:
        read()
    except UserError as error:
        return _broken(path, "statistics of actions", f"{error.what} {error.why}", error.fix)
    return Report(
        path=str(path), verdict="sound", what="statistics of actions", layout="statistics", statistics=tuple(keys),
        fix="keep it beside the weights that were trained with it",
    )  # fmt: skip


def _broken(path: Path, what: str, why: str, fix: str = "get or make it again") -> Report:
    return Report(
        path=str(path), verdict="broken", what=f"{what} that cannot be read", problems=(f"{path}: {why}",), fix=fix
    )
