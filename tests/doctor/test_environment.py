"""Bounds with their reasons, modules with two owners, libraries that are hidden."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from handeye.doctor import environment, probes


@pytest.mark.parametrize(
    ("version", "bound", "good"),
    [("3.3.2", ">=3.2.3,<3.3.3", True), ("3.3.3", ">=3.2.3,<3.3.3", False), ("3.3", ">=3.2.3", True),
     ("2.13.0+cpu", ">=2.4", True), ("5.23.9", ">=5.24,<6", False), ("6.0", "<6", False), ("1", "~=0.9", True)],
)  # fmt: skip
def test_bounds(version: str, bound: str, good: bool) -> None:
    assert environment.satisfies(version, bound) is good


def test_a_version_outside_its_bound_says_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    real = environment._version
    monkeypatch.setattr(environment, "_version", lambda name: "3.4.0" if name == "mujoco" else real(name))
    (bad,) = [each for each in environment._bounds() if each.verdict == "fail"]
    assert bad.about == "mujoco" and "98 % -> 12 %" in bad.means and bad.fix == "pip install 'mujoco<3.3.3,>=3.2.3'"


def test_every_bound_of_what_users_need_has_a_reason() -> None:
    reasons = {name.lower() for name in environment.WHY}
    assert {"mujoco", "torch", "transformers", "numpy", "tokenizers", "av"} <= reasons
    assert all(len(why) > 10 for why in environment.WHY.values())


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = environment._version
    monkeypatch.setattr(environment, "_version", lambda name: None if name == "torch" else real(name))
    (missing,) = [each for each in environment._bounds() if each.about == "torch"]
    assert missing.verdict == "warn" and missing.fix == "pip install 'handeye[train]'"


def test_the_versions_of_the_tests() -> None:
    (found,) = environment._constraints()
    assert "pins" in found.found or found.verdict == "warn"


def test_another_version_than_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_version", lambda name: "0.0.1" if name == "tokenizers" else None)
    (found,) = environment._constraints()
    assert found.verdict == "warn" and "tokenizers 0.0.1 (tests: " in found.found and "sentence" in found.means


def test_two_packages_with_one_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """LIBERO and its variants, OpenCV's two wheels; a namespace may have many owners."""
    owners = {"libero": ["hf-libero", "libero-pro"], "cv2": ["opencv-python", "opencv-python-headless"],
              "google": ["a", "b"], "space": ["a", "b"], "numpy": ["numpy"], "tests": ["a", "b"]}  # fmt: skip
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: owners)
    found = {"libero": "x.py", "cv2": "y.py", "space": None, "numpy": "z.py"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None, origin=found.get(name)))
    clashes = list(environment._clashes())
    assert [each.about for each in clashes] == ["module cv2", "module libero"]
    assert all(each.verdict == "warn" for each in clashes) and "LIBERO-plus" in clashes[1].means


def test_a_broken_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(name: str, *names: str, **_: Any) -> dict[str, str]:
        broken = {"h5py": "ImportError: numpy.core.multiarray failed to import", "torchvision": "RuntimeError: nms"}
        return {each: broken.get(each, "") for each in [*names, "torchvision"]}

    monkeypatch.setattr(probes, "ask", ask)
    verdicts = {each.about: (each.verdict, each.fix) for each in environment._imports()}
    assert verdicts["h5py"] == ("fail", "pip install --force-reinstall h5py")
    assert verdicts["torchvision"] == ("warn", "pip uninstall torchvision")
    assert "compiled packages" not in verdicts


def test_an_import_that_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: Any, **__: Any) -> None:
        raise probes.UnansweredError("the process was killed by SIGILL")

    monkeypatch.setattr(probes, "ask", ask)
    (found,) = environment._imports()
    assert found.verdict == "fail" and "SIGILL" in found.found


def test_what_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.endswith("_step") else object())
    found = environment._native()
    assert found.verdict == "warn" and "handeye.sim._step" in found.found and "_resize" not in found.found


def test_a_file_that_hides_a_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = importlib.util.find_spec
    fake = ModuleSpec("numpy", None, origin=str(tmp_path / "numpy.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: fake if name == "numpy" else real(name))
    bad = [each for each in environment._shadows() if each.verdict == "fail"]
    assert [each.about for each in bad] == ["numpy"] and str(tmp_path) in bad[0].found


def test_another_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "_editable", lambda: tmp_path)
    (bad,) = [each for each in environment._shadows() if each.about == "handeye"]
    assert bad.verdict == "fail" and str(tmp_path) in bad.fix
