"""The cache of compiled models, with a model of one box and one picture. What it holds for LIBERO: tests/parity."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import mujoco
import pytest
from PIL import Image

from handeye.errors import UserError
from handeye.sim import scene
from handeye.sim.scene import cached_model

XML = """<mujoco><asset><texture name="t" type="2d" file="here:t.png"/><material name="m" texture="t"/></asset>
<worldbody><geom type="box" size="1 1 1" material="m"/></worldbody></mujoco>"""


@pytest.fixture
def roots(tmp_path: Path, home: Path) -> dict[str, Path]:
    scene._last.clear()
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "t.png")
    return {"here": tmp_path}


@pytest.fixture
def never_again(monkeypatch: pytest.MonkeyPatch, roots: dict[str, Path]) -> dict[str, Path]:
    """The model is in the cache, this process has forgotten it, and to compile it again is an error."""
    cached_model(XML, roots)
    scene._last.clear()
    monkeypatch.setattr(scene, "_compiled", lambda *_: pytest.fail("compiled again"))
    return roots


def kept(home: Path) -> list[Path]:
    return sorted((home / "scenes").glob("*.mjb"))


def red(model: mujoco.MjModel) -> int:
    return int(model.tex_data[0])


def test_compiled_once_then_read(never_again, home: Path) -> None:
    model, digest = cached_model(XML, never_again)
    assert red(model) == 200 and [path.name.split("-")[0] for path in kept(home)] == [digest]


def test_shared_as_long_as_somebody_holds_it(roots) -> None:
    model, digest = cached_model(XML, roots)
    other, other_digest = cached_model(XML.replace("1 1 1", "2 2 2"), roots)
    assert cached_model(XML, roots) == (model, digest) and other_digest != digest and other is not model
    assert scene._last == [model]


def test_another_file_is_another_model(roots, home: Path, tmp_path: Path) -> None:
    first = cached_model(XML, roots)[1]
    Image.new("RGB", (8, 8), (100, 0, 0)).save(tmp_path / "t.png")
    model, second = cached_model(XML, roots)
    assert second != first and red(model) == 100 and len(kept(home)) == 2


@pytest.mark.parametrize("keep", [0, 1000])
def test_a_file_that_lost_its_end_is_made_again(roots, home: Path, keep: int, capsys) -> None:
    digest = cached_model(XML, roots)[1]
    scene._last.clear()
    (path,) = kept(home)
    size = path.stat().st_size
    os.truncate(path, keep)
    model, again = cached_model(XML, roots)
    assert again == digest and red(model) == 200 and path.stat().st_size == size
    assert "not whole" in capsys.readouterr().err


def test_foreign_content_is_made_again(roots, home: Path, capsys, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log of its own
    cached_model(XML, roots)
    scene._last.clear()
    (path,) = kept(home)
    path.write_bytes(bytes(path.stat().st_size))
    assert red(cached_model(XML, roots)[0]) == 200
    assert "compiled again" in capsys.readouterr().err


def test_damaged_digests_are_computed_again(never_again, home: Path) -> None:
    for text in ("{", "[]", ""):
        (home / "scenes" / "digests.json").write_text(text)
        scene._last.clear()
        cached_model(XML, never_again)


def test_a_read_only_cache_serves(never_again, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "utime", refuse)
    assert red(cached_model(XML, never_again)[0]) == 200


def test_no_cache_costs_only_time(roots, home: Path, capsys) -> None:
    home.write_text("a file where the folder should be")
    assert red(cached_model(XML, roots)[0]) == 200
    assert "could not be kept" in capsys.readouterr().err


def test_a_full_disk_costs_only_time(roots, home: Path, capsys) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        model, _ = cached_model(XML, roots)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert red(model) == 200 and kept(home) == [] and not list((home / "scenes").glob("*.part"))
    assert "File too large" in capsys.readouterr().err


def test_a_model_that_does_not_compile(roots, home: Path, capsys) -> None:
    with pytest.raises(UserError, match=r"cannot compile(.|\n)*size 0"):
        cached_model(XML.replace("1 1 1", "0 1 1"), roots)
    assert kept(home) == [] and "warning" not in capsys.readouterr().err


def test_a_missing_file_is_named(roots, tmp_path: Path) -> None:
    (tmp_path / "t.png").unlink()
    with pytest.raises(UserError, match=r"t\.png cannot be read"):
        cached_model(XML, roots)


def test_processes_that_start_together_compile_once(roots, home: Path, tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text(XML)
    program = (
        "import sys; from pathlib import Path; from handeye.sim import scene\n"
        "compile = scene._compile_apart\n"
        "scene._compile_apart = lambda *a: (print('compiled'), compile(*a))\n"
        "folder = Path(sys.argv[1])\n"
        "print(scene.cached_model((folder / 'model.xml').read_text(), {'here': folder})[0].tex_data[0])"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=120)[0].split() for process in started]
    assert sorted(said) == [["200"], ["200"], ["compiled", "200"]]
    assert len(kept(home)) == 1 and not list((home / "scenes").glob("*.part"))


def test_room_is_made_where_nobody_was_for_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    for name, size, age in (("a", 400, 30), ("b", 400, 10), ("c", 400, 20), ("d", 100, 40)):
        path = tmp_path / f"{name}-{size}.mjb"
        path.write_bytes(bytes(size))
        os.utime(path, (now - age, now - age))
    for name, age in (("young", 10), ("old", 2 * scene.ABANDONED)):
        (tmp_path / f".{name}.part").touch()
        os.utime(tmp_path / f".{name}.part", (now - age, now - age))
    monkeypatch.setattr(scene, "KEPT_ON_DISK", 850)
    scene._make_room(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".young.part", "b-400.mjb", "c-400.mjb"]


def test_a_problem_is_composed_once_unless_a_file_it_came_from_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handeye.sim.catalogue import KINDS
    from handeye.sim.compose import Composed
    from handeye.sim.world import Problem

    source = tmp_path / "part.xml"
    source.write_text("<mujoco/>")
    made = []

    def compose(problem: Problem) -> Composed:
        kind = next(iter(KINDS.values()))
        composed = Composed(xml="", roots={}, sources=frozenset({source}), parts={}, places={}, kind=kind)
        made.append(composed)
        return composed

    monkeypatch.setattr(scene, "compose", compose)
    monkeypatch.setattr(scene, "_compositions", {})
    words = {"language": "", "regions": {}, "fixtures": {}, "objects": {}, "of_interest": (), "init": (), "goal": ()}
    problems = [Problem(name=f"p{number}", **words) for number in range(scene.KEPT_COMPOSITIONS + 1)]
    assert scene._composed(problems[0]) is scene._composed(problems[0]) is made[0]
    source.write_text("<mujoco> </mujoco>")
    assert scene._composed(problems[0]) is made[1] and len(made) == 2
    for problem in problems:
        scene._composed(problem)
    assert len(scene._compositions) == scene.KEPT_COMPOSITIONS
