"""The one exception that is for people: what happened, why, and what to type next.

`UserError` is printed without a traceback and exits 2 (set HANDEYE_TRACEBACK=1 to see it). Anything else that is
raised is a bug of ours and keeps its traceback. `assert` is for what we believe, never for input.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_NAMES = 40
"""That are listed when a name is unknown."""


class UserError(Exception):
    """Something the user can mend. `fix` has no default: without a remedy it is not a user error."""

    def __init__(self, what: str, *, why: str = "", fix: str) -> None:
        super().__init__("\n".join(part for part in (what, why and f"  why: {why}", f"  fix: {fix}") if part))
        self.what, self.why, self.fix = what, why, fix

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.what, self.why, self.fix)  # keyword-only arguments do not survive pickling by default


def _rebuild(what: str, why: str, fix: str) -> UserError:
    return UserError(what, why=why, fix=fix)


def unknown(kind: str, name: object, known: Iterable[object], *, fix: str) -> UserError:
    """The error for a name that does not exist, with the nearest one that does."""
    names = sorted(str(k) for k in known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return UserError(
        f"There is no {kind} called '{name}'.{hint}", why="known: " + ", ".join(names[:MOST_NAMES]) + more, fix=fix
    )
