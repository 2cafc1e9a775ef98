"""Compiled models against the reference's: every stored array, all names in order, solver options, meshes, textures.

`body_pos` and `body_quat` were stored after the construction's own first placement (`numpy.random.seed(0)` just before,
one load of the model), so placement is part of the comparison.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import mujoco
import numpy as np
import pytest

from handeye.sim import libero, suites
from handeye.sim.placement import place
from handeye.sim.scene import libero_scene
from handeye.sim.world import Scene

pytestmark = [pytest.mark.goldens, pytest.mark.libero]
TOLERANCE = 1e-12

NOT_COMPARED = {"tex_pathadr"}
"""Where a file's name begins in the table of absolute paths: it depends on the length of the folder's name."""

NAMED = {
    "body": "nbody", "joint": "njnt", "geom": "ngeom", "site": "nsite", "camera": "ncam", "light": "nlight",
    "actuator": "nu", "mesh": "nmesh", "material": "nmat", "texture": "ntex", "sensor": "nsensor",
    "tendon": "ntendon", "equality": "neq",
}  # fmt: skip


def scene_of(golden: np.lib.npyio.NpzFile) -> Scene:
    meta = json.loads(str(golden["meta"]))
    return libero_scene(libero.problem(suites.task(meta["suite"], meta["task_index"])))


def construct(scene: Scene) -> None:
    """The reference's constructor, as far as it moves fixtures."""
    for name, array in scene.pristine.items():
        getattr(scene.model, name)[:] = array
    data, rng = mujoco.MjData(scene.model), np.random.RandomState(0)
    rng.randn(7)
    data.qpos[: len(scene.init_qpos)] = scene.init_qpos
    place(scene, scene.model, data, rng, loads=1)


def test_every_array(golden_task: str, sim_goldens: Path, record_property) -> None:
    golden = np.load(sim_goldens / f"{golden_task}.npz")
    stored = {key.removeprefix("model/") for key in golden.files if key.startswith("model/")} - NOT_COMPARED
    arrays = {name for name in stored if not name.startswith(("names_", "sha_")) and name != "opt"}
    scene = scene_of(golden)
    construct(scene)
    differing, bit_equal = {}, 0
    for name in arrays:
        ours, theirs = getattr(scene.model, name), golden[f"model/{name}"]
        assert ours.shape == theirs.shape, name
        bit_equal += np.array_equal(ours, theirs)
        if not np.allclose(ours, theirs, rtol=0, atol=TOLERANCE):
            differing[name] = float(np.abs(ours.astype(float) - theirs).max())
    assert not differing, f"{bit_equal} of {len(arrays)} arrays are equal to the last bit; off by: {differing}"
    assert {"body_pos", "body_quat", "geom_size", "dof_M0", "qpos0"} <= arrays
    record_property("arrays of compiled models", len(arrays))
    record_property("of those equal to the last bit", bit_equal)


def test_names_options_and_bulk(golden_task: str, sim_goldens: Path, record_property) -> None:
    golden = np.load(sim_goldens / f"{golden_task}.npz")
    model = scene_of(golden).model
    kinds = [key.removeprefix("model/names_") for key in golden.files if key.startswith("model/names_")]
    assert set(kinds) == set(NAMED)
    for kind in kinds:
        object_type = getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}")
        names = [mujoco.mj_id2name(model, object_type, number) or "" for number in range(getattr(model, NAMED[kind]))]
        assert names == [str(name) for name in golden[f"model/names_{kind}"]], kind
        record_property("names in order", len(names))
    options = json.loads(str(golden["model/opt"]))
    for name, value in options.items():
        np.testing.assert_array_equal(getattr(model.opt, name), value, err_msg=name)
    record_property("options", len(options))
    shas = [key.removeprefix("model/sha_") for key in golden.files if key.startswith("model/sha_")]
    assert set(shas) == {"mesh_vert", "mesh_face", "tex_data"}
    for name in shas:
        found = hashlib.sha256(np.ascontiguousarray(getattr(model, name))).hexdigest()
        assert found == str(golden[f"model/sha_{name}"]), name
        record_property("mesh and texture buffers", 1)


def test_every_file_is_taken(sim_goldens: Path, record_property) -> None:
    """`golden_task` goes by the composed scenes; every other file of a task belongs to one of them."""
    tasks = {path.name.removesuffix(".xml.gz") for path in sim_goldens.glob("*.xml.gz")}
    assert tasks == {path.stem for path in sim_goldens.glob("*.npz") if not path.stem.endswith("-predicates")}
    assert len(tasks) > 0
    record_property("tasks", len(tasks))
