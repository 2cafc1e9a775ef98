"""Rules for stopping: what they conclude, that it depends on the order of the plan alone, and what a plan records."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from studies import drawn, identity, record, write_run

from handeye.errors import UserError
from handeye.evaluate import plan, runs
from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.sequential import Rule, order, rounds
from handeye.records import append_line
from handeye.types import EpisodeId

Found = dict[str, EpisodeResult]


def run_of(rows: list[str], **changes: object) -> tuple[tuple[EpisodeId, ...], Found]:
    """Planned episodes and records; `+`, `-` and `!` per task and initial state, a blank for what did not run."""
    planned = plan.episodes(identity(len(rows), max(map(len, rows)), **changes))
    marks = {"+": "success", "-": "failure", "!": "error"}
    outcomes = {episode.key: rows[episode.task].ljust(60)[episode.initial_state] for episode in planned}
    return planned, {e.key: record(e, marks[outcomes[e.key]]) for e in planned if outcomes[e.key] != " "}


def test_rounds_hold_one_episode_of_every_task() -> None:
    planned, _ = run_of(["++++", "++++", "++++"])
    assert [[(e.task, e.initial_state) for e in played] for played in rounds(planned)[:2]] == [
        [(0, 0), (1, 0), (2, 0)],
        [(0, 1), (1, 1), (2, 1)],
    ]
    assert len(order(planned)) == len(planned) == len(set(order(planned)))
    uneven = [episode for episode in planned if episode.task != 1 or episode.initial_state < 2]
    assert len(rounds(uneven)) == 2 and rounds([]) == []


@pytest.mark.parametrize(
    ("rates", "text", "conclusion"),
    [
        ([0.99] * 10, "rate=0.9", "above"),
        ([0.7] * 10, "rate=0.9", "below"),
        ([0.9] * 10, "rate=0.9", "undecided"),
        ([0.97] * 10, "width=0.1", "narrow"),
        ([0.5] * 10, "width=0.02", "undecided"),
    ],
)
def test_conclusions(rates: list[float], text: str, conclusion: str) -> None:
    planned, found = run_of(drawn(rates, 50, seed=1))
    decision = Rule.parse(text).decide(planned, found)
    assert decision.conclusion == conclusion and decision.stop == (conclusion != "undecided")
    assert decision.episodes == 10 * decision.rounds and (decision.stop or decision.rounds == 50)
    assert decision.low < sum(rates) / len(rates) < decision.high
    assert json.loads(json.dumps(decision.to_json()))["conclusion"] == conclusion


def test_a_clear_case_ends_early_and_a_stricter_one_later() -> None:
    planned, found = run_of(drawn([0.98] * 10, 50, seed=2))
    early, late = (Rule.parse(f"rate=0.8,alpha={alpha}").decide(planned, found) for alpha in (0.05, 0.001))
    assert early.rounds < late.rounds < 50


def test_who_finished_first_makes_no_difference() -> None:
    """Records arrive in any order; whenever the rule is asked, its first conclusion is the one of the plan's order."""
    rule = Rule.parse("rate=0.8")
    planned, found = run_of(drawn([0.97] * 5, 40, seed=3))
    final = rule.decide(planned, found)
    assert final.conclusion == "above" and final.rounds < 40
    for seed in range(5):
        arrived: Found = {}
        waiting = list(found.values())
        random.Random(seed).shuffle(waiting)
        first = None
        for result in waiting:
            arrived[result.episode.key] = result
            decision = rule.decide(planned, arrived)
            if decision.stop:
                first = first or decision
                assert decision == final
        assert first == final


def test_a_gap_is_waited_for() -> None:
    rows = drawn([0.99] * 3, 40, seed=4)
    planned, found = run_of(rows)
    hole = planned[40]  # task 1, initial state 0
    without = {key: result for key, result in found.items() if key != hole.key}
    decision = Rule.parse("rate=0.5").decide(planned, without)
    assert (decision.conclusion, decision.rounds, decision.low, decision.high) == ("undecided", 0, 0.0, 1.0)
    assert Rule.parse("rate=0.5").decide(planned, found).stop


def test_an_error_counts_neither_way() -> None:
    """With so many errors the rate may be above or below: nothing is concluded. With few, it is."""
    planned, found = run_of(["+" * 30, "+" * 30, "!" * 30])
    decision = Rule.parse("rate=0.8").decide(planned, found)
    assert decision.conclusion == "undecided" and decision.low < 2 / 3 and decision.high == 1.0
    planned, found = run_of(["+" * 40, "+" * 40, "+" * 39 + "!"])
    assert Rule.parse("rate=0.8").decide(planned, found).conclusion == "above"


def test_against_a_baseline(tmp_path: Path) -> None:
    good, bad = drawn([0.97] * 10, 50, seed=5), drawn([0.6] * 10, 50, seed=6)
    a = write_run(tmp_path / "a", good)
    planned, found = run_of(bad, policy="b")
    assert Rule.parse(f"baseline={a}").decide(planned, found).conclusion == "worse"
    b = write_run(tmp_path / "b", bad, policy="b")
    planned, found = run_of(good)
    better = Rule.parse(f"baseline={b}").decide(planned, found)
    assert better.conclusion == "better" and better.rounds < 20 and 0 <= better.low < 0.37 < better.high
    same = Rule.parse(f"baseline={a},margin=0.05").decide(planned, found)
    assert same.conclusion == "equivalent" and same.low < 0 < same.high
    assert Rule.parse(f"baseline={a}").decide(planned, found).conclusion == "undecided", "no margin, no equivalence"


def test_a_baseline_of_other_scenes_or_episodes_is_refused(tmp_path: Path) -> None:
    planned, found = run_of(["++", "++"])
    other = write_run(tmp_path / "other", ["++", "++"], scenes={planned[1].key: "elsewhere"})
    with pytest.raises(UserError, match="another scene"):
        Rule.parse(f"baseline={other}").decide(planned, found)
    short = write_run(tmp_path / "short", ["+", "+"])
    with pytest.raises(UserError, match=r"has no episode tabletop/0/init1"):
        Rule.parse(f"baseline={short}").decide(planned, found)
    with pytest.raises(UserError, match=r"has no episode tabletop/0/init1/episode-0/0 and 1 more"):
        Rule.parse(f"baseline={short}").check(identity(2, 2), planned)
    with pytest.raises(UserError, match="under other rules") as refused:
        Rule.parse(f"baseline={other}").check(identity(2, 2, protocol={"settle_steps": 3}), planned)
    assert refused.value.why == "protocol.settle_steps: 10 | 3"
    with pytest.raises(UserError, match="under other rules") as refused:
        Rule.parse(f"baseline={other}").check(identity(2, 2, suite="fake"), planned)
    assert "tabletop and fake" in refused.value.why or "horizon" in refused.value.why
    Rule.parse(f"baseline={other}").check(identity(2, 2), planned)
    Rule.parse("rate=0.9").check(identity(2, 2), planned)
    with pytest.raises(UserError, match="is not an evaluation"):
        Rule.parse(f"baseline={tmp_path}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "rate",
        "rate=",
        "rate=high",
        "rate=1",
        "rate=0",
        "rate=nan",
        "rate=0.9,width=0.1",
        "rate=0.9,rate=0.8",
        "rate=0.9,margin=0.02",
        "alpha=0.05",
        "rate=0.9,alpha=2",
        "rate=0.9,speed=3",
    ],
)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(UserError, match="is not a rule") as refused:
        Rule.parse(text)
    assert "rate=0.9" in refused.value.fix


def test_what_a_plan_records(tmp_path: Path) -> None:
    """The same text gives the same record; another rule, or a baseline that went on, another."""
    recorded = Rule.parse("rate=0.9, alpha=0.01").to_json()
    assert recorded == {"method": "betting-mixture-1", "kind": "rate", "alpha": 0.01, "rate": 0.9}
    assert json.loads(json.dumps(recorded)) == recorded
    assert (
        Rule.parse("width=0.05").to_json() == Rule.parse("width=0.05").to_json() != Rule.parse("width=0.06").to_json()
    )
    a = write_run(tmp_path / "a", ["++ ", "+- "])
    before = Rule.parse(f"baseline={a},margin=0.02").to_json()
    assert before["margin"] == 0.02 and before["baseline"] == str(a)
    assert Rule.parse(f"baseline={a},margin=0.02").to_json() == before
    late = record(plan.episodes(identity(2, 3))[2], "success")
    append_line(a / "episodes.jsonl", late.to_json())
    assert Rule.parse(f"baseline={a},margin=0.02").to_json() != before


def test_rules_say_in_words_what_they_wait_for(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", ["+"])
    assert str(Rule.parse("rate=0.9")) == "until the rate is known to be above or below 90 %"
    assert str(Rule.parse("width=0.05")) == "until the rate is known to within 5 points"
    assert str(Rule.parse(f"baseline={a},margin=0.02")).endswith(
        "worse than " + str(a) + ", or equivalent within 2 points"
    )


def test_runs_are_read_back(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", ["+-!", "+  "], stop_when={"kind": "rate"})
    found = runs.load(folder)
    assert (found.suite, found.address, len(found.planned), len(found.results), len(found.errors)) == (
        "tabletop",
        "a",
        6,
        4,
        1,
    )
    assert found.stop_when == {"kind": "rate"} and found.per_minute() is None
    lines: list[Mapping[str, object]] = [
        {"started": "now"},
        {"episodes": 30, "seconds": 60.0, "episodes_per_minute": 30},
        {"episodes": 30, "seconds": 20.0, "episodes_per_minute": 90},
    ]
    (folder / "sessions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert found.per_minute() == 45
    with pytest.raises(UserError, match="no such folder"):
        runs.load(tmp_path / "nowhere")
    (tmp_path / "foreign").mkdir()
    with pytest.raises(UserError, match=r"it has no plan\.json"):
        runs.load(tmp_path / "foreign")
