"""manifest.json: what a checkpoint is. Written last: a folder without one is only the start of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from handeye.conventions.spec import Specs
from handeye.data.pipeline.pipeline import Pipeline
from handeye.data.statistics import Statistics
from handeye.errors import UserError
from handeye.records import read_json, sha256_file

FILE = "manifest.json"
FORMAT = "handeye-checkpoint-1"
KINDS = {
    "family": str,
    "config": dict,
    "files": dict,
    "tensors": int,
    "merged": bool,
    "step": int,
    "provenance": dict,
}
"""Of the fields that no type of ours reads."""

REMAKE = "the folder was edited, damaged or made by another version: copy it again, or train again"


@dataclass(frozen=True, kw_only=True)
class File:
    """What a file must be for the checkpoint to be the one that was saved."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything about a checkpoint but the numbers themselves."""

    family: str
    config: Mapping[str, Any]
    """Of the family's model."""

    files: Mapping[str, File]
    """Weights and whatever else is needed to answer; names are relative, below the checkpoint's folder."""

    tensors: int
    """In all weight files together."""

    specs: Specs
    pipeline: Pipeline
    statistics: Statistics
    merged: bool
    """An adapter was added into these weights; adding it again would be wrong."""

    step: int
    """Optimizer steps that made these weights."""

    provenance: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "family": self.family,
            "config": dict(self.config),
            "files": {name: asdict(file) for name, file in self.files.items()},
            "tensors": self.tensors,
            "specs": self.specs.to_json(),
            "pipeline": self.pipeline.to_json(),
            "statistics": self.statistics.to_json(),
            "merged": self.merged,
            "step": self.step,
            "provenance": dict(self.provenance),
        }


def read(folder: Path) -> Manifest:
    """Checked field by field; the files it names are checked by `verify`."""
    path = folder / FILE
    if not path.is_file():
        raise UserError(
            f"{folder} is not a checkpoint.",
            why=f"it has no {FILE}" if folder.is_dir() else "there is no such folder",
            fix="give a finished run of `handeye train`, or one of its saves, runs/NAME/checkpoints/step-N",
        )
    value = read_json(path, what="a checkpoint's manifest")
    where = str(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        found = value.get("format") if isinstance(value, dict) else value
        raise _bad(where, f"its format is {found!r:.60}, this program reads '{FORMAT}'")
    wanted = {"format", *(field.name for field in fields(Manifest))}
    if differing := sorted(wanted ^ set(value)):
        raise _bad(where, f"missing or unknown: {', '.join(differing)}")
    kinds = {
        "family": str,
        "config": dict,
        "files": dict,
        "tensors": int,
        "merged": bool,
        "step": int,
        "provenance": dict,
    }
    for name, kind in kinds.items():
        if type(value[name]) is not kind:
            raise _bad(where, f"'{name}' should be {kind.__name__}, is {value[name]!r:.60}")
    return Manifest(
        family=value["family"],
        config=value["config"],
        files={name: _file(name, file, where) for name, file in value["files"].items()},
        tensors=value["tensors"],
        specs=Specs.from_json(value["specs"]),
        pipeline=Pipeline.from_json(value["pipeline"], what=f"the pipeline in {where}").located(folder),
        statistics=Statistics.from_json(value["statistics"], what=f"the statistics in {where}"),
        merged=value["merged"],
        step=value["step"],
        provenance=value["provenance"],
    )


def verify(folder: Path, files: Mapping[str, File]) -> None:
    """Each file is there, inside the folder, and has the bytes that were saved. Every one that differs is listed."""
    wrong = []
    for name, file in files.items():
        path = folder / name
        if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
            wrong.append(f"{name} is or passes through a link")
        elif not path.is_file():
            wrong.append(f"{name} is missing")
        elif path.stat().st_size != file.bytes:
            wrong.append(f"{name} has {path.stat().st_size} bytes, not {file.bytes}")
        elif sha256_file(path) != file.sha256:
            wrong.append(f"{name} has other content than was saved (sha256)")
    if wrong:
        raise UserError(f"The checkpoint {folder} is damaged.", why="; ".join(wrong), fix=REMAKE)


def describe(folder: Path, names: list[str]) -> dict[str, File]:
    return {n: File(bytes=(folder / n).stat().st_size, sha256=sha256_file(folder / n)) for n in names}


def _file(name: str, value: Any, where: str) -> File:
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name or str(pure) != name:
        raise _bad(where, f"the file name {name!r} leads out of the folder or is not plain")
    good = isinstance(value, dict) and set(value) == {"bytes", "sha256"}
    if not good or type(value["bytes"]) is not int or not isinstance(value["sha256"], str):
        raise _bad(where, f"the entry of {name} should have 'bytes' and 'sha256'")
    return File(bytes=value["bytes"], sha256=value["sha256"])


def _bad(where: str, why: str) -> UserError:
    return UserError(f"{where} cannot be used.", why=why, fix=REMAKE)
