"""`handeye fetch demos` and `fetch xvr`: a data set of the hub, or a part of it, in a folder that says what it holds.

A folder has `revision.json` from the first contact on, so that every later download into it is of the same commit, and
`manifest.json` when all that was asked for is there and right: a second run checks the files against it, without the
network. What is unfinished lies beside its place as `.NAME.part`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from handeye import console
from handeye.data.fetch.config import Download, FetchDemosConfig, FetchXvrConfig
from handeye.data.fetch.repositories import Repository, choose, select, surprise, xvr
from handeye.errors import UserError
from handeye.records import read_json, write_json
from handeye.transfer import hub
from handeye.transfer.archives import relative
from handeye.transfer.download import Expected
from handeye.transfer.lock import alone

PINNED, MANIFEST = "revision.json", "manifest.json"
_DATA = {".hdf5", ".parquet", ".mp4", ".tar"}
_OWN = {PINNED, MANIFEST, ".lock"}

Files = dict[str, Expected]


def demos(config: FetchDemosConfig) -> None:
    """`handeye fetch demos`."""
    chosen = choose(config.source, config.suite, config.repo)
    folders = [folder for repository, suites in chosen for folder in fetch(repository, suites, config)]
    if not config.dry_run:
        for folder in dict.fromkeys(folders):
            console.say(f"next: handeye data verify {folder}")


def questions(config: FetchXvrConfig) -> None:
    """`handeye fetch xvr`."""
    parts = ("questions",) if config.questions_only else ("questions", "pictures")
    fetch(xvr(config.repo), parts, config)
    if not config.dry_run:
        console.say(f"next: handeye data verify {config.out / config.repo}")


def fetch(repository: Repository, suites: Sequence[str], config: Download) -> list[Path]:
    """Bring these suites. Returns the folder of each, for whoever reads it next."""
    folder = config.out / repository.name
    with contextlib.nullcontext() if config.dry_run else alone(folder, fix="name another folder with --out"):
        commit = _pinned(folder, repository, config.revision)
        shares = _recorded(folder, repository, suites)
        if shares and (config.dry_run or _all_right(folder, shares, config.workers)):
            _show(repository, commit, folder, shares)
            console.say(f"{'recorded as complete' if config.dry_run else 'complete and right'}: {folder}")
            return [_top(folder, shares[suite]) for suite in suites]
        found = hub.data_set(
            repository.name,
            revision=commit or config.revision or "main",
            otherwise="name another data set of the same layout with --repo, or a mirror with $HF_ENDPOINT",
        )
        shares = {
            suite: {path: found.files[path] for path in select(repository, suite, found.files)} for suite in suites
        }
        _refuse_links(repository, _together(shares))
        for suite, files in shares.items():
            if difference := surprise(repository, suite, list(files)):
                console.warn(difference)
        _show(repository, found.revision, folder, shares)
        if not config.dry_run:
            _bring(found, folder, repository, shares, config)
    return [_top(folder, shares[suite]) for suite in suites]


def _bring(
    found: hub.DataSet, folder: Path, repository: Repository, shares: Mapping[str, Files], config: Download
) -> None:
    files = _together(shares)
    _check_room(folder, files)
    identity = {"repository": repository.name, "revision": found.revision, "asked": config.revision or "main"}
    if not (folder / PINNED).exists():
        write_json(folder / PINNED, identity)
    try:
        with console.progress(f"{repository.name}, {len(files)} files", found.size(list(files)), unit="bytes") as told:
            found.get(list(files), folder, advance=told, workers=config.workers)
    except UserError as error:
        here = sum((folder / path).is_file() for path in files)
        raise UserError(
            error.what,
            why=f"{error.why}; {here} of {len(files)} files are here, and stay",
            fix=error.fix if "same command" in error.fix else f"{error.fix}, then run the same command again",
        ) from None
    old = read_json(folder / MANIFEST, what="a download's manifest") if (folder / MANIFEST).exists() else {}
    parts = {**old.get("parts", {}), **{suite: _to_json(files) for suite, files in shares.items()}}
    endpoint = {"endpoint": hub.endpoint(), "kind": repository.kind}
    write_json(folder / MANIFEST, {**read_json(folder / PINNED, what="a pinned revision"), **endpoint, "parts": parts})
    if strangers := _strangers(folder, {path for part in parts.values() for path in part}):
        console.warn(f"{len(strangers)} files in {folder} are not of the data set, {strangers[0]} for one")
    console.say(f"{repository.name} at {found.revision[:12]}: {len(files)} files, whole and checked, in {folder}")


def _refuse_links(repository: Repository, files: Files) -> None:
    """A link in a repository is listed as a small file that holds a path. Real data is large, and so in LFS."""
    links = [
        path
        for path, expected in files.items()
        if not expected.sha256 and expected.size < 300 and (Path(path).suffix in _DATA or ".tfrecord" in path)
    ]
    if links:
        raise UserError(
            f"{len(links)} data files of {repository.name} are links or stand-ins.",
            why=f"{links[0]} has {files[links[0]].size} bytes, for one",
            fix="name the data set that they lead to with --repo",
        )


def _pinned(folder: Path, repository: Repository, asked: str) -> str:
    """The commit that this folder is of, "" if it is new."""
    if not (folder / PINNED).exists():
        return ""
    pinned = read_json(folder / PINNED, what="the revision that a download was begun with")
    if pinned.get("repository") != repository.name or (asked and asked not in (pinned["asked"], pinned["revision"])):
        raise UserError(
            f"{folder} holds {pinned.get('repository')} at {pinned.get('revision')}.",
            why=f"{repository.name} at {asked or 'main'} is asked for, and a folder holds one state of one data set",
            fix="name another folder with --out",
        )
    return str(pinned["revision"])


def _recorded(folder: Path, repository: Repository, suites: Sequence[str]) -> dict[str, Files]:
    """What the manifest says of these suites; empty where it does not name all of them."""
    if not (folder / MANIFEST).exists():
        return {}
    parts = read_json(folder / MANIFEST, what="a download's manifest").get("parts", {})
    if not set(suites) <= set(parts):
        return {}
    try:
        return {
            suite: {
                relative(path, source=folder / MANIFEST).as_posix(): Expected(**known)
                for path, known in parts[suite].items()
            }
            for suite in suites
        }
    except (TypeError, AttributeError) as error:
        raise UserError(
            f"{folder / MANIFEST} is not a download's manifest.",
            why=str(error),
            fix="delete it, then run the same command again: files that are right are kept",
        ) from None


def _to_json(files: Files) -> dict[str, Any]:
    return {path: {k: v for k, v in asdict(expected).items() if v != ""} for path, expected in files.items()}


def _all_right(folder: Path, shares: Mapping[str, Files], workers: int) -> bool:
    """Every file is there with the recorded digest. Says which is not."""
    files = _together(shares)
    total = sum(expected.size for expected in files.values())

    def problem(path: str) -> str:
        if not (folder / path).is_file():
            return f"{path} is gone"
        wrong = files[path].problem(folder / path)
        return f"{path}: {wrong}" if wrong else ""

    wrong = []
    with ThreadPoolExecutor(workers) as pool, console.progress(f"checking {folder}", total, unit="bytes") as told:
        for path, said in zip(files, pool.map(problem, files), strict=True):
            wrong += [said] if said else []
            told(files[path].size)
    if wrong:
        console.warn(f"{len(wrong)} files in {folder} are brought again: {'; '.join(wrong[:3])}")
    return not wrong


def _check_room(folder: Path, files: Files) -> None:
    def here(path: str) -> int:
        place = folder / path
        found = [p.stat().st_size for p in (place, place.with_name(f".{place.name}.part")) if p.is_file()]
        return max(found, default=0)

    needed = sum(max(0, expected.size - here(path)) for path, expected in files.items())
    if needed > (free := shutil.disk_usage(folder).free):
        raise UserError(
            f"{folder} has no room for this.",
            why=f"{console.size(needed)} are to come, {console.size(free)} are free",
            fix="free some space, or name a folder on another disk with --out",
        )


def _show(repository: Repository, commit: str, folder: Path, shares: Mapping[str, Files]) -> None:
    rows = []
    for suite, files in shares.items():
        here = sum((folder / path).is_file() for path in files)
        size = sum(expected.size for expected in files.values())
        rows.append([suite, len(files), console.size(size), f"{here} files" if here else "-"])
    if repository.mixed:
        rows = [["all, in one set", *rows[0][1:]]]
    elif len(rows) > 1:
        total = sum(expected.size for expected in _together(shares).values())
        rows.append(["together", len(_together(shares)), console.size(total), ""])
    known = f" ({repository.gigabytes:g} GB in all, says {repository.source})" if repository.gigabytes else ""
    title = f"{repository.name} at {commit[:12]}: {repository.about}{known}"
    console.table(title, ("part", "files", "size", f"in {folder}"), rows)


def _strangers(folder: Path, known: Iterable[str]) -> list[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return sorted(path for path in found - set(known) - _OWN if not path.endswith(".part"))


def _together(shares: Mapping[str, Files]) -> Files:
    return {path: expected for files in shares.values() for path, expected in files.items()}


def _top(folder: Path, files: Iterable[str]) -> Path:
    """The folder to read: that of the suite where it has one of its own."""
    tops = {path.split("/")[0] if "/" in path else "" for path in files}
    return folder / tops.pop() if len(tops) == 1 else folder
