"""What `handeye plan`, `compare` and `select` are configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from handeye.errors import UserError


def require_share(flag: str, value: float | None) -> None:
    """UserError unless between 0 and 1."""
    if value is not None and not 0 < value < 1:
        raise UserError(
            f"{flag} {value:g} is not between 0 and 1.", fix=f"write shares, not per cent: {flag} 0.02 is two points"
        )


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """How many episodes for which difference, before anything runs. With --difference: how many it takes; with
    --episodes: what so many can find."""

    difference: float | None = None
    """The smallest difference in success rate worth finding: 0.02 is two points."""

    episodes: int | None = None
    """Episodes per policy, over all tasks."""

    rate: float = 0.95
    """What the policies reach, roughly."""

    discordance: float | None = None
    """Share of episodes that end differently under the two policies. Default: a range, from the least to the most that
    the rates allow."""

    pilot: tuple[Path, Path] | None = None
    """Two evaluations to take rate and discordance from."""

    margin: float | None = None
    """Also plan for "equivalent": the difference that would not matter."""

    power: float = 0.8
    """Chance of finding it if it is there."""

    alpha: float = 0.05
    """Chance of finding one that is not there."""

    comparisons: int = 1
    """How many comparisons will be made at once; each then has to be clearer (Bonferroni, the most that Holm asks)."""

    tasks: int = 10
    """Tasks of the suite, to say episodes per task."""

    per_minute: float | None = None
    """Episodes per minute, to say hours."""

    run: Path | None = None
    """An evaluation to take that speed from."""

    json: bool = False
    """Print JSON instead of text."""

    def __post_init__(self) -> None:
        if (self.difference is None) == (self.episodes is None):
            raise UserError(
                "Give --difference or --episodes, and not both.",
                why="one of the two is asked for, the other is the answer",
                fix="handeye plan --difference 0.02, or handeye plan --episodes 500",
            )
        for name in ("difference", "rate", "discordance", "margin", "power", "alpha"):
            require_share(f"--{name}", getattr(self, name))
        for flag, value in (
            ("--episodes", self.episodes),
            ("--tasks", self.tasks),
            ("--comparisons", self.comparisons),
            ("--per-minute", self.per_minute),
        ):
            if value is not None and value <= 0:
                raise UserError(f"{flag} {value:g} is too few.", fix=f"use {flag} 1 or more")
        if self.pilot is not None and self.discordance is not None:
            raise UserError("--pilot and --discordance were both given.", fix="leave one out")
        if self.difference is not None and self.rate + self.difference > 1:
            raise UserError(
                f"No policy is {100 * self.difference:g} points better than {100 * self.rate:g} %.",
                fix="give the lower rate with --rate, or a smaller --difference",
            )


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Which of two evaluations is better, and can that be said? Episode by episode where both ran the same scenes. Ends
    with 1 if the verdict on any of them is `worse`."""

    runs: Annotated[tuple[Path, ...], Positional, arg(metavar="A B [C ...]")]
    """Directories that `handeye evaluate` wrote, here or at URLs. The others are compared with the first."""

    margin: float | None = None
    """Differences smaller than this do not matter to you: makes the verdict `equivalent` possible. To be chosen before
    looking; 0.02 is two points."""

    unpaired: bool = False
    """Compare rates only, where protocols or scenes differ: what differs is printed first, and the answer is weaker."""

    across_protocols: bool = False
    """Compare episode by episode although protocols differ, where the scenes are the same: what does replanning more
    often, or a longer horizon, change?"""

    all_pairs: bool = False
    """Compare everyone with everyone."""

    floor: Path | None = None
    """The first policy, run a second time: how often does it disagree with itself?"""

    alpha: float = 0.05
    """Chance of a wrong verdict, over all comparisons together (Holm)."""

    json: bool = False
    """Print JSON instead of text."""

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise UserError("One evaluation has nothing to be compared with.", fix="handeye compare runs/a runs/b")
        if len({folder.resolve() for folder in self.runs}) < len(self.runs):
            raise UserError("An evaluation is named twice.", fix="name each once; for the noise floor run it again")
        if self.unpaired and self.across_protocols:
            raise UserError("--unpaired and --across-protocols were both given.", fix="leave one out")
        require_share("--margin", self.margin)
        require_share("--alpha", self.alpha)


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Choose the best of several checkpoints on initial states that the test will not use. The best rate of many is
    flattered by luck; on other states it is not."""

    runs: Annotated[tuple[Path, ...], Positional, arg(metavar="A B [C ...]")]
    """Directories that `handeye evaluate` wrote, one per checkpoint."""

    on: str
    """Initial states to choose on: `40:50` is 40 to 49. All others are left for the test."""

    json: bool = False
    """Print JSON instead of text."""

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise UserError("There is nothing to choose from.", fix="name the evaluations of two checkpoints or more")
        if len({folder.resolve() for folder in self.runs}) < len(self.runs):
            raise UserError("An evaluation is named twice.", fix="name each once")
        self.states()

    def states(self) -> range:
        first, colon, end = self.on.partition(":")
        if not (first.isdecimal() and colon and end.isdecimal()) or int(end) <= int(first):
            raise UserError(f"--on {self.on} is not a range of initial states.", fix="write 40:50 for 40 to 49")
        return range(int(first), int(end))


Verdict = Literal["better", "worse", "equivalent", "undecided"]
