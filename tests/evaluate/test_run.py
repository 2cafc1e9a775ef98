"""What an evaluation promises: the same records however it is run, nothing finished lost, errors kept apart."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handeye.errors import UserError
from handeye.evaluate import results
from handeye.evaluate.results import EPISODES, EpisodeResult
from handeye.policy.scripted import Noise

Evaluate = Callable[..., Path]


def lines(out: Path) -> list[dict[str, Any]]:
    return results.comparable(results.read(out).values())


def test_workers_do_not_change_the_records(evaluate: Evaluate, reacher: Any) -> None:
    one, three = evaluate("one", reacher), evaluate("three", reacher, workers=3)
    assert lines(one) == lines(three)
    assert len(lines(one)) == 24
    assert {line["outcome"] for line in lines(one)} == {"success", "failure"}, (
        "a test of only one outcome proves little"
    )
    assert reacher.batches <= {1, 2, 3}
    assert len(reacher.begun) == 48
    numbers = {result.timing["worker"] for result in results.read(three).values()}
    assert len(numbers) > 1, "more than one worker took part"
    assert json.loads((one / "summary.json").read_text()) == json.loads((three / "summary.json").read_text())
    assert (one / "summary.json").stat().st_mtime_ns >= (one / EPISODES).stat().st_mtime_ns


def test_what_a_record_holds(evaluate: Evaluate, reacher: Any) -> None:
    out = evaluate("run", reacher, tasks=(2,), initial_states="3:5")
    found = results.read(out)
    assert list(found) == ["fake/2/init3/episode-0/0", "fake/2/init4/episode-0/0"]
    for result in found.values():
        assert set(result.hashes) == {"model", "scene", "observation", "actions"}
        assert all(value and len(value) == 64 for value in result.hashes.values())
        assert 0 < result.steps <= 40
        assert result.questions == -(-result.steps // 8)
    a, b = found.values()
    assert a.hashes["model"] == b.hashes["model"]
    assert a.hashes["scene"] != b.hashes["scene"]


def test_a_finished_run_is_not_run_again(evaluate: Evaluate, reacher: Any) -> None:
    out = evaluate("run", reacher, episodes=2)
    before, calls = (out / EPISODES).read_bytes(), reacher.calls
    evaluate("run", reacher, episodes=2)
    assert (out / EPISODES).read_bytes() == before
    assert reacher.calls == calls


WHOLE = {"tasks": (), "episodes": 12}
"""What `command` asks for, in the fixture's words: 48 episodes."""


def command(out: Path, *more: str, episodes: int = 12) -> list[str]:
    flags = ["--suite", "fake", "--episodes", str(episodes), "--out", str(out), *more]
    return [sys.executable, "-m", "handeye.cli", "evaluate", "noise", *flags]


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_points_and_resumed(seed: int, evaluate: Evaluate, tmp_path: Path) -> None:
    rng, out = random.Random(seed), tmp_path / "killed"
    for kill in sorted(rng.sample(range(1, 48), 2)):
        process = subprocess.Popen(
            command(out, "--workers", "3"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while process.poll() is None and count(out) < kill:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert count(out) >= kill
        assert gone_within(process.pid, seconds=10), "workers outlive a killed parent"
    evaluate("killed", "noise", **WHOLE)
    assert lines(out) == lines(evaluate("whole", "noise", **WHOLE))
    assert len(lines(out)) == count(out) == 48, "no finished episode was run again"


def count(out: Path) -> int:
    return (out / EPISODES).read_bytes().count(b"\n") if (out / EPISODES).exists() else 0


def gone_within(group: int, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_ctrl_c_ends_quietly_and_resume_goes_on(evaluate: Evaluate, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(out, episodes=30), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while count(out) < 5:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the workers too
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert 5 <= len(lines(out)) < 120
    assert len(lines(evaluate("run", "noise", tasks=(), episodes=30, workers=2))) == 120


def test_a_worker_that_dies_hangs_or_raises_costs_a_re_run(
    evaluate: Evaluate, reacher: Any, faults: Callable[..., Path]
) -> None:
    plain = evaluate("plain", reacher)
    folder = faults("0-1.kill", "1-0.hang", "2-7.raise")
    hurt = evaluate("hurt", reacher, workers=2, hang_after=1.0)
    assert not list(folder.iterdir()), "every fault happened"
    assert lines(hurt) == lines(plain)
    tries = {key: result.timing["tries"] for key, result in results.read(hurt).items()}
    again = {key for key, number in tries.items() if number > 1}
    assert {"fake/0/init1/episode-0/0", "fake/1/init0/episode-0/0", "fake/2/init7/episode-0/0"} <= again


def test_an_error_is_not_a_failure(evaluate: Evaluate, reacher: Any, faults: Callable[..., Path]) -> None:
    folder = faults("0-1.raise.always", "1-2.kill.always")
    with pytest.raises(UserError, match="2 of 24 episodes ended in an error"):
        evaluate("run", reacher)
    out = folder.parent / "run"
    found = results.read(out)
    raised, killed = found["fake/0/init1/episode-0/0"], found["fake/1/init2/episode-0/0"]
    assert raised.outcome == killed.outcome == "error"
    assert raised.timing["tries"] == 3
    assert raised.error and "a fault that was asked for" in raised.error and "Traceback" in raised.error
    assert killed.error and "SIGKILL" in killed.error
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["errors"], summary["complete"]) == (2, False)
    assert summary["rate"]["episodes"] == 22, "errors are in no denominator"
    low, high = summary["if_errors_were"]["failures"], summary["if_errors_were"]["successes"]
    assert low < summary["rate"]["rate"] < high

    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(UserError, match="belongs to another"):
        evaluate("run", reacher, episodes=7)
    evaluate("run", reacher)  # mended: only the two errors are run again
    assert lines(out) == lines(evaluate("plain", reacher))
    assert count(out) == 26


def test_errors_may_be_allowed(
    evaluate: Evaluate, reacher: Any, faults: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    faults("0-1.raise.always")
    evaluate("run", reacher, episodes=2, attempts=1, allow_errors=True)
    assert "of 5 episodes, 1 errors left out" in capsys.readouterr().out


def test_a_run_where_everything_fails_stops_early(
    evaluate: Evaluate, reacher: Any, faults: Callable[..., Path], tmp_path: Path
) -> None:
    faults(*(f"{task}-{state}.raise.always" for task in range(3) for state in range(8)))
    with pytest.raises(UserError, match="5 episodes in a row ended in an error"):
        evaluate("run", reacher, attempts=1)
    assert count(tmp_path / "run") == 5


def test_a_full_disk_loses_nothing(evaluate: Evaluate, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the write fails in the middle of a line."""
    whole, out = evaluate("whole", "noise", **WHOLE), tmp_path / "full"
    limit = (whole / EPISODES).stat().st_size // 2
    full = subprocess.run(
        command(out),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert full.returncode == 2, full.stderr
    assert "Could not append to" in full.stderr and "fix: free some space" in full.stderr
    assert "Traceback" not in full.stderr
    kept = lines(out)
    assert 10 < len(kept) < 48
    evaluate("full", "noise", **WHOLE)
    assert lines(out) == lines(whole)
    assert all(line in lines(out) for line in kept)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"episodes": 3}, "initial_states"),
        ({"tasks": (0, 1)}, "tasks"),
        ({"seed": 5}, "protocol.seed: 0 | 5"),
        ({"arithmetic": "fast"}, "simulator.arithmetic: bitwise | fast"),
    ],
)
def test_a_directory_belongs_to_one_plan(change: dict[str, Any], says: str, evaluate: Evaluate) -> None:
    out = evaluate("run", Noise(), episodes=2)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UserError, match="belongs to another evaluation") as refused:
        evaluate("run", Noise(), **({"episodes": 2} | change))
    assert says in str(refused.value)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_the_number_of_workers_and_videos_are_not_part_of_a_plan(evaluate: Evaluate) -> None:
    out = evaluate("run", Noise(), episodes=2)
    results_before = lines(out)
    (out / EPISODES).unlink()
    assert lines(evaluate("run", Noise(), episodes=2, workers=2, videos="all")) == results_before
    assert len(list((out / "videos").iterdir())) == 6


def test_only_its_own_directories_are_written_into(evaluate: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="not an evaluation's directory"):
        evaluate("run", Noise())
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.jsonl"]
    with pytest.raises(UserError, match="Could not write into"):
        evaluate("run/metrics.jsonl", Noise())


def test_an_unfilmed_episode_is_mentioned(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = evaluate("run", Noise(), episodes=2)
    evaluate("run", Noise(), episodes=2, videos="all")
    assert "6 finished episodes have no video" in capsys.readouterr().err
    assert not (out / "videos").exists()


def test_the_expert_knows_its_own_simulator_only(evaluate: Evaluate) -> None:
    with pytest.raises(UserError, match="expert cannot act"):
        evaluate("run", None, episodes=1)


def test_two_evaluations_do_not_share_a_directory(evaluate: Evaluate, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="Another evaluation is writing"):
            evaluate("run", Noise())


def test_a_policy_with_other_conventions_is_refused_before_anything_runs(
    evaluate: Evaluate, reacher: Any, tmp_path: Path
) -> None:
    other = replace(reacher.specs.action, gripper_index=0)
    reacher.specs = replace(reacher.specs, action=other)
    with pytest.raises(UserError, match="gripper_index"):
        evaluate("run", reacher)
    assert not (tmp_path / "run").exists()


def test_a_chunk_shorter_than_the_protocol_executes_is_refused(evaluate: Evaluate, reacher: Any) -> None:
    from handeye.protocols import presets

    reacher.chunk = 4
    eight = lambda: replace(presets.handeye_2026(), name="eight", replan_steps=8)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PROTOCOLS, "eight", eight)
        with pytest.raises(UserError, match="answers with 4 actions"):
            evaluate("run", reacher, protocol="eight")


def test_a_slow_policy_is_not_a_hung_worker(evaluate: Evaluate, reacher: Any) -> None:
    answer = reacher.answer

    def slow_once(observation: Any) -> Any:
        if reacher.calls == 3:
            time.sleep(3)
        return answer(observation)

    reacher.answer = slow_once
    out = evaluate("run", reacher, workers=2, hang_after=2.0, episodes=2)
    assert {result.timing["tries"] for result in results.read(out).values()} == {1}


def test_a_policy_that_raises_stops_the_run_and_loses_nothing(evaluate: Evaluate, reacher: Any, tmp_path: Path) -> None:
    answer = reacher.answer

    def break_down(observation: Any) -> Any:
        if reacher.calls > 30:
            raise RuntimeError("out of memory")
        return answer(observation)

    reacher.answer = break_down
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate("run", reacher)
    kept = count(tmp_path / "run")
    assert kept > 0
    reacher.answer = answer
    assert len(lines(evaluate("run", reacher))) == 24


def test_a_policy_that_answers_nan_is_an_error(evaluate: Evaluate, reacher: Any, tmp_path: Path) -> None:
    answer = reacher.answer
    reacher.answer = lambda observation: answer(observation) * float("nan")
    with pytest.raises(UserError, match="not finite"):
        evaluate("run", reacher, episodes=2, attempts=1)
    assert {result.outcome for result in results.read(tmp_path / "run").values()} == {"error"}


def test_a_missing_simulator_is_the_users_to_mend(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="says nothing about the suite 'fake'"):
        evaluate("run", Noise(), protocol="oft-2025")
    with pytest.raises(UserError, match="has no task 9"):
        evaluate("run", Noise(), tasks=(9,))
    with pytest.raises(UserError, match="0 to 49"):
        evaluate("run", Noise(), episodes=51)


def test_records_survive_json(evaluate: Evaluate) -> None:
    out = evaluate("run", Noise(), episodes=1)
    for result in results.read(out).values():
        assert EpisodeResult.from_json(json.loads(json.dumps(result.to_json()))) == result
