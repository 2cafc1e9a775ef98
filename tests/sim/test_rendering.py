from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from handeye.errors import UserError
from handeye.sim import rendering

SCRIPT = """
import json, sys
before, wanted = sys.argv[1:]
if before == "mujoco first":
    import mujoco
from handeye.errors import UserError
from handeye.sim import rendering
if before == "egl draws nonsense":
    real = rendering._prove
    def prove(name):
        title = real(name)
        if name == "egl":
            raise RuntimeError("a red square on black came out as [0, 0, 0]")
        return title
    rendering._prove = prove
answers = []
for backend in wanted.split(","):
    try:
        choice = rendering.choice(backend)
        import mujoco
        answers.append([choice.backend, choice.renderer, choice.reason, mujoco.GLContext.__module__])
    except UserError as error:
        answers.append([error.what, error.why, error.fix])
print(json.dumps(answers))
"""


def ask(wanted: str, *, before: str = "", **variables: str) -> list[list[str]]:
    """In a process of its own: a process is bound to one library for good."""
    plain = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, before, wanted],
        env=plain | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def usable(backend: str) -> bool:
    return not (rendering._egl_problem() if backend == "egl" else rendering._osmesa_problem())


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the choice exists on Linux only")


@pytest.mark.parametrize("before", ["", "mujoco first"])
@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_asked_for_it_draws_whenever_mujoco_was_imported(backend: str, before: str) -> None:
    if not usable(backend):
        pytest.skip(f"{backend} is not installed here: {rendering.INSTALL[backend]}")
    ((name, renderer, reason, module),) = ask(backend, before=before)
    assert (name, reason, module) == (backend, "asked for", f"mujoco.{backend}") and renderer


def test_auto_takes_the_first_that_works_and_stays_with_it() -> None:
    first, again = ask("auto,auto")
    assert first == again and first[0] == next(name for name in ("egl", "osmesa") if usable(name))


@pytest.mark.skipif(not (usable("egl") and usable("osmesa")), reason="needs two libraries")
def test_a_process_is_bound_to_one_library() -> None:
    first, (what, _, fix) = ask("osmesa,egl")
    assert first[0] == "osmesa"
    assert "draws with osmesa already" in what and "--backend egl" in fix


@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_the_variable_is_obeyed_and_a_flag_goes_before_it(backend: str) -> None:
    if not usable(backend):
        pytest.skip(f"{backend} is not installed here")
    assert ask("auto", MUJOCO_GL=backend)[0][:3:2] == [backend, "$MUJOCO_GL"]
    assert ask(backend, MUJOCO_GL="glfw")[0][0] == backend


def test_no_screen() -> None:
    ((what, why, fix),) = ask("glfw")
    assert "glfw" in what and "no display" in why and "xvfb-run" in fix


def test_nothing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_bound", lambda: "")
    monkeypatch.setattr(rendering, "_problem", lambda name: f"no {name}")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(UserError) as caught:
        rendering.choice.__wrapped__("auto")
    assert caught.value.why == "egl: no egl; osmesa: no osmesa; glfw: no glfw"
    assert "libosmesa6" in caught.value.fix and "libegl1" in caught.value.fix


@pytest.mark.skipif(not (usable("egl") and usable("osmesa")), reason="needs two libraries")
def test_a_library_that_draws_nonsense_is_not_taken() -> None:
    """It had the process by then, so the other one is named, not tried: both in one process draw wrong pictures."""
    ((what, why, _),) = ask("auto", before="egl draws nonsense")
    assert "No graphics library" in what
    assert "egl: RuntimeError: a red square" in why and "with --backend osmesa" in why
