"""`handeye demos`: the same demonstrations whatever happens, kept whole, counted honestly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handeye.data.hdf5.read import index_file, read_demo
from handeye.errors import UserError
from handeye.expert.config import DemosConfig
from handeye.expert.demos import run
from handeye.records import read_json, read_lines

HERE = Path(__file__).parent
FILE = "reach_green_demo.hdf5"


@pytest.fixture(autouse=True)
def _straight_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


def config(out: Path, **changes: object) -> DemosConfig:
    small = DemosConfig(
        suite="fake", tasks=(1, 2), per_task=5, out=out, workers=1, camera_size=16, expert="straight:Straight"
    )
    return replace(small, **changes)


def contents(out: Path) -> list[bytes]:
    """Everything that was recorded, file by file."""
    found = []
    for path in sorted(out.glob("*.hdf5")):
        for name, _ in index_file(path).demos:
            demo = read_demo(path, name)
            found.append(demo.actions.tobytes() + demo.states.tobytes() + demo.images["wrist"].tobytes())
            found.append(json.dumps(demo.info, sort_keys=True).encode())
    return found


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        return run(config(tmp_path_factory.mktemp("demos") / "one"))


def test_files_and_manifest(reference: Path) -> None:
    index = index_file(reference / FILE)
    assert (len(index.demos), index.prompt, index.observed) == (5, "move the point to the green square", "before")
    demo = read_demo(reference / FILE, "demo_0")
    assert demo.succeeded and demo.dones[:-1].sum() == 0
    manifest = read_json(reference / "manifest.json", what="manifest")
    green = manifest["tasks"][0]
    assert green["demonstrations"] == 5 and green["errors"] == 0
    assert green["attempts"] == green["failures"] + 5 and green["failures"] > 0
    assert demo.info["episode"]["initial_state"] is None and demo.info["episode"]["seed"] == green["numbers"][0]
    assert not (reference / "parts").exists()


def test_a_demonstration_can_be_replayed_from_its_identity(reference: Path) -> None:
    from handeye.sim import suites
    from handeye.sim.config import SimConfig
    from handeye.types import EpisodeId

    demo = read_demo(reference / FILE, "demo_2")
    env = suites.make(suites.task("fake", 1), SimConfig(camera_size=16))
    env.reset(EpisodeId(**demo.info["episode"]))
    for _ in range(10):
        env.step(np.array([0.0] * 6 + [-1.0]))
    assert [env.step(action).success for action in demo.actions][-1]


def test_any_number_of_workers(reference: Path, tmp_path: Path) -> None:
    assert contents(run(config(tmp_path / "three", workers=3))) == contents(reference)


def test_another_seed_is_another_set(reference: Path, tmp_path: Path) -> None:
    other = contents(run(config(tmp_path / "other", seed=1, tasks=(1,))))
    assert len(other) == 10 and not set(other) & set(contents(reference))


def test_killed_and_resumed(reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    code = f"""
from pathlib import Path
from handeye.expert.config import DemosConfig
from handeye.expert.demos import run
if __name__ == "__main__":
    run(DemosConfig(suite="fake", tasks=(1, 2), per_task=5, out=Path({str(out)!r}), workers=2, camera_size=16,
                    expert="straight:Straight"))
"""
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(HERE)})
    deadline = time.monotonic() + 60
    while len(read_lines(out / "attempts.jsonl")) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = len(read_lines(out / "attempts.jsonl"))
    assert before >= 3 and not (out / "manifest.json").exists()
    run(config(out, workers=2))
    assert contents(out) == contents(reference)
    assert len(read_lines(out / "attempts.jsonl")) == sum(
        task["attempts"] for task in read_json(reference / "manifest.json", what="manifest")["tasks"]
    )


def test_a_worker_that_dies_or_raises_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run(config(tmp_path / "plain", start="stored", tasks=(1,)))
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / "1-0.kill").touch()
    (faults / "1-2.raise").touch()
    monkeypatch.setenv("HANDEYE_FAKE_FAULTS", str(faults))
    assert contents(run(config(tmp_path / "hurt", start="stored", tasks=(1,)))) == contents(plain)
    assert not any(faults.iterdir())


def test_an_error_is_not_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1-1.raise.always").touch()
    monkeypatch.setenv("HANDEYE_FAKE_FAULTS", str(tmp_path))
    out = run(config(tmp_path / "out", start="stored", tasks=(1,)))
    [task] = read_json(out / "manifest.json", what="manifest")["tasks"]
    assert task["errors"] == 1 and task["demonstrations"] == 5 and 1 not in task["numbers"]
    assert (
        "asked for" in next(line for line in read_lines(out / "attempts.jsonl") if line["outcome"] == "error")["error"]
    )


def test_everything_broken_stops_early(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="5 attempts in a row") as caught:
        run(config(tmp_path / "out", expert="straight:STEP", per_task=50))
    assert "not callable" in caught.value.why
    assert len(read_lines(tmp_path / "out" / "attempts.jsonl")) == 5


def test_an_expert_that_never_succeeds_gives_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(config(tmp_path / "out", tasks=(1,), expert="straight:Still", per_task=1, give_up=2))
    [task] = read_json(out / "manifest.json", what="manifest")["tasks"]
    assert (task["attempts"], task["failures"], task["file"]) == (2, 2, None)
    assert "only 0 of 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_task": 0}, "--per-task"),
        ({"speed": (1.2, 0.8)}, "--speed"),
        ({"initial_states": (5, 5)}, "--initial-states"),
        ({"expert": "straight"}, "--expert"),
        ({"noise": -1.0}, "--noise"),
        ({"expert": "crooked:Straight"}, "crooked"),
        ({"suite": "tabeltop"}, "tabletop"),
        ({"tasks": (7,)}, "has no task 7"),
        ({"start": "stored", "initial_states": (0, 60)}, "50 stored initial states"),
    ],
)
def test_mistakes(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(config(tmp_path / "out", **changes))


def test_a_folder_of_another_plan_is_refused(reference: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another plan") as caught:
        run(config(reference, seed=3))
    assert "seed: 0 | 3" in caught.value.why
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UserError, match=r"no plan\.json"):
        run(config(tmp_path))


def test_complete_means_nothing_to_do(reference: Path) -> None:
    before = (reference / FILE).stat().st_mtime_ns
    assert run(config(reference, workers=3)) == reference
    assert (reference / FILE).stat().st_mtime_ns == before
