"""`handeye evaluate --out s3://...`: the directory is worked on here, and everything in it is sent there as it comes.

A machine that is lost has sent every episode but the last ones; another one that is given the same command fetches what
is there and goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from handeye.console import say, warn
from handeye.errors import UserError
from handeye.evaluate import plan as plans
from handeye.evaluate.results import EPISODES
from handeye.evaluate.summary import SUMMARY
from handeye.records import read_lines, write_bytes
from handeye.transfer import remote
from handeye.transfer.remote import Mirror

Send = Callable[..., None]
"""Says that these files, by their names in the directory, have changed."""


def working_folder(out: Path) -> Path:
    """Where an evaluation is written on this machine."""
    url = remote.url_of(out)
    return out if url is None else remote.copy_of(url, "written")


def fetch(out: Path, here: Path) -> None:
    """Before the plan is claimed: what others have put there becomes part of the directory here. Nobody's record is
    dropped: an episode that both have is the same one."""
    url = remote.url_of(out)
    if url is None:
        return
    far = remote.elsewhere(url)
    written = far.read(plans.PLAN)
    if written is None:
        if names := sorted(far.names()):
            raise UserError(
                f"{url} is not an evaluation's directory, and not empty.",
                why=f"it has no {plans.PLAN}, but {', '.join(names[:3])}",
                fix="choose another --out",
            )
        return
    if not (here / plans.PLAN).exists():
        write_bytes(here / plans.PLAN, written)
    elif _parsed(written, url) != _parsed((here / plans.PLAN).read_bytes(), str(here)):
        raise UserError(
            f"{url} and its copy here belong to different evaluations.",
            why=f"the {plans.PLAN} in {here} is another one, of something that was at this URL before",
            fix=f"choose another --out; or delete {here}, if nothing in it is needed",
        )
    for name in (EPISODES, plans.SESSIONS):
        _unite(here / name, far.read(name) or b"")


@contextmanager
def sent(out: Path, here: Path) -> Iterator[Send]:
    """Everything that `Send` names has arrived at the end. The plan is sent first: where nothing can be written there,
    that is an error before the first episode."""
    url = remote.url_of(out)
    if url is None:
        yield lambda *names: None
        return
    remote.elsewhere(url).write(plans.PLAN, (here / plans.PLAN).read_bytes())
    say(f"kept at {url}; worked on in {here}")
    mirror = Mirror(url, here)
    mirror.send(*(name for name in (EPISODES, plans.SESSIONS, SUMMARY) if (here / name).exists()))
    try:
        yield mirror.send
    except BaseException:
        try:
            mirror.close()
        except UserError as error:
            warn(str(error))
        raise
    mirror.close()


def _unite(path: Path, there: bytes) -> None:
    """Lines from there, then those that only this machine has."""
    far = there[: there.rfind(b"\n") + 1].splitlines(keepends=True)
    near = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    known = set(far)
    own = [line for line in near if line not in known and line.endswith(b"\n")]
    if far:
        write_bytes(path, b"".join([*far, *own]))
        read_lines(path)  # UserError for what is damaged


def _parsed(content: bytes, where: str) -> object:
    try:
        return json.loads(content)
    except ValueError as error:
        raise UserError(f"{where}: {plans.PLAN} is not JSON.", why=str(error), fix="restore it, or delete it") from None
