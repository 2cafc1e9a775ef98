"""How often each interval and test of handeye is right, against what it claims, over simulated studies.

    python recipes/coverage.py [STUDIES [PART ...]]     # default 4000, all parts; docs/statistics.md has the figures

Every study is made of outcomes drawn from a known truth. Intervals: the share of studies whose interval holds it. Tests
and rules: the share that concludes something false. The standard error of a share near 95 or 5 % over 4,000 studies is
0.34 points. Seeds are fixed.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import special

from handeye.console import say, table
from handeye.evaluate import betting, exact
from handeye.evaluate.paired import Pairs, equivalence, mcnemar, unpaired_interval, unpaired_test
from handeye.evaluate.statistics import (
    bootstrap_tasks,
    clopper_pearson,
    clustered,
    holm,
    quantile,
    stratified,
    wilson,
)

Interval = tuple[float, float]
Ends = tuple[np.ndarray, np.ndarray]


def main(studies: int, *chosen: str) -> None:
    for part in (one_rate, suite, other_tasks, paired, no_difference, unpaired, stopping, savings, several):
        if not chosen or part.__name__ in chosen:
            part(studies)
            say()


def one_rate(studies: int) -> None:
    """Exactly: sums of the binomial distribution over true rates from 0.01 to 0.99."""
    rows = []
    for episodes in (10, 50, 500):
        for name, interval in (("Wilson", wilson), ("Clopper-Pearson", clopper_pearson)):
            intervals = [interval(k, episodes) for k in range(episodes + 1)]
            counts = np.arange(episodes + 1)
            covered = []
            for truth in np.linspace(0.01, 0.99, 99):
                inside = np.array([low <= truth <= high for low, high in intervals])
                logs = (
                    special.gammaln(episodes + 1) - special.gammaln(counts + 1) - special.gammaln(episodes - counts + 1)
                )
                chances = np.exp(logs + special.xlogy(counts, truth) + special.xlog1py(episodes - counts, -truth))
                covered.append(float(chances[inside].sum()))
            rows.append([f"{name}, {episodes} episodes", _share(np.mean(covered)), _share(min(covered))])
    table("One rate, 95 %", ["", "mean over true rates", "worst"], rows)


SUITES = {
    "all 97 %": [0.97] * 10,
    "all 90 %": [0.9] * 10,
    "all 50 %": [0.5] * 10,
    "nine 99 %, one 50 %": [0.99] * 9 + [0.5],
    "five 100 %, five 90 %": [1.0] * 5 + [0.9] * 5,
    "30 to 100 %": list(np.linspace(0.3, 1, 10)),
}


def suite(studies: int) -> None:
    """Ten tasks with equally many episodes."""
    rows = []
    for episodes in (10, 20, 50):
        for name, rates in SUITES.items():
            drawn = np.sort(np.random.default_rng(0).binomial(episodes, rates, (studies, 10)), axis=1)
            truth, known = float(np.mean(rates)), dict[tuple[int, ...], Interval]()
            pooled = {
                k: (wilson(k, 10 * episodes), clopper_pearson(k, 10 * episodes)) for k in range(10 * episodes + 1)
            }
            found = []
            for row in map(tuple, drawn.tolist()):
                if row not in known:
                    known[row] = stratified([(k, episodes) for k in row])
                found.append((known[row], *pooled[sum(row)]))
            cells = [_covered([answer[index] for answer in found], truth) for index in range(3)]
            rows.append([f"{episodes} per task, {name}", *cells])
    table(
        "A suite's mean, 95 %: coverage (mean width in points)", ["", "stratified", "Wilson", "Clopper-Pearson"], rows
    )


POPULATIONS: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int]], np.ndarray], float]] = {
    "Beta(1, 1), mean 50 %": (lambda rng, size: rng.beta(1, 1, size), 0.5),
    "Beta(8, 2), mean 80 %": (lambda rng, size: rng.beta(8, 2, size), 0.8),
    "Beta(19, 1), mean 95 %": (lambda rng, size: rng.beta(19, 1, size), 0.95),
    "Beta(60, 2), mean 97 %": (lambda rng, size: rng.beta(60, 2, size), 60 / 62),
    "Beta(3, 0.2), mean 94 %, few hard ones": (lambda rng, size: rng.beta(3, 0.2, size), 3 / 3.2),
    "98 %, one in ten 50 %": (lambda rng, size: np.where(rng.random(size) < 0.9, 0.98, 0.5), 0.932),
}


def other_tasks(studies: int) -> None:
    """Tasks drawn from a population of difficulties; the truth is the population's mean."""
    rows = []
    for tasks, episodes in ((10, 50), (10, 10), (90, 10)):
        for name, (draw, truth) in POPULATIONS.items():
            rng = np.random.default_rng(1)
            counts = rng.binomial(episodes, draw(rng, (studies, tasks)))
            answers: list[list[Interval]] = [[], [], []]
            for row in counts.tolist():
                by_task = {task: [True] * k + [False] * (episodes - k) for task, k in enumerate(row)}
                found = clustered(by_task)
                if found is None:
                    continue
                half = float(special.stdtrit(tasks - 1, 0.975)) * found.standard_error
                widened = bootstrap_tasks(by_task, draws=999)
                assert widened is not None
                for answer, interval in zip(
                    answers, ((found.low, found.high), widened, (found.rate - half, found.rate + half)), strict=True
                ):
                    answer.append(interval)
            cells = [_covered(answer, truth) for answer in answers]
            rows.append(
                [f"{tasks} tasks of {episodes}, {name}", *cells, f"{100 * (1 - len(answers[0]) / studies):.1f} %"]
            )
    columns = ["", "clustered", "bootstrap", "plain t", "no answer"]
    table("Other tasks of this kind, 95 %: coverage (mean width in points)", columns, rows)


TRUTHS = (
    (0.93, 0.02, 0.02),
    (0.95, 0.01, 0.03),
    (0.98, 0.005, 0.005),
    (0.94, 0.0, 0.02),
    (0.5, 0.0, 0.02),
    (0.6, 0.15, 0.1),
)
"""Shares of episodes that both solve, only one, only the other."""


def paired(studies: int) -> None:
    """The exact interval, and two that are not used: how often the truth lies inside, how often below and above."""
    rows = []
    for pairs in (50, 100, 500):
        for shares in TRUTHS:
            both, losses, wins, neither = _tables(pairs, shares, studies)
            truth, z = shares[2] - shares[1], quantile(0.95)
            answers = [_exactly(wins, losses, pairs, truth), _tango(wins, losses, pairs, z)]
            answers.append(_newcombe(both, wins, losses, neither, z))
            cells = []
            for low, high in answers:
                below, above = np.mean(low > truth + 1e-12), np.mean(high < truth - 1e-12)
                cells.append(f"{_share(1 - below - above)} ({100 * below:.1f}, {100 * above:.1f})")
            rows.append([f"{pairs} pairs, {' / '.join(f'{100 * share:g}' for share in shares)} %", *cells])
    columns = ["both / only one / only other", "exact", "Tango", "Newcombe"]
    table("A paired difference, 95 %: coverage (missed below, above)", columns, rows)


def _exactly(wins: np.ndarray, losses: np.ndarray, pairs: int, truth: float) -> Ends:
    """Ends of the exact interval as far as matters here: on which side of the truth they lie."""
    low, high = np.full(len(wins), -1.0), np.full(len(wins), 1.0)
    for index, (w, l) in enumerate(zip(wins.astype(int).tolist(), losses.astype(int).tolist(), strict=True)):  # noqa: E741
        if exact.p_value(w, l, pairs, truth, above=True) <= 0.025:
            low[index] = 1.0
        if exact.p_value(w, l, pairs, truth, above=False) <= 0.025:
            high[index] = -1.0
    return low, high


def no_difference(studies: int) -> None:
    """False `better` or `worse` between equals; false `equivalent` between policies that differ by the margin."""
    rows = []
    for pairs in (50, 100, 500):
        for discordance in (0.02, 0.05, 0.2):
            half = discordance / 2
            drawn = _tables(pairs, (0.8 - half, half, half), studies)
            different = np.mean([mcnemar(found) <= 0.05 for found in map(_pairs, drawn.T)])
            more, less = (discordance + 0.02) / 2, (discordance - 0.02) / 2
            known: dict[Pairs, bool] = {}
            for found in map(_pairs, _tables(pairs, (0.0, less, more), studies).T):
                known.setdefault(found, equivalence(found, 0.02) <= 0.05)
            same = np.mean([known[found] for found in map(_pairs, _tables(pairs, (0.0, less, more), studies).T)])
            rows.append([f"{pairs} pairs, {100 * discordance:g} % discordant", _share(different), _share(same)])
    table("False verdicts at 5 %", ["", "better or worse (McNemar)", "equivalent within 2 points (TOST)"], rows)


def unpaired(studies: int) -> None:
    """Two policies on the same tasks in other scenes."""
    rows = []
    for episodes in (10, 50):
        for name, rates in (("all 95 %", [0.95] * 10), ("five 100 %, five 80 %", [1.0] * 5 + [0.8] * 5)):
            rng, covered, false = np.random.default_rng(3), [], 0
            lower = [max(0.0, rate - 0.05) for rate in rates]
            truth = float(np.mean(lower) - np.mean(rates))
            for _ in range(min(studies, 2000)):
                one, other, same = (
                    [(int(k), episodes) for k in rng.binomial(episodes, p)] for p in (rates, lower, rates)
                )
                covered.append(unpaired_interval(one, other))
                false += unpaired_test(one, same) <= 0.05
            rows.append([f"{episodes} per task, {name}", _covered(covered, truth), _share(false / min(studies, 2000))])
    table("Not paired", ["", "coverage at 95 % (width)", "false at 5 % (exact test)"], rows)


def stopping(studies: int) -> None:
    """Looked at after every round: the chance that a true claim is ever given up, beside naive looking."""
    rows = []
    for rounds in (50, 200):
        for name, rates in (*SUITES.items(), ("one task of 90 %", [0.9])):
            outcomes = (np.random.default_rng(4).random((studies, rounds, len(rates))) < rates).astype(int)
            ever = _ever(outcomes, betting.RATE, float(np.mean(rates)))
            rows.append(
                [f"rate, {rounds} rounds, {name}", _share(ever), _share(_naive(outcomes, float(np.mean(rates))))]
            )
        for name, more, less in (
            ("5 % discordant", [0.025] * 10, [0.025] * 10),
            ("better on one task, worse on another", [0.1, 0.02] + [0.01] * 8, [0.02, 0.1] + [0.01] * 8),
        ):
            draws = np.random.default_rng(5).random((studies, rounds, 10))
            outcomes = np.where(draws < more, 1, np.where(draws < np.add(more, less), -1, 0))
            rows.append([f"difference, {rounds} rounds, {name}", _share(_ever(outcomes, betting.DIFFERENCE, 0.0)), ""])
    table("False conclusions at any time, at 5 %", ["", "bets", "Wilson, looked at every round"], rows)


def savings(studies: int) -> None:
    """What stopping early saves: ten tasks, up to 50 rounds, and the power of the same 500 episodes looked at once."""
    rows = []
    for rate in (0.8, 0.85, 0.93, 0.95, 0.97, 0.99):
        outcomes = (np.random.default_rng(6).random((min(studies, 1000), 50, 10)) < rate).astype(int)
        ends = list(_ends(outcomes, betting.RATE, 0.9))
        counts = outcomes.sum(axis=(1, 2))
        once = np.mean([not low <= 0.9 <= high for low, high in (wilson(int(k), 500) for k in counts)])
        rows.append([f"rate={rate:g}, asked: above or below 90 %", *_ended(ends), _share(once)])
    for discordance, difference in ((0.06, 0.03), (0.1, 0.05), (0.1, 0.08), (0.2, 0.1)):
        more, less = (discordance + difference) / 2, (discordance - difference) / 2
        draws = np.random.default_rng(7).random((min(studies, 1000), 50, 10))
        outcomes = np.where(draws < more, 1, np.where(draws < more + less, -1, 0))
        ends = list(_ends(outcomes, betting.DIFFERENCE, 0.0))
        once = np.mean(
            [
                mcnemar(Pairs(both=0, only_one=int((s == -1).sum()), only_other=int((s == 1).sum()), neither=0)) <= 0.05
                for s in outcomes
            ]
        )
        rows.append(
            [f"{100 * difference:g} points apart, {100 * discordance:g} % discordant", *_ended(ends), _share(once)]
        )
    table("Stopping early, at most 500 episodes", ["", "concluded", "mean episodes", "looked at once: found"], rows)


def several(studies: int) -> None:
    """Five true claims tested at once; and the best of ten equals."""
    rng = np.random.default_rng(8)
    p = rng.random((studies, 5))
    naive = np.mean(p.min(axis=1) <= 0.05)
    kept = np.mean([min(holm(row)) <= 0.05 for row in p.tolist()])
    rates = rng.binomial(500, 0.95, (studies, 10)) / 500
    rows = [
        ["any of five true claims given up, each at 5 %", _share(naive)],
        ["the same after Holm", _share(kept)],
        ["best rate of ten checkpoints that are 95 % good, 500 episodes each", _share(rates.max(axis=1).mean())],
    ]
    table("Several at once", ["", ""], rows)


def _tables(pairs: int, shares: tuple[float, float, float], studies: int) -> np.ndarray:
    """Rows: both, only one, only other, neither."""
    rng = np.random.default_rng(2)
    return rng.multinomial(pairs, [*shares, max(0.0, 1 - sum(shares))], studies).T.astype(np.float64)


def _pairs(column: np.ndarray) -> Pairs:
    both, only_one, only_other, neither = (int(count) for count in column)
    return Pairs(both=both, only_one=only_one, only_other=only_other, neither=neither)


def _tango(wins: np.ndarray, losses: np.ndarray, pairs: int, z: float) -> Ends:
    """Score interval of Tango 1998, by bisection of his statistic."""
    observed, ends = (wins - losses) / pairs, []
    for sign, end in ((1, -1.0), (-1, 1.0)):
        outside, inside = np.full_like(observed, end), observed.copy()
        for _ in range(50):
            middle = (outside + inside) / 2
            beyond = sign * exact.score(wins, losses, pairs, middle) > z  # type: ignore[arg-type]  # many at once
            outside, inside = np.where(beyond, middle, outside), np.where(beyond, inside, middle)
        ends.append(inside)
    return ends[0], ends[1]


def _newcombe(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, z: float) -> Ends:
    """Square-and-add interval of Newcombe 1998, method 10, of first (a + b) less second (a + c)."""
    n = a + b + c + d

    def score_interval(successes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        proportion, weight = successes / n, z * z / n
        middle = (proportion + weight / 2) / (1 + weight)
        half = np.sqrt(proportion * (1 - proportion) * weight + weight**2 / 4) / (1 + weight)
        return proportion, middle - half, middle + half

    (first, first_low, first_high), (second, second_low, second_high) = score_interval(a + b), score_interval(a + c)
    covariance = a * d - b * c
    covariance = np.where(covariance > n / 2, covariance - n / 2, np.minimum(covariance, 0.0))
    product = (a + b) * (c + d) * (a + c) * (b + d)
    phi = np.where(product > 0, covariance / np.sqrt(np.maximum(product, 1.0)), 0.0)
    down, up = first - first_low, second_high - second
    low = first - second - np.sqrt(np.maximum(down**2 - 2 * phi * down * up + up**2, 0.0))
    down, up = second - second_low, first_high - first
    return low, first - second + np.sqrt(np.maximum(down**2 - 2 * phi * down * up + up**2, 0.0))


def _ends(outcomes: np.ndarray, domain: betting.Domain, claim: float) -> Iterator[int | None]:
    """For each study the round after which the claim is bet out; None: never."""
    known: dict[tuple[tuple[int, int], ...], bool] = {}
    for rounds in outcomes:
        tally: Counter[int] = Counter()
        ended = None
        for number, played in enumerate(rounds, start=1):
            tally.update(played.tolist())
            key = tuple(sorted(tally.items()))
            if key not in known:
                known[key] = betting.p_value(tally, domain, claim) <= 0.05
            if known[key]:
                ended = number
                break
        yield ended


def _ever(outcomes: np.ndarray, domain: betting.Domain, claim: float) -> float:
    return float(np.mean([ended is not None for ended in _ends(outcomes, domain, claim)]))


def _naive(outcomes: np.ndarray, claim: float) -> float:
    """Wilson's interval after every round, believed as soon as it excludes the claim."""
    counts = outcomes.sum(axis=2).cumsum(axis=1)
    episodes = outcomes.shape[2] * np.arange(1, outcomes.shape[1] + 1)
    proportion, weight = counts / episodes, quantile(0.95) ** 2 / episodes
    middle = (proportion + weight / 2) / (1 + weight)
    half = np.sqrt(proportion * (1 - proportion) * weight + weight**2 / 4) / (1 + weight)
    return float((np.abs(middle - claim) > half + 1e-12).any(axis=1).mean())


def _ended(ends: Sequence[int | None]) -> list[str]:
    concluded = float(np.mean([end is not None for end in ends]))
    return [_share(concluded), f"{10 * np.mean([50 if end is None else end for end in ends]):.0f}"]


def _covered(intervals: Sequence[Interval], truth: float) -> str:
    low, high = np.array(intervals).T
    share = np.mean((low <= truth + 1e-12) & (truth - 1e-12 <= high))
    return f"{_share(share)} ({100 * np.mean(high - low):.1f})"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000, *sys.argv[2:])
