"""Where the page finds its videos: inside itself, in a folder of copies, or in the runs' own folders."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from handeye.errors import UserError
from handeye.records import write_bytes
from handeye.report.load import Shown


@dataclass(kw_only=True)
class Shelf:
    """The videos of a page, by the id of their episode."""

    found: dict[str, dict[str, str]] = field(default_factory=dict)
    """`{"href": ...}`, or `{"inside": ...}`: the id of the element that holds its base64."""

    inside: dict[str, str] = field(default_factory=dict)
    """Element id -> base64."""

    megabytes: float = 0.0
    """Of those inside."""

    copied: int = 0
    linked: int = 0

    def __str__(self) -> str:
        """What the reader must know to keep them."""
        if not self.found:
            return "These runs left no videos (--videos all, or failures)."
        if self.copied:
            return f"The page loads its {self.copied} videos from the folder beside it when they are looked at."
        if not self.linked:
            return f"All {len(self.inside)} videos are inside this page ({self.megabytes:.1f} MB)."
        return (
            f"{len(self.inside)} videos are inside this page ({self.megabytes:.1f} MB), failures first; the other "
            f"{self.linked} are linked, so keep the page beside its runs, or make it with --assets."
        )


def shelve(
    shown: Sequence[Shown], *, page: Path, limit: float, assets: Path | None = None, first: Set[str] = frozenset()
) -> Shelf:
    """`limit`: megabytes of files inside (the page needs a third more: base64). `first`: episodes worth having inside
    before others, besides failures."""
    shelf, left = Shelf(), limit * 1e6
    for each, id_, path in sorted(_films(shown), key=lambda film: _rank(film, first)):
        if assets is not None:
            copy = assets / "videos" / _folder(each) / path.name
            _copy(path, copy)
            shelf.copied += 1
            shelf.found[id_] = {"href": _link(copy, page)}
        elif (size := path.stat().st_size) <= left:
            left -= size
            name = f"film{len(shelf.inside)}"
            shelf.inside[name] = base64.b64encode(path.read_bytes()).decode()
            shelf.megabytes += size / 1e6
            shelf.found[id_] = {"inside": name}
        else:
            shelf.linked += 1
            shelf.found[id_] = {"href": _link(path, page)}
    return shelf


Film = tuple[Shown, str, Path]


def _films(shown: Sequence[Shown]) -> Iterator[Film]:
    for each in shown:
        for result in each.recorded:
            if path := each.video(result.episode):
                yield each, each.id(result.episode), path


def _rank(film: Film, first: Set[str]) -> int:
    """One learns more from a failure, and from what sets two policies apart."""
    each, id_, _ = film
    outcome = each.run.results[id_.partition("|")[2]].outcome
    return 0 if outcome == "failure" else 1 if id_ in first else 2


def _folder(each: Shown) -> str:
    return f"{each.number}-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", each.label).strip("-.")[:60]


def _copy(path: Path, copy: Path) -> None:
    """Unless it is there: a page is made again while a run goes on, and its videos do not change."""
    try:
        content = path.read_bytes()
        if copy.is_file() and copy.read_bytes() == content:
            return
    except OSError as error:
        raise UserError(f"Could not read {path}.", why=str(error), fix="check the folder, then run it again") from None
    write_bytes(copy, content)


def _link(path: Path, page: Path) -> str:
    return quote(os.path.relpath(path, page.parent))
