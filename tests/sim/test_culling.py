"""Leaving out what is not seen changes no pixel, mirrors included, wherever the camera is."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from handeye.errors import UserError
from handeye.sim import culling, observe, rendering
from handeye.sim.culling import Culling, Seen

FRAMES = 30


def scattered(rng: np.random.Generator, *, shadows: bool = False, mirrors: int = 1) -> mujoco.MjModel:
    """Things of every shape around a mirror and under a table, a board that is not drawn, and a camera among them."""
    things, meshes = [], []
    for number in range(72):
        kind = ("box", "sphere", "capsule", "cylinder", "ellipsoid", "mesh")[number % 6]
        size, colour = rng.uniform(0.02, 0.12, 3), rng.uniform(0.2, 1, 3)
        place, turn = np.array([0, 0, 0.9]) + rng.uniform(-1, 1, 3), rng.normal(size=4)
        shape = f'type="{kind}" size="{_(size)}"'
        if kind == "mesh":
            meshes.append(f'<mesh name="m{number}" vertex="{_((rng.normal(size=(40, 3)) * size).ravel())}"/>')
            shape = f'type="mesh" mesh="m{number}"'
        things.append(f'<geom {shape} group="1" rgba="{_(colour)} 1" pos="{_(place)}" quat="{_(turn)}"/>')
    things += ['<geom type="box" group="1" size=".5 .4 .02" material="mirror"/>'] * mirrors
    return mujoco.MjModel.from_xml_string(
        f"""<mujoco>
          <asset><material name="mirror" reflectance=".5" rgba=".2 .2 .3 1"/>{"".join(meshes)}</asset>
          <worldbody>
            <light pos="0 0 4" castshadow="{str(shadows).lower()}"/>
            <geom type="plane" size="3 3 .1" pos="0 0 -.5" group="1" rgba=".4 .5 .4 1"/>
            <geom type="box" size="1.5 1.2 .03" pos=".3 0 -.06" group="1" rgba=".5 .4 .3 1"/>
            <geom type="box" size="2 2 .02" pos="0 0 .5" group="3" rgba=".9 .1 .1 1"/>
            <body name="head" mocap="true">
              <camera name="agentview"/><camera name="robot0_eye_in_hand" fovy="75"/></body>
            {"".join(things)}
          </worldbody>
        </mujoco>"""
    )


def _(numbers: np.ndarray) -> str:
    return " ".join(f"{number:.4f}" for number in numbers)


def everything(self: Culling, data: mujoco.MjData, camera: int) -> Seen:
    every = np.ones(self.model.ngeom, bool)
    return Seen(direct=every, mirrored=every, mirror=None)


@pytest.fixture
def eye(monkeypatch: pytest.MonkeyPatch):
    """A function that moves the cameras of a scattered scene somewhere else."""
    try:
        rendering.choose("auto")
    except UserError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(culling, "LARGE", 8)  # the meshes are judged by their hulls
    rng = np.random.default_rng(0)

    def move(model: mujoco.MjModel, data: mujoco.MjData) -> None:
        data.mocap_pos[0] = np.array([0, 0, 1.1]) + rng.uniform(-1.2, 1.2, 3)
        mujoco.mju_mat2Quat(data.mocap_quat[0], _towards(rng.uniform(-0.6, 0.6, 3) - data.mocap_pos[0]).ravel())
        mujoco.mj_forward(model, data)

    return move


def test_no_pixel_changes(eye, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scattered(np.random.default_rng(0))
    data = mujoco.MjData(model)
    cameras = observe.cameras(model, 96, "auto")
    count = dict.fromkeys(("hidden", "in one pass", "lids", "wrong without mirrors"), 0)
    lid = Culling._lid

    def counted(self, *args):
        found = lid(self, *args)
        count["lids"] += found is not None
        return found

    monkeypatch.setattr(Culling, "_lid", counted)
    for frame in range(FRAMES):
        eye(model, data)
        name = ("agentview", "wrist")[frame % 2]
        ours = cameras.render(data, name)
        seen = cameras._culling.seen(data, cameras._ids[name])
        with monkeypatch.context() as patch:
            patch.setattr(Culling, "seen", everything)
            np.testing.assert_array_equal(ours, cameras.render(data, name))
        with monkeypatch.context() as patch:
            patch.setattr(cameras._culling, "_mirror", None)
            count["wrong without mirrors"] += bool((ours != cameras.render(data, name)).any())
        count["hidden"] += int((~(seen.direct | seen.mirrored)).sum())
        if seen.mirror is not None:
            count["in one pass"] += int((seen.direct != seen.mirrored)[model.geom_type == 7].sum())
    assert sorted(model.geom_group)[-2:] == [1, 3], "what was hidden is back"
    assert count["hidden"] > 10 * FRAMES, "much is left out"
    assert count["in one pass"] > 3 * FRAMES, "much is drawn in the view alone, or in the mirror alone"
    assert count["lids"] > 3, "the table fills some of the pictures"
    assert count["wrong without mirrors"] > 3, "so this test can fail"


def test_only_the_first_of_two_mirrors_reflects(eye, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scattered(np.random.default_rng(1), mirrors=2)
    model.geom_pos[-2:, 0] = (-0.8, 0.8)
    data = mujoco.MjData(model)
    cameras = observe.cameras(model, 64, "auto")
    for _frame in range(10):
        eye(model, data)
        ours = cameras.render(data, "agentview")
        with monkeypatch.context() as patch:
            patch.setattr(Culling, "seen", everything)
            np.testing.assert_array_equal(ours, cameras.render(data, "agentview"))


def test_where_shadows_fall_everything_is_drawn() -> None:
    model = scattered(np.random.default_rng(0), shadows=True)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with Culling(model).of(data, 0) as seen:
        assert (model.geom_group[model.geom_group != 3] == 1).all()
    assert seen.direct.all()


def _towards(direction: np.ndarray) -> np.ndarray:
    """A camera's axes that looks there, upright: its z points backwards."""
    back = -direction / np.linalg.norm(direction)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back], axis=1)
