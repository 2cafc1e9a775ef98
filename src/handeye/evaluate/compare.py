"""Two evaluations in, one verdict out, and everything that it rests on. Nothing is printed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from handeye.evaluate import betting, paired
from handeye.evaluate.paired import NoiseFloor, Pairs
from handeye.evaluate.results import EpisodeResult, Outcome
from handeye.evaluate.runs import Run
from handeye.evaluate.sequential import different_scene, rounds
from handeye.evaluate.statistics import Counts, Interval, clopper_pearson, holm, mean_rate
from handeye.evaluate.study_config import Verdict
from handeye.protocols.protocol import differences
from handeye.types import EpisodeId

Way = Literal["worst", "best"]
"""How errors are counted: against the other policy, or in its favour."""


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What sets two evaluations apart, besides the policy."""

    blocking: tuple[str, ...]
    """Protocol and physics: their episodes are not the same."""

    scenes: tuple[str, ...]
    """Episodes that both ran, but not in the same scene."""

    remarks: tuple[str, ...]
    """What may have changed pictures or arithmetic, and cannot be seen in the scenes."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A difference (other less one), whether it is one, and whether it matters."""

    difference: float
    interval: Interval
    p: float
    p_equivalent: float | None
    """None without a margin."""


@dataclass(frozen=True, kw_only=True)
class Discordant:
    """An episode that only one of the two solved."""

    episode: EpisodeId
    winner: str
    steps: int
    """The winner's."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of `other` with `one`. A verdict needs them all: see `judge`."""

    one: Run
    other: Run
    method: Literal["paired", "paired, stopped early", "unpaired"]
    table: Pairs | None
    """None if unpaired."""

    counts: tuple[Counts, Counts]
    """Successes and episodes per task of each, over what is compared."""

    tasks: tuple[int, ...]
    episodes: tuple[int, int]
    left_out: tuple[int, int]
    """Recorded episodes of each that the other has no equal of, or that ended in an error on either side."""

    errors: tuple[int, int]
    valid: Figures
    """Over episodes without errors."""

    extremes: Mapping[Way, Figures]
    """With errors counted against `other`, and in its favour. The same as `valid` if there are none."""

    discordant: tuple[Discordant, ...]
    same_policy: NoiseFloor | None
    """Set where both are the same policy: an A/A run."""


def apart(one: Run, other: Run) -> Differences:
    """What must agree before two policies may be compared episode by episode, and what is worth a remark."""
    mine, theirs = (dict(run.identity) for run in (one, other))
    rest = [
        {
            "simulator": {k: v for k, v in run["simulator"].items() if k not in ("mujoco", "arithmetic", "cameras")},
            "versions": {name: version for name, version in run["versions"].items() if name != "mujoco"},
        }
        for run in (mine, theirs)
    ]
    shared = [key for key in one.results if key in other.results]
    scenes = [key for key in shared if different_scene(one.results[key], other.results[key])]
    return Differences(
        blocking=different_rules(mine, theirs),
        scenes=tuple(scenes),
        remarks=tuple(differences(*rest)),
    )


def different_rules(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, ...]:
    """Protocol, physics and tasks of two plans, as far as an episode that both may have depends on them."""
    protocols = [_rules(identity["protocol"], identity["suite"]) for identity in (mine, theirs)]
    physics = [{name: plan["simulator"].get(name) for name in ("mujoco", "arithmetic")} for plan in (mine, theirs)]
    first, second = ({str(task["index"]): task for task in identity["tasks"]} for identity in (mine, theirs))
    both = first.keys() & second.keys()
    tasks = [{index: found[index] for index in both} for found in (first, second)]
    return tuple(
        line
        for name, pair in (("protocol", protocols), ("simulator", physics), ("task", tasks))
        for line in differences(*pair, at=name)
    )


def _rules(protocol: Mapping[str, Any], suite: str) -> dict[str, Any]:
    """What a protocol does to an episode of one suite: not its name, nor what is there to be read. The size of the
    cameras is the policy's where the protocol leaves it to the policy, and a policy that needs another was refused."""
    said = ("name", "version", "horizons", "camera_size", "image_steps", "initial_states", "simulator")
    return {
        "horizon": protocol["horizons"].get(suite),
        **{name: value for name, value in protocol.items() if name not in said},
    }


def same_policy(one: Run, other: Run) -> bool:
    return bool(one.identity["policy"] == other.identity["policy"])


def compare(one: Run, other: Run, *, margin: float | None, unpaired: bool) -> Comparison:
    """The caller has made sure that they may be compared this way (`apart`)."""
    return _unpaired(one, other, margin) if unpaired else _paired(one, other, margin)


def judge(comparisons: Sequence[Comparison], *, alpha: float) -> list[Verdict]:
    """Of all comparisons together: with any number of them the chance of a wrong `better` or `worse` stays below alpha,
    and so does that of a wrong `equivalent` (Holm for each kind). Where errors could turn it, it is `undecided`."""
    by_way = [_verdicts([comparison.valid for comparison in comparisons], alpha)]
    for way in ("worst", "best"):
        by_way.append(_verdicts([comparison.extremes[way] for comparison in comparisons], alpha))
    return [verdicts[0] if len(set(verdicts)) == 1 else "undecided" for verdicts in zip(*by_way, strict=True)]


def adjusted(comparisons: Sequence[Comparison]) -> list[float]:
    """Holm's p-values of the differences, errors left out."""
    return holm([comparison.valid.p for comparison in comparisons])


def _verdicts(figures: Sequence[Figures], alpha: float) -> list[Verdict]:
    different = holm([found.p for found in figures])
    close = holm([1.0 if found.p_equivalent is None else found.p_equivalent for found in figures])
    verdicts: list[Verdict] = []
    for found, p, p_equivalent in zip(figures, different, close, strict=True):
        if p_equivalent <= alpha:
            verdicts.append("equivalent")  # also if p is small: a difference, but one that was said not to matter
        elif p <= alpha:
            verdicts.append("better" if found.difference > 0 else "worse")
        else:
            verdicts.append("undecided")
    return verdicts


def _paired(one: Run, other: Run, margin: float | None) -> Comparison:
    early = one.stop_when is not None or other.stop_when is not None
    shared = [episode for episode in one.planned if episode.key in one.results and episode.key in other.results]
    if early:
        shared = [episode for played in rounds(shared) for episode in played]
    mine, theirs = ([run.results[episode.key] for episode in shared] for run in (one, other))
    sound = [i for i, pair in enumerate(zip(mine, theirs, strict=True)) if "error" not in {r.outcome for r in pair}]
    figures = _early if early else _exact
    again = same_policy(one, other) and not different_rules(one.identity, other.identity)
    tasks = tuple(sorted({shared[i].task for i in sound}))

    def outcomes(results: Sequence[EpisodeResult], errors: bool) -> list[bool]:
        return [errors if result.outcome == "error" else result.outcome == "success" for result in results]

    table = paired.pairs(*(outcomes([results[i] for i in sound], False) for results in (mine, theirs)))
    worst = paired.pairs(outcomes(mine, True), outcomes(theirs, False))
    best = paired.pairs(outcomes(mine, False), outcomes(theirs, True))
    return Comparison(
        one=one,
        other=other,
        method="paired, stopped early" if early else "paired",
        table=table,
        counts=(_counts([mine[i] for i in sound], tasks), _counts([theirs[i] for i in sound], tasks)),
        tasks=tasks,
        episodes=(len(sound), len(sound)),
        left_out=(len(one.results) - len(sound), len(other.results) - len(sound)),
        errors=(_errors(mine), _errors(theirs)),
        valid=figures(table, margin),
        extremes={"worst": figures(worst, margin), "best": figures(best, margin)},
        discordant=tuple(
            _told_apart(shared[i], mine[i], theirs[i], one, other) for i in sound if _differ(mine[i], theirs[i])
        ),
        same_policy=_noise(mine, theirs, sound) if again else None,
    )


def _exact(table: Pairs, margin: float | None) -> Figures:
    return Figures(
        difference=table.difference,
        interval=paired.interval(table),
        p=paired.mcnemar(table),
        p_equivalent=None if margin is None else paired.equivalence(table, margin),
    )


def _early(table: Pairs, margin: float | None) -> Figures:
    """Where either run could have stopped early, ordinary p-values do not hold; bets do (betting.py)."""
    tally = {-1: table.only_one, 0: table.both + table.neither, 1: table.only_other}
    return Figures(
        difference=table.difference,
        interval=betting.confidence_sequence(tally, betting.DIFFERENCE, 0.05),
        p=betting.p_value(tally, betting.DIFFERENCE, 0.0),
        p_equivalent=None if margin is None else betting.equivalence(tally, betting.DIFFERENCE, margin),
    )


def _unpaired(one: Run, other: Run, margin: float | None) -> Comparison:
    tasks = shared_tasks(one, other)
    mine, theirs = ([result for result in run.results.values() if result.episode.task in tasks] for run in (one, other))

    def figures(first: Counts, second: Counts) -> Figures:
        return Figures(
            difference=mean_rate(second) - mean_rate(first),
            interval=paired.unpaired_interval(first, second),
            p=paired.unpaired_test(first, second),
            p_equivalent=None if margin is None else paired.unpaired_equivalence(first, second, margin),
        )

    valid = (_counts(mine, tasks), _counts(theirs, tasks))
    return Comparison(
        one=one,
        other=other,
        method="unpaired",
        table=None,
        counts=valid,
        tasks=tasks,
        episodes=(sum(n for _, n in valid[0]), sum(n for _, n in valid[1])),
        left_out=(
            len(one.results) - sum(n for _, n in valid[0]),
            len(other.results) - sum(n for _, n in valid[1]),
        ),
        errors=(_errors(mine), _errors(theirs)),
        valid=figures(*valid),
        extremes={
            "worst": figures(_counts(mine, tasks, "success"), _counts(theirs, tasks, "failure")),
            "best": figures(_counts(mine, tasks, "failure"), _counts(theirs, tasks, "success")),
        },
        discordant=(),
        same_policy=None,
    )


def shared_tasks(one: Run, other: Run) -> tuple[int, ...]:
    """Tasks of which both finished an episode."""
    first, second = (
        {result.episode.task for result in run.results.values() if result.outcome != "error"} for run in (one, other)
    )
    return tuple(sorted(first & second))


def _counts(results: Sequence[EpisodeResult], tasks: Sequence[int], errors: Outcome = "error") -> Counts:
    """Successes and episodes of each task. `errors`: what an error is taken for; an error is left out."""
    won, ran = Counter[int](), Counter[int]()
    for result in results:
        outcome = errors if result.outcome == "error" else result.outcome
        if outcome != "error":
            ran[result.episode.task] += 1
            won[result.episode.task] += outcome == "success"
    return [(won[task], ran[task]) for task in tasks]


def _errors(results: Sequence[EpisodeResult]) -> int:
    return sum(result.outcome == "error" for result in results)


def _differ(mine: EpisodeResult, theirs: EpisodeResult) -> bool:
    return mine.outcome != theirs.outcome


def _told_apart(episode: EpisodeId, mine: EpisodeResult, theirs: EpisodeResult, one: Run, other: Run) -> Discordant:
    winner, result = (one, mine) if mine.outcome == "success" else (other, theirs)
    return Discordant(episode=episode, winner=winner.place, steps=result.steps)


def _noise(mine: Sequence[EpisodeResult], theirs: Sequence[EpisodeResult], sound: Sequence[int]) -> NoiseFloor:
    discordant = sum(_differ(mine[i], theirs[i]) for i in sound)
    low, high = clopper_pearson(discordant, len(sound))
    identical = sum(
        mine[i].hashes.get("actions") is not None and mine[i].hashes["actions"] == theirs[i].hashes.get("actions")
        for i in sound
    )
    return NoiseFloor(pairs=len(sound), discordant=discordant, low=low, high=high, identical=identical)


def noise_floor(one: Run, again: Run) -> NoiseFloor:
    """How often a policy, run twice on the same episodes, disagrees with itself."""
    comparison = _paired(one, again, None)
    assert comparison.same_policy is not None, "the caller has made sure that it is the same policy"
    return comparison.same_policy


def to_json(comparison: Comparison, verdict: Verdict, p_holm: float) -> dict[str, Any]:
    """All of it, for programs."""
    by_task = [
        {
            str(task): {"successes": successes, "episodes": episodes}
            for task, (successes, episodes) in zip(comparison.tasks, counts, strict=True)
        }
        for counts in comparison.counts
    ]
    return {
        "one": comparison.one.place,
        "other": comparison.other.place,
        "verdict": verdict,
        "method": comparison.method,
        "episodes": list(comparison.episodes),
        "left_out": list(comparison.left_out),
        "errors": list(comparison.errors),
        **asdict(comparison.valid),
        "p_holm": p_holm,
        "table": None if comparison.table is None else asdict(comparison.table),
        "with_errors": {way: asdict(found) for way, found in comparison.extremes.items()},
        "tasks": {"one": by_task[0], "other": by_task[1]},
        "discordant": [{**asdict(found), "episode": found.episode.key} for found in comparison.discordant],
        "same_policy": None if comparison.same_policy is None else asdict(comparison.same_policy),
    }
