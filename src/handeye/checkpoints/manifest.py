"""manifest.json: what a checkpoint is. Written last: a folder without one is only the start of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from handeye.conventions.plain import from_plain, to_plain
from handeye.conventions.spec import Specs
from handeye.data.pipeline.pipeline import Pipeline
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics
from handeye.data.xvr.form import Form
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

    def vocabularies(self) -> tuple[Vocabulary, ...]:
        """Files of tokenizers that belong into the folder."""
        return tuple(self.pipeline.vocabularies())

    def to_json(self) -> dict[str, Any]:
        return {
            **_plain(self),
            "specs": self.specs.to_json(),
            "pipeline": self.pipeline.to_json(),
            "statistics": self.statistics.to_json(),
            "merged": self.merged,
        }


@dataclass(frozen=True, kw_only=True)
class Answering:
    """The same of a model that answers questions and does not act: no specs, pipeline or statistics of a robot, but the
    form in which it is asked."""

    family: str
    config: Mapping[str, Any]
    files: Mapping[str, File]
    tensors: int
    form: Form
    step: int
    provenance: Mapping[str, Any]

    def vocabularies(self) -> tuple[Vocabulary, ...]:
        return (self.form.vocabulary,)

    def to_json(self) -> dict[str, Any]:
        return {**_plain(self), "form": to_plain(self.form)}


def _plain(manifest: Manifest | Answering) -> dict[str, Any]:
    """What both kinds have."""
    return {
        "format": FORMAT,
        "family": manifest.family,
        "config": dict(manifest.config),
        "files": {name: asdict(file) for name, file in manifest.files.items()},
        "tensors": manifest.tensors,
        "step": manifest.step,
        "provenance": dict(manifest.provenance),
    }


def answers_questions(folder: Path) -> bool:
    """Whether a checkpoint of ours is of the kind that answers, as far as its manifest can be read."""
    return (folder / FILE).is_file() and "form" in _content(folder)


def read(folder: Path) -> Manifest:
    """Checked field by field; the files it names are checked by `verify`."""
    value, where = _content(folder), str(folder / FILE)
    if "form" in value:
        raise UserError(
            f"{folder} answers questions and does not act.",
            why=f"it is a {value.get('family')} without action expert, pipeline or statistics of a robot",
            fix="put it under a policy first: `handeye merge-vlm BASE TUNED OUT`; or ask it: `handeye evaluate-vqa`",
        )
    _check(value, Manifest, where)
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


def read_answering(folder: Path) -> Answering:
    """As `read`, of a model that answers."""
    value, where = _content(folder), str(folder / FILE)
    if "form" not in value:
        raise UserError(
            f"{folder} acts and does not answer questions.",
            why=f"it is a policy ({value.get('family')})",
            fix="take the model that reads out of it: `handeye extract-vlm`",
        )
    _check(value, Answering, where)
    return Answering(
        family=value["family"],
        config=value["config"],
        files={name: _file(name, file, where) for name, file in value["files"].items()},
        tensors=value["tensors"],
        form=from_plain(Form, value["form"], what=f"the form in {where}").located(folder),
        step=value["step"],
        provenance=value["provenance"],
    )


def _content(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    if not path.is_file():
        raise UserError(
            f"{folder} is not a checkpoint.",
            why=f"it has no {FILE}" if folder.is_dir() else "there is no such folder",
            fix="give a published checkpoint, a finished run of `handeye train` or one of its saves; `handeye inspect "
            f"{folder}` says what this is",
        )
    value = read_json(path, what="a checkpoint's manifest")
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        found = value.get("format") if isinstance(value, dict) else value
        raise _bad(str(path), f"its format is {found!r:.60}, this program reads '{FORMAT}'")
    return value


def _check(value: Mapping[str, Any], kind: type[Manifest] | type[Answering], where: str) -> None:
    wanted = {"format", *(field.name for field in fields(kind))}
    if differing := sorted(wanted ^ set(value)):
        raise _bad(where, f"missing or unknown: {', '.join(differing)}")
    for name, expected in KINDS.items():
        if name in value and type(value[name]) is not expected:
            raise _bad(where, f"'{name}' should be {expected.__name__}, is {value[name]!r:.60}")


def verify(folder: Path, files: Mapping[str, File], *, digests: bool = True) -> None:
    """Each file is there, inside the folder, and has the bytes that were saved. Every one that differs is listed.
    Without `digests` sizes alone are compared."""
    wrong = []
    for name, file in files.items():
        path = folder / name
        if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
            wrong.append(f"{name} is or passes through a link")
        elif not path.is_file():
            wrong.append(f"{name} is missing")
        elif path.stat().st_size != file.bytes:
            wrong.append(f"{name} has {path.stat().st_size} bytes, not {file.bytes}")
        elif digests and sha256_file(path) != file.sha256:
            wrong.append(f"{name} has other content than was saved (sha256)")
    if wrong:
        raise UserError(f"The checkpoint {folder} is damaged.", why="; ".join(wrong), fix=REMAKE)


def describe(folder: Path, names: list[str], *, digests: bool = True) -> dict[str, File]:
    def digest(path: Path) -> str:
        return sha256_file(path) if digests else ""

    return {n: File(bytes=(folder / n).stat().st_size, sha256=digest(folder / n)) for n in names}


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
