"""The tasks, their words and their initial states against the reference's, and the files that fetch keeps against those
that its composed scenes name."""

from __future__ import annotations

import gzip
import json
import posixpath
import re
from pathlib import Path

import numpy as np
import pytest

from handeye.sim import assets, libero, scene_files, suites


@pytest.mark.libero
@pytest.mark.goldens
def test_tasks_are_the_references(goldens: Path, record_property) -> None:
    paths = sorted((goldens / "sim").glob("*-[0-9][0-9].npz"))
    if not paths:
        pytest.skip(f"no tasks in {goldens / 'sim'}")
    rows = 0
    for path in paths:
        with np.load(path) as golden:
            meta, shape = json.loads(str(golden["meta"])), tuple(golden["init_states_shape"])
            starts = {key.split("/")[1]: golden[key][0] for key in golden.files if key.endswith("/states")}
        task = suites.task(meta["suite"], meta["task_index"])
        problem = libero.problem(task)
        assert (task.name, task.language) == (meta["name"], meta["language"])
        assert problem.language == meta["language_from_bddl"]
        assert [list(predicate) for predicate in problem.goal] == meta["goal"]
        assert list(problem.of_interest) == meta["obj_of_interest"]
        states = libero.initial_states(task)
        assert states.shape == shape
        for name, start in starts.items():  # traj/kK starts from initial state K
            np.testing.assert_array_equal(states[int(name.removeprefix("k"))], start)
            rows += 1
    assert rows >= len(paths)
    record_property("tasks: name, sentences, goal", len(paths))
    record_property("initial states, equal to the bit", rows)


@pytest.mark.libero
@pytest.mark.goldens
def test_what_is_kept_is_what_the_reference_uses(goldens: Path, record_property) -> None:
    """Every file that the reference's composed scenes name is among those that fetch checks, and no code is."""
    robot, categories = assets.robosuite_assets(), json.loads((assets.libero_files() / "categories.json").read_text())
    needed = set(scene_files.check(assets.libero_assets(), categories))
    scenes = sorted((goldens / "sim").glob("*.xml.gz"))
    if not scenes:
        pytest.skip(f"no composed scenes in {goldens / 'sim'}")
    named = {"LIBERO": set(), "ROBOSUITE": set()}
    for path in scenes:
        text = gzip.decompress(path.read_bytes()).decode()
        for owner, file in re.findall(r"\$(LIBERO|ROBOSUITE)_ASSETS/([^\"]+)", text):
            named[owner].add(posixpath.normpath(file))
    assert named["LIBERO"] and named["LIBERO"] <= needed
    assert named["ROBOSUITE"] and all((robot / file).is_file() for file in named["ROBOSUITE"])
    record_property("mesh and texture files, all kept", len(named["LIBERO"]) + len(named["ROBOSUITE"]))
    for folder in (robot, assets.libero_files()):
        assert not [path for path in folder.rglob("*") if path.suffix in (".py", ".pruned_init", ".pkl")]
