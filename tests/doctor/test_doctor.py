"""The verb: every topic, whatever is broken; a table for a small screen; exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from handeye.doctor import probes, run
from handeye.doctor.config import DoctorConfig
from handeye.doctor.findings import Finding

LIGHT = ("environment", "gpu", "attention", "disk", "network")


def doctor(*arguments: str, path: Path | None = None) -> tuple[int, str, str]:
    environment = {**os.environ, "COLUMNS": "60"} | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run(
        [sys.executable, "-m", "handeye.cli", "doctor", "--offline", *arguments],
        capture_output=True, text=True, timeout=250, env=environment, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def shadow(folder: Path, body: str) -> Path:
    """A torch that is found before the installed one."""
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(body)
    return folder


BROKEN = {
    "absent": ("raise ModuleNotFoundError(\"No module named 'torch'\")", "No module named 'torch'"),
    "a library is missing": ("raise OSError('libcudart.so.12: cannot open shared object file')", "libcudart.so.12"),
    "it crashes": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_without_a_torch_that_works(tmp_path: Path, how: str) -> None:
    """Everything else is still told, and nothing is a traceback."""
    body, said = BROKEN[how]
    topics = LIGHT if how == "absent" else ("gpu", "attention")
    code, out, errors = doctor("--json", "--topics", *topics, path=shadow(tmp_path, body))
    assert code == 1 and "Traceback" not in errors
    told = json.loads(out)
    assert told["verdict"] == "fail"
    (torch,) = [each for each in told["findings"] if each["topic"] == "gpu" and each["about"] == "torch"]
    assert torch["verdict"] == "fail" and said in torch["found"] and torch["fix"].startswith("pip install")
    assert {each["topic"] for each in told["findings"]} == set(topics)
    if how == "absent":
        hidden = [each for each in told["findings"] if each["about"] == "torch" and each["topic"] == "environment"]
        assert hidden and "hides" in hidden[0]["found"]


def test_this_machine() -> None:
    """It runs the tests, so nothing fails."""
    code, out, errors = doctor("--topics", "gpu", "disk", "network")
    assert code == 0 and not errors, out + errors
    assert " 0 failures" in out and "ok   torch: " in out
    assert max(map(len, out.splitlines())) <= run.WIDTH


def finding(verdict: str, **changes: str) -> Finding:
    given = {"topic": "t", "about": "a", "found": "f" * 200, "means": "m " * 60, "fix": "x"}
    return Finding(verdict=verdict, **{**given, **changes})


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    run.show([finding("ok", found="fine"), finding("warn", found="odd " * 50), finding("fail", found="bad")])
    out = capsys.readouterr().out
    assert "1 ok, 1 warnings, 1 failures" in out and out.count("means") == 2 and out.count("type") == 2
    assert max(map(len, out.splitlines())) <= run.WIDTH


@pytest.mark.parametrize(("verdicts", "code"), [("ok", 0), ("ok warn", 0), ("ok warn fail", 1)])
def test_only_failures_count(monkeypatch: pytest.MonkeyPatch, verdicts: str, code: int) -> None:
    monkeypatch.setattr(run, "topics", lambda config: {"t": lambda: map(finding, verdicts.split())})
    assert run.run(DoctorConfig()) == code


def test_a_check_that_breaks_is_a_finding() -> None:
    def check():
        yield finding("ok")
        raise RuntimeError("no such thing")

    first, second = run.guarded("t", check)
    assert first.verdict == "ok" and second.verdict == "fail" and "no such thing" in second.found


def test_topics_may_be_chosen() -> None:
    assert list(run.topics(DoctorConfig(topics=("disk", "gpu")))) == ["gpu", "disk"]
    assert len(run.topics(DoctorConfig())) == 7


def test_a_probe_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(probes.UnansweredError, match="after 0 s"):
        probes.ask("torch", timeout=0.01)


def test_a_probe_that_raises() -> None:
    with pytest.raises(probes.UnansweredError, match="KeyError"):
        probes.ask("nothing of that name")
