"""`handeye data convert`: any format into any other, by many workers, with every step and episode accounted for.

    .DST.part/plan.json        what is converted how; a later call with the same plan goes on from here
    .DST.part/parts/000000     one file per episode, in the writer's own form
    .DST.part/parts/000000.json    what became of it: steps kept and dropped, or why it is left out
    .DST.part/set/             assembled from the parts in order, then renamed to DST

An episode's part is a function of the episode and the plan alone, so the bytes of DST do not depend on the number of
workers or on what was interrupted when.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from handeye.console import progress, say, table
from handeye.data.config import ConvertConfig
from handeye.data.convert.account import Account
from handeye.data.convert.noops import moving
from handeye.data.convert.writers import make_writer
from handeye.data.source import EpisodeRef, Source, Writer, open_source
from handeye.data.workers import HANG_AFTER, MOST_MEMORY
from handeye.distributed.crew import Ask, Crew
from handeye.distributed.jobs import Finished
from handeye.errors import UserError
from handeye.protocols.protocol import differences
from handeye.records import provenance, read_json, sha256_json, write_json
from handeye.transfer.lock import alone
from handeye.types import Episode

ACCOUNT = "handeye.json"
"""In the finished set: where it came from, and what became of every episode."""


def run(config: ConvertConfig) -> Path:
    """Returns DST. Raises UserError where it exists already or an episode cannot be read."""
    if config.target.exists():
        raise UserError(f"{config.target} exists already.", fix="choose another folder, or delete it")
    source = open_source(config.root)
    writer = make_writer(config)
    if config.replay:
        from handeye.data.replay.start import start_of  # here: nothing else needs the simulator

        start_of(source, source.episodes[0], suite=config.suite)  # what cannot work for any is said before work begins
    _say_what_is_lost(source, writer)
    work = config.target.with_name(f".{config.target.name}.part")
    with alone(work, fix="choose another folder"):
        if config.target.exists():  # made by the process that was waited for
            return config.target
        _claim(work, _plan(config, source))
        accounts = _encode(config, source, work)
        kept = [number for number, account in enumerate(accounts) if account.kept]
        if not kept:
            raise UserError(
                f"No episode of {config.root} is left.",
                why="; ".join(sorted({account.reason for account in accounts})),
                fix="look at the source: handeye data verify",
            )
        made = work / "set"
        shutil.rmtree(made, ignore_errors=True)
        say(f"assembling {len(kept)} episodes")
        writer.assemble([_part(work, number) for number in kept], made)
        write_json(made / ACCOUNT, _account(config, source, accounts))
        made.replace(config.target)
        shutil.rmtree(work, ignore_errors=True)
    _tell(config, accounts)
    return config.target


def _plan(config: ConvertConfig, source: Source) -> dict[str, Any]:
    """All that decides the bytes."""
    options = {name: value for name, value in asdict(config).items() if name not in ("root", "target", "workers")}
    files = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in source.files]
    digest = sha256_json([files, [ref.id for ref in source.episodes]])
    versions = {name: value for name, value in provenance(()).items() if name in ("handeye", "git")}
    return {
        "source": digest,
        "episodes": len(source.episodes),
        "options": json.loads(json.dumps(options, default=str)),
        **versions,
    }


def _claim(work: Path, plan: Mapping[str, Any]) -> None:
    path = work / "plan.json"
    if not path.exists():
        write_json(path, plan)
    elif differing := list(differences(read_json(path, what="a conversion's plan"), plan)):
        raise UserError(
            f"{work} holds the beginning of another conversion.",
            why="there | asked for now: " + "; ".join(differing),
            fix=f"finish that one, or delete {work}",
        )


def _part(work: Path, number: int) -> Path:
    return work / "parts" / f"{number:06d}"


def _encode(config: ConvertConfig, source: Source, work: Path) -> list[Account]:
    """Every episode's part, and what became of it."""
    total = len(source.episodes)
    left = [number for number in range(total) if not _part(work, number).with_suffix(".json").exists()]
    if len(left) < total:
        say(f"{total - len(left)} episodes are there already, {len(left)} to go")
    (work / "parts").mkdir(exist_ok=True)
    with progress("converting", total, done=total - len(left)) as advance:

        def done(ended: Finished[int, None]) -> None:
            if ended.error is not None:
                raise UserError(
                    f"{config.root}: {source.episodes[ended.job].id} could not be converted.",
                    why=ended.error.strip().splitlines()[-1],
                    fix="look at it (handeye data verify); the same command goes on from here",
                )
            advance()

        if config.workers == 1:
            convert = _make(_Setup(config, work), _no_question)
            for number in left:
                convert(number)
                advance()
        elif left:
            Crew(
                make=_make, setup=_Setup(config, work), workers=config.workers, tries=1, hang_after=HANG_AFTER,
                things="episodes", log="the message", memory=MOST_MEMORY,
            ).each(left, done)  # fmt: skip
    return [Account(**read_json(_part(work, n).with_suffix(".json"), what="an account")) for n in range(total)]


@dataclass(frozen=True)
class _Setup:
    config: ConvertConfig
    work: Path


def _make(setup: _Setup, ask: Ask) -> Callable[[int], None]:
    """For the crew: source and writer are made once in each worker."""
    source, writer = open_source(setup.config.root), make_writer(setup.config)
    again = _again(setup.config, source) if setup.config.replay else None

    def convert(number: int) -> None:
        ref = source.episodes[number]
        changed, account = again(ref) if again else change(source.load(ref), setup.config)
        part = _part(setup.work, number)
        if changed is not None:
            writer.encode(changed, part)
        write_json(part.with_suffix(".json"), asdict(account))  # last: it says that the part is whole

    return convert


def _again(config: ConvertConfig, source: Source) -> Callable[[EpisodeRef], tuple[Episode | None, Account]]:
    from handeye.data.convert.regenerate import Regenerator  # here: nothing else needs the simulator

    maker = Regenerator(source, size=config.camera_size, suite=config.suite)

    def again(ref: EpisodeRef) -> tuple[Episode | None, Account]:
        return maker.make(ref, drop_no_ops=config.drop_no_ops)

    return again


def _no_question(question: object) -> object:
    raise AssertionError("nobody asks here")


def change(episode: Episode, config: ConvertConfig) -> tuple[Episode | None, Account]:
    """The episode as it is to be written (None: left out), and its account."""
    account = Account(id=episode.id, steps=len(episode), kept=len(episode))
    if config.successes and episode.success is False:
        return None, replace(account, kept=0, reason="does not end in success")
    if config.drop_no_ops:
        kept = moving(episode.actions)
        account = replace(account, kept=int(kept.sum()), no_ops=int((~kept).sum()))
        if not kept.any():
            return None, replace(account, reason="nothing but no-ops")
        episode = _rows(episode, kept)
    return episode, account


def _rows(episode: Episode, kept: Any) -> Episode:
    return replace(
        episode,
        images={name: frames[kept] for name, frames in episode.images.items()},
        proprio=episode.proprio[kept],
        actions=episode.actions[kept],
        states=None if episode.states is None else episode.states[kept],
        joints=None if episode.joints is None else episode.joints[kept],
    )


def _account(config: ConvertConfig, source: Source, accounts: list[Account]) -> dict[str, Any]:
    return {
        "source": {"format": source.stored.format, "version": source.stored.version, "files": len(source.files)},
        "options": {"to": config.to, "drop_no_ops": config.drop_no_ops, "successes": config.successes},
        "episodes": [asdict(account) for account in accounts],
    }


def _say_what_is_lost(source: Source, writer: Writer) -> None:
    """Before the work, not after it."""
    if writer.drops:
        say(f"{writer.format} cannot hold, and this leaves out: {', '.join(writer.drops)}")
    if source.stored.observed == "after":
        say(
            "the source was observed after its actions: of each episode the first action and the last view are left out"
        )


def _tell(config: ConvertConfig, accounts: list[Account]) -> None:
    left_out: dict[str, int] = {}
    for account in accounts:
        if account.reason:
            left_out[account.reason] = left_out.get(account.reason, 0) + 1
    kept = [account for account in accounts if account.kept]
    rows: list[list[object]] = [
        ["written", len(kept), sum(account.kept for account in kept)],
        *(
            [f"left out: {reason}", count, sum(a.steps for a in accounts if a.reason == reason)]
            for reason, count in sorted(left_out.items())
        ),
        ["no-ops dropped", "", sum(account.no_ops for account in kept)],
        ["in the source", len(accounts), sum(account.steps for account in accounts)],
    ]
    table("", ["", "episodes", "steps"], rows)
    say(f"{config.target} (every episode: {config.target / ACCOUNT})")
