"""What a person sees while episodes run: successes with their interval, speed, and how busy the policy is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from handeye import console
from handeye.distributed.desk import Use
from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.summary import rate_of


class Progress:
    """Counts from what is there already; speed is that of this session."""

    def __init__(
        self,
        advance: Callable[[int, str], None],
        found: Mapping[str, EpisodeResult],
        left: int,
        device: Callable[[], str],
    ) -> None:
        """`found` grows as episodes end, of which `left` are to go. `device`: a word about the policy's, or nothing."""
        self._left = left
        self._advance, self._found, self._device = advance, found, device
        self._begun, self.finished, self._busy = time.monotonic(), 0, ""
        self._before = self._begun, 0.0  # when `meanwhile` last looked, and how long the policy had worked by then

    def ended(self) -> None:
        self.finished += 1
        self._advance(1, self.note())

    def meanwhile(self, use: Use | None) -> None:
        """About once a second."""
        if use is not None:
            now, (then, seconds) = time.monotonic(), self._before
            share = (use.seconds - seconds) / max(now - then, 1e-9) / use.answerers
            self._busy = f"policy {100 * min(share, 1.0):.0f} % busy, {use.waiting} waiting"
            self._before = now, use.seconds
        self._advance(0, self.note())

    def note(self) -> str:
        per_minute = 60 * self.finished / max(time.monotonic() - self._begun, 1e-9)
        errors = sum(result.outcome == "error" for result in self._found.values())
        words = [
            str(rate_of(list(self._found.values()))),
            f"{per_minute:.0f} episodes/min" if per_minute >= 10 else f"{per_minute:.1f} episodes/min",
            "" if console.console.is_terminal else self._time_left(per_minute),  # a terminal's bar says it
            self._busy,
            self._device(),
            f"{errors} errors" if errors else "",
        ]
        return ", ".join(word for word in words if word)

    def _time_left(self, per_minute: float) -> str:
        left = self._left - self.finished
        return f"{left / per_minute:.0f} min left" if left and per_minute else ""


@contextmanager
def shown(
    label: str, total: int, done: int, found: Mapping[str, EpisodeResult], device: Callable[[], str]
) -> Iterator[Progress]:
    """On the screen, for as long as the block runs."""
    with console.progress(label, total, done=done) as advance:
        yield Progress(lambda count, note: advance(count, note), found, total - done, device)
