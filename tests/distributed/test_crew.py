"""Workers that die, hang, raise or hoard cost their job another try, and nobody outlives the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handeye.distributed.crew import Crew, held
from handeye.distributed.desk import Desk
from handeye.distributed.jobs import Finished
from handeye.errors import UserError

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _jobs_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    resource_tracker.ensure_running()  # stays open, once for all
    before = open_files()
    yield
    assert open_files() <= before, "files of a crew stay open"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0


def crew(marks: Path, **changes: Any) -> Crew[Any, Any]:
    from jobs_for_crews import Setup, make

    usual: dict[str, Any] = {
        "make": make,
        "workers": 2,
        "tries": 2,
        "hang_after": 60.0,
        "things": "jobs",
        "log": "the log",
    }
    return Crew(setup=Setup(marks), **(usual | changes))


def ended(crew: Crew[Any, Any], jobs: Sequence[Any]) -> dict[Any, Finished[Any, Any]]:
    found: dict[Any, Finished[Any, Any]] = {}

    def done(finished: Finished[Any, Any]) -> None:
        assert finished.job not in found, "a job ends once"
        found[finished.job] = finished

    crew.each(jobs, done)
    return found


def test_every_job_is_done_once_by_several_workers(tmp_path: Path) -> None:
    jobs = [("slow", number) for number in range(12)]
    found = ended(crew(tmp_path, workers=3), jobs)
    assert [found[job].result[0] for job in jobs] == list(range(12))
    assert {one.last.worker for one in found.values()} == {0, 1, 2}
    assert len({one.result[1] for one in found.values()} - {os.getpid()}) == 3
    assert all(one.tries == 1 and one.error is None and one.last.seconds > 0.04 for one in found.values())


def test_workers_stay_for_the_next_run_in_a_with_block(tmp_path: Path) -> None:
    kept = crew(tmp_path, workers=1)
    with kept:
        first, second = (ended(kept, [("fine", number)]) for number in (0, 1))
    third = ended(kept, [("fine", 2)])
    assert first["fine", 0].result[1] == second["fine", 1].result[1] != third["fine", 2].result[1]


@pytest.mark.parametrize("how", ["kill", "exit", "hang", "raise", "end", "unpicklable"])
def test_a_fault_costs_another_try(how: str, tmp_path: Path) -> None:
    found = ended(crew(tmp_path, hang_after=0.5 if how == "hang" else 60.0), [("fine", 0), (how, 1), ("fine", 2)])
    assert {job: (one.tries, one.error) for job, one in found.items()} == {
        ("fine", 0): (1, None),
        (how, 1): (2, None),
        ("fine", 2): (1, None),
    }
    pids = (tmp_path / f"{how}-1").read_text().split()
    assert len(pids) == 2
    if how not in ("raise", "end", "unpicklable"):
        assert pids[0] != pids[1], "by another worker"


@pytest.mark.parametrize(
    ("how", "says"),
    [("kill", "SIGKILL"), ("exit", "exit code 7"), ("raise", "ValueError: a fault that was asked for"), ("end", "EOF")],
)
def test_what_never_works_is_an_error_that_says_why(how: str, says: str, tmp_path: Path) -> None:
    found = ended(crew(tmp_path, tries=3), [(f"{how}-always", 0), ("fine", 1)])
    broken = found[f"{how}-always", 0]
    assert broken.result is None
    assert broken.tries == 3
    assert broken.error and says in broken.error
    if how in ("raise", "end"):
        assert "Traceback" in broken.error
    assert found["fine", 1].error is None


def test_five_errors_in_a_row_stop_everything(tmp_path: Path) -> None:
    heard: list[Any] = []
    with pytest.raises(UserError, match="5 jobs in a row ended in an error, each after 1 tries") as stopped:
        crew(tmp_path, tries=1).each([("raise-always", number) for number in range(9)], heard.append)
    assert "a fault that was asked for" in stopped.value.why
    assert "the log" in stopped.value.fix
    assert len(heard) == 5


def test_a_users_mistake_stops_everything_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="This cannot work"):
        ended(crew(tmp_path), [("refuse", 0)])
    with pytest.raises(RuntimeError, match="no desk"):
        ended(crew(tmp_path), [("ask", 0)])


def test_what_done_raises_stops_everything(tmp_path: Path) -> None:
    def done(finished: Any) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        crew(tmp_path).each([("fine", number) for number in range(4)], done)


def test_a_result_that_cannot_be_sent_is_an_error(tmp_path: Path) -> None:
    from jobs_for_crews import lambdas

    [found] = ended(crew(tmp_path, make=lambdas, tries=1), [0]).values()
    assert found.error and "lambda" in found.error


def test_a_result_larger_than_the_shared_memory_arrives(tmp_path: Path) -> None:
    found = ended(crew(tmp_path), [("large", 3), ("large", 4)])
    assert [one.result.mean() for one in found.values()] in ([3, 4], [4, 3])


@pytest.mark.skipif(held(os.getpid()) is None, reason="nobody says here how much memory a process holds")
def test_memory_is_bounded(tmp_path: Path) -> None:
    """Between jobs a hoarder is replaced; one that grows without end during a job is killed."""
    jobs = [("memory", number) for number in range(4)]
    found = ended(crew(tmp_path, workers=1, memory=100_000_000), jobs)
    assert all(one.tries == 1 for one in found.values())
    assert len({one.last.worker for one in found.values()}) > 1
    assert len({one.last.worker for one in ended(crew(tmp_path, workers=1), jobs).values()}) == 1
    [leaked] = ended(crew(tmp_path, workers=1, memory=150_000_000, tries=1), [("leak-always", 0)]).values()
    assert leaked.error and "more than twice the bound of 0.15 GB" in leaked.error


def test_what_is_next_may_depend_on_what_came_out(tmp_path: Path) -> None:
    """None means none at present."""
    came: list[int] = []
    running: set[int] = set()

    def following(last: Any) -> Any:
        number = len(came) + len(running)
        if number >= 5 or running:
            return None
        assert last is None or last[1] in came
        running.add(number)
        return ("fine", number)

    def done(finished: Any) -> None:
        running.discard(finished.job[1])
        came.append(finished.job[1])

    crew(tmp_path, workers=3).run(following, done)
    assert came == [0, 1, 2, 3, 4]


def test_questions_are_answered_by_the_parent(tmp_path: Path) -> None:
    batches: list[int] = []

    def answer(questions: Sequence[np.ndarray]) -> list[float]:
        batches.append(len(questions))
        return [float(question.mean()) + os.getpid() for question in questions]

    jobs = [("ask", number) for number in range(20)]
    found = ended(crew(tmp_path, workers=2, desk=Desk(answerers=[answer], batch=8, wait=0.5)), jobs)
    assert all(found[job].result == job[1] + os.getpid() for job in jobs)
    assert all(0 < one.last.waited <= one.last.seconds for one in found.values())
    assert sum(batches) == 20
    assert set(batches) <= {1, 2}
    assert 2 in batches, "two who ask at the same time are answered together"


def test_what_an_answerer_raises_stops_everything(tmp_path: Path) -> None:
    def answer(questions: Sequence[Any]) -> list[Any]:
        raise ZeroDivisionError("in the answerer")

    with pytest.raises(ZeroDivisionError, match="in the answerer"):
        ended(crew(tmp_path, desk=Desk(answerers=[answer])), [("ask", 0)])


def test_who_waits_for_an_answer_does_not_hang(tmp_path: Path) -> None:
    def slow(questions: Sequence[Any]) -> list[int]:
        time.sleep(1.5)
        return [0 for _ in questions]

    [found] = ended(crew(tmp_path, hang_after=0.4, desk=Desk(answerers=[slow])), [("ask", 0)]).values()
    assert (found.tries, found.result) == (1, 0)


PARENT = """
import sys
from pathlib import Path
from jobs_for_crews import sleeper
from handeye.distributed.crew import Crew
if __name__ == "__main__":
    crew = Crew(make=sleeper, setup=Path(sys.argv[1]), workers=2, tries=1, hang_after=600, things="jobs", log="")
    crew.each([0, 1], print)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent_even_in_the_middle_of_a_job(how: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        workers = [int(path.name) for path in tmp_path.iterdir()]
        assert len(workers) == 2
        assert all(alive(worker) for worker in workers)
        parent.send_signal(how)
        parent.wait(timeout=30)
        deadline = time.monotonic() + 20
        while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(alive(worker) for worker in workers)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")  # a zombie that init has not yet collected is dead
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
