from __future__ import annotations

import subprocess
import sys

import pytest

from handeye.errors import UserError
from handeye.sim import suites

LIBERO = {"libero_spatial": 10, "libero_object": 10, "libero_goal": 10, "libero_10": 10, "libero_90": 90}


def test_unknown_names_and_numbers() -> None:
    with pytest.raises(UserError, match="Did you mean 'tabletop'"):
        suites.tasks("tabeltop")
    with pytest.raises(UserError, match="cannot be imported"):
        suites.tasks("my_lab.nowhere")
    for index in (-1, 1000):
        with pytest.raises(UserError, match=f"no task {index}"):
            suites.task("tabletop", index)


def test_outside_suites_are_named_by_import_path(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_lab").mkdir()
    (tmp_path / "outside_lab" / "suite.py").write_text(
        "from handeye.sim.suites import Task\n"
        "def tasks(suite): return (Task(suite=suite, index=0, name='a', language='do a'),)\n"
        "def initial_state_count(task): return 3\n"
        "def make(task, config): raise NotImplementedError\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task = suites.task("outside_lab.suite", 0)
    assert (task.language, suites.initial_state_count(task)) == ("do a", 3)


@pytest.mark.parametrize("suite", [name for name in suites.SUITES if name not in LIBERO])
def test_suites_without_download(suite: str) -> None:
    found = suites.tasks(suite)
    assert found and [task.index for task in found] == list(range(len(found)))
    assert all(task.suite == suite and task.language == task.language.strip().lower() for task in found)
    assert all(suites.initial_state_count(task) >= 10 for task in found)


@pytest.mark.libero
@pytest.mark.parametrize("suite", LIBERO)
def test_libero_suites(suite: str) -> None:
    found = suites.tasks(suite)
    assert len(found) == LIBERO[suite] and len({task.name for task in found}) == len(found)
    assert {suites.initial_state_count(task) for task in found} == {50}


def test_looking_at_suites_needs_neither_mujoco_nor_torch() -> None:
    code = (
        "import sys; from handeye.sim import suites, libero; suites.tasks('fake'); "
        "assert not {'mujoco', 'torch', 'OpenGL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
