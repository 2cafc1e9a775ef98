"""Which data sets of the hub hold LIBERO demonstrations (and XVR), and which of their files belong to which suite.

Names, layouts and counts are from the sources beside them; none was tried against the real hub. What the hub says when
it is asked counts, and a difference from what is known here is told.

LIBERO's own Box archives (LIBERO libero/utils/download_utils.py) are not here: Box tells neither a digest nor a lasting
size of a shared link, so that what came could not be checked, and the same files are in yifengzhu-hf/LIBERO-datasets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from handeye.data.fetch.config import Kind
from handeye.data.verify import known
from handeye.errors import UserError, unknown

FOUR = tuple(known.NO_NOOPS)
"""libero_spatial, libero_object, libero_goal, libero_10."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """One data set of the hub."""

    name: str
    kind: Kind | Literal["xvr"]
    about: str
    suites: Mapping[str, tuple[str, ...]]
    """Suite (or other part) -> patterns of its files; `*` matches slashes as well. The same patterns for several: they
    are mixed in one set, which can only be had as a whole."""

    needs: tuple[str, ...] = ()
    """Patterns that must each match a file of every suite: without these nothing can be read."""

    count: Mapping[str, tuple[str, int]] | None = None
    """Suite -> (pattern, number of files that match it), where that is known."""

    gigabytes: float | None = None
    """Of all suites together, as its source says: to compare with what the hub lists."""

    source: str

    @property
    def mixed(self) -> bool:
        return len(self.suites) > 1 and len(set(self.suites.values())) == 1


_LEROBOT_FILES = ("meta/*", "data/*", "videos/*", "README.md")
_LEROBOT_NEEDS = ("meta/info.json", "data/*.parquet")


def _rlds(suites: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return {suite: (f"{suite}_no_noops/*",) for suite in suites}


def _hdf5(suites: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return {suite: (f"{suite}/*.hdf5",) for suite in suites}


REPOSITORIES: Sequence[Repository] = (
    Repository(
        name="yifengzhu-hf/LIBERO-datasets",
        kind="hdf5",
        about="LIBERO's own files: 50 demonstrations a task, 128 pixels, simulator states",
        suites=_hdf5(known.SUITES),
        count={suite: (f"{suite}/*.hdf5", tasks) for suite, tasks in known.SUITES.items()},
        source="LIBERO libero/utils/download_utils.py, check_libero_dataset: 10, 10, 10, 10 and 90 files",
    ),
    Repository(
        name="openvla/modified_libero_rlds",
        kind="rlds",
        about="without no-ops, 256 pixels, JPEG: what OpenVLA is fine-tuned on",
        suites=_rlds(FOUR),
        needs=("*dataset_info.json", "*features.json", "*.tfrecord*"),
        gigabytes=10.0,
        source="openvla-oft LIBERO.md: four suites, about 10 GB",
    ),
    *(
        Repository(
            name=f"lerobot/{suite}_image",
            kind="lerobot",
            about=f"{suite} without no-ops, 256 pixels, PNG in parquet",
            suites={suite: _LEROBOT_FILES},
            needs=_LEROBOT_NEEDS,
            source=f"third parties' configurations: {known.NO_NOOPS[suite]} episodes",
        )
        for suite in FOUR
    ),
    Repository(
        name="lerobot/libero",
        kind="lerobot",
        about="the four suites in one, LeRobot 3.0, MP4 (lossy)",
        suites=dict.fromkeys(FOUR, _LEROBOT_FILES),
        needs=(*_LEROBOT_NEEDS, "videos/*.mp4"),
        gigabytes=1.9,
        source="huggingface/lerobot pull request 4185",
    ),
    Repository(
        name="HuggingFaceVLA/libero",
        kind="lerobot",
        about="the four suites in one, LeRobot 3.0, PNG in parquet",
        suites=dict.fromkeys(FOUR, _LEROBOT_FILES),
        needs=_LEROBOT_NEEDS,
        gigabytes=69.9,
        source="huggingface/lerobot pull request 4185",
    ),
    Repository(
        name="physical-intelligence/libero",
        kind="lerobot",
        about="the four suites in one, LeRobot 2.0, PNG in parquet: what pi0 and pi0.5 are fine-tuned on",
        suites=dict.fromkeys(FOUR, _LEROBOT_FILES),
        needs=_LEROBOT_NEEDS,
        count=dict.fromkeys(FOUR, ("data/*.parquet", known.ALL_FOUR.episodes)),
        source="openpi training/config.py; meta/info.json: 1,693 episodes, each a file in LeRobot 2.0",
    ),
)


def xvr(name: str) -> Repository:
    """Questions in JSON lines, pictures in tar shards, which are read as they are."""
    return Repository(
        name=name,
        kind="xvr",
        about="questions about several pictures",
        suites={"questions": ("*.jsonl", "README.md"), "pictures": ("*.tar", "images/*")},
        count={"questions": ("*.jsonl", 3)},
        gigabytes=80.0,
        source="XVR's page on the hub: train, valid and xvr_eval.jsonl, about 40 shards of 2 GB",
    )


def choose(kind: Kind, suites: Sequence[str], repo: str) -> list[tuple[Repository, tuple[str, ...]]]:
    """(data set, suites of it), so that every suite is in one of them. UserError where that cannot be."""
    ours = [one for one in REPOSITORIES if one.kind == kind]
    if repo:
        found = [one for one in ours if one.name == repo] or [_like(kind, repo)]
    else:
        found = [one for one in ours if not one.mixed]
    has: dict[str, Repository] = {}
    for one in found:
        for suite in one.suites:
            has.setdefault(suite, one)
    wanted = list(has) if "all" in suites else list(dict.fromkeys(suites))
    for suite in wanted:
        if suite not in has:
            raise unknown(f"suite in {repo or f'the sources of {kind}'}", suite, has, fix="name one of these")
    chosen = [(one, tuple(suite for suite in wanted if has[suite] is one)) for one in found]
    for one, part in chosen:
        if one.mixed and set(part) != set(one.suites):
            raise UserError(
                f"{one.name} cannot be had in part.",
                why=f"it mixes {', '.join(one.suites)} in one set",
                fix="fetch all of it with `--suite all`, or leave --repo out: then each suite comes by itself",
            )
    return [(one, part) for one, part in chosen if part]


def _like(kind: Kind, repo: str) -> Repository:
    """A data set that nobody described: of HDF5 and RLDS one folder per suite, of LeRobot all of it."""
    if other := next((one for one in REPOSITORIES if one.name == repo), None):
        raise UserError(f"{repo} is not of --source {kind}.", fix=f"say --source {other.kind}")
    if kind == "lerobot":
        return Repository(
            name=repo,
            kind=kind,
            about="as LeRobot",
            suites={"all": _LEROBOT_FILES},
            needs=_LEROBOT_NEEDS,
            source="named with --repo",
        )
    suites = {suite: (f"{suite}/*", f"{suite}_no_noops/*") for suite in known.SUITES}
    needs = ("*.hdf5",) if kind == "hdf5" else ("*dataset_info.json", "*features.json", "*.tfrecord*")
    return Repository(name=repo, kind=kind, about=f"as {kind}", suites=suites, needs=needs, source="named with --repo")


def select(repository: Repository, suite: str, files: Iterable[str]) -> list[str]:
    """The files of this suite, sorted. UserError where those that it cannot do without are not there."""
    files = list(files)
    found = sorted(path for path in files if any(fnmatchcase(path, p) for p in repository.suites[suite]))
    lacking = [need for need in repository.needs or ("*",) if not any(fnmatchcase(path, need) for path in found)]
    if lacking := lacking or _shards_that_lack(found):
        folders = sorted({path.split("/")[0] for path in files})
        raise UserError(
            f"{repository.name} has no {suite} as {repository.kind}.",
            why=f"no file of it is like {lacking[0]}; at its top are: {', '.join(folders[:12]) or 'no files'}",
            fix="check --repo, --source and --suite",
        )
    return found


def _shards_that_lack(files: Sequence[str]) -> list[str]:
    """TFDS numbers its shards `-00003-of-00016`."""
    shards = [match for path in files if (match := re.fullmatch(r"(.+)-(\d+)-of-(\d+)", path))]
    there = {match[0] for match in shards}
    wanted = {f"{m[1]}-{number:0{len(m[2])}d}-of-{m[3]}" for m in shards for number in range(min(int(m[3]), 10**5))}
    return sorted(wanted - there)


def surprise(repository: Repository, suite: str, files: Sequence[str]) -> str:
    """What is not as known; empty if it is, or if nothing is known."""
    pattern, count = (repository.count or {}).get(suite, ("", 0))
    found = sum(fnmatchcase(path, pattern) for path in files)
    if found == count:
        return ""
    return f"{repository.name}: {suite} has {found} files like {pattern}; {count} are known ({repository.source})"
