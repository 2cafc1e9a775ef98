from __future__ import annotations

import numpy as np
import pytest

from handeye.errors import UserError
from handeye.sim import check, rendering, versions
from handeye.sim.config import CheckConfig


def lines(output: str) -> dict[str, str]:
    """Line by its first word: verdict -> what it is about (several are joined)."""
    found: dict[str, str] = {}
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        found[word] = found.get(word, "") + rest.strip() + "\n"
    return found


def test_without_libero_it_says_so_and_checks_what_it_can(home, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.delenv("HANDEYE_LIBERO_ASSETS", raising=False)
    assert check.run(CheckConfig()) == 0
    said = lines(capsys.readouterr().out)
    assert "LIBERO's files" in said["skipped"] and "handeye fetch libero" in said["fix"]
    for about in ("MuJoCo", "graphics", "floor brightness", "tabletop 0 settles", "tabletop 0 seen"):
        assert about in said["ok"]
    assert "bad" not in said and "sound" in said["This"]


def test_a_wrong_version_and_no_graphics(home, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.delenv("HANDEYE_LIBERO_ASSETS", raising=False)

    def none(backend: str) -> rendering.Choice:
        raise UserError("No graphics library renders a frame here.", why="egl: none", fix="apt-get install libegl1")

    monkeypatch.setattr(versions, "installed", lambda: "3.4.0")
    monkeypatch.setattr(rendering, "choice", none)
    assert check.run(CheckConfig()) == 1
    captured = capsys.readouterr()
    said = lines(captured.out)
    assert "MuJoCo" in said["bad"] and "graphics" in said["bad"] and "floor brightness" in said["skipped"]
    assert "Spatial task 5" in said["fix"] and "apt-get" in said["fix"]
    assert "NOT sound: MuJoCo, graphics" in said["This"]


def test_a_darker_floor_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    rendering.choose()
    assert check._floor().verdict == "ok"
    monkeypatch.setattr(check, "TEXTURE", (120, 60, 30))
    finding = check._floor()
    assert finding.verdict == "bad" and "mujoco==3.3.2" in finding.fix


def test_a_scene_that_does_not_stand_still_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    settled = check._tabletop_settles("tabletop 0 settles")
    assert settled.verdict == "ok"
    real = check._steps

    def nudged(env) -> None:
        part = next(part for part in env.scene.parts.values() if part.movable)
        env.data.joint(part.joints[0]).qvel[:3] = (0.5, 0, 0)
        real(env)

    monkeypatch.setattr(check, "_steps", nudged)
    assert check._tabletop_settles("tabletop 0 settles").verdict == "bad"


@pytest.mark.libero
def test_the_bowl_of_spatial_5(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = check._bowl_settles("libero_spatial 5 settles")
    assert finding.verdict == "ok" and finding.measured.startswith("14.5 mm, 15.9°, 0.")
    monkeypatch.setattr(check, "BOWL_OFFSET", 37.2)  # as if this one were 3.4.0
    finding = check._bowl_settles("libero_spatial 5 settles")
    assert finding.verdict == "bad" and "docs/simulator.md" in finding.fix


@pytest.mark.libero
def test_with_libero(capsys: pytest.CaptureFixture) -> None:
    assert check.run(CheckConfig()) == 0
    said = lines(capsys.readouterr().out)
    for about in ("LIBERO's files", "libero_spatial 5 settles", "libero_spatial 5 seen"):
        assert about in said["ok"]


def test_an_empty_picture_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = check.suites.make

    class Blind:
        def __init__(self, *given) -> None:
            self.env = real(*given)

        def reset(self, episode) -> None:
            self.env.reset(episode)

        def observe(self):
            seen = self.env.observe()
            images = {name: np.zeros_like(image) for name, image in seen.images.items()}
            return type(seen)(images=images, proprio=seen.proprio, prompt=seen.prompt)

        def close(self) -> None:
            self.env.close()

    assert check._frame("seen", "tabletop", 0, "auto").verdict == "ok"
    monkeypatch.setattr(check.suites, "make", Blind)
    assert check._frame("seen", "tabletop", 0, "auto").verdict == "bad"
