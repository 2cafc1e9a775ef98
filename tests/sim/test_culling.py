"""Leaving out what is not seen changes no pixel, mirrors included, wherever the camera is."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from handeye.errors import UserError
from handeye.sim import observe, rendering
from handeye.sim.culling import Culling

FRAMES = 40


def scattered(rng: np.random.Generator, *, shadows: bool = False) -> mujoco.MjModel:
    """Things of every shape around a mirror, and a camera that hangs among them."""
    things = []
    for number in range(60):
        kind = ("box", "sphere", "capsule", "cylinder", "ellipsoid")[number % 5]
        size, colour = rng.uniform(0.02, 0.12, 3), rng.uniform(0.2, 1, 3)
        place, turn = np.array([0, 0, 1.1]) + rng.uniform(-1, 1, 3), rng.normal(size=4)
        things.append(
            f'<geom type="{kind}" group="1" size="{_(size)}" rgba="{_(colour)} 1" pos="{_(place)}" quat="{_(turn)}"/>'
        )
    return mujoco.MjModel.from_xml_string(
        f"""<mujoco>
          <asset><material name="mirror" reflectance=".5" rgba=".2 .2 .3 1"/></asset>
          <worldbody>
            <light pos="0 0 4" castshadow="{str(shadows).lower()}"/>
            <geom type="plane" size="3 3 .1" pos="0 0 -.3" group="1" rgba=".4 .5 .4 1"/>
            <geom type="box" group="1" size=".5 .4 .02" material="mirror"/>
            <body name="head" mocap="true">
              <camera name="agentview"/><camera name="robot0_eye_in_hand" fovy="75"/></body>
            {"".join(things)}
          </worldbody>
        </mujoco>"""
    )


def _(numbers: np.ndarray) -> str:
    return " ".join(f"{number:.4f}" for number in numbers)


def test_no_pixel_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        rendering.choose("auto")
    except UserError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(0)
    model = scattered(rng)
    data = mujoco.MjData(model)
    cameras = observe.cameras(model, 96, "auto")
    usual = Culling.visible
    hidden = reflected = 0
    for frame in range(FRAMES):
        data.mocap_pos[0] = np.array([0, 0, 1.3]) + rng.uniform(-1.2, 1.2, 3)
        mujoco.mju_mat2Quat(data.mocap_quat[0], _towards(rng.uniform(-0.6, 0.6, 3) - data.mocap_pos[0]).ravel())
        mujoco.mj_forward(model, data)
        name = ("agentview", "wrist")[frame % 2]
        ours = cameras.render(data, name)
        seen = cameras._culling.visible(data, cameras._ids[name])
        monkeypatch.setattr(Culling, "visible", lambda self, data, camera: np.ones(len(self._geoms), bool))
        np.testing.assert_array_equal(ours, cameras.render(data, name))
        monkeypatch.setattr(Culling, "visible", usual)
        hidden += int((~seen).sum())
        monkeypatch.setattr(cameras._culling, "_mirrors", [])
        reflected += bool((ours != cameras.render(data, name)).any())
        monkeypatch.undo()
    assert (model.geom_group == 1).all(), "what was hidden is back"
    assert hidden > 10 * FRAMES, "much is left out"
    assert reflected > 3, "without regard for mirrors pixels would change, so this test can fail"


def test_where_shadows_fall_everything_is_drawn() -> None:
    model = scattered(np.random.default_rng(0), shadows=True)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with Culling(model).of(data, 0):
        assert (model.geom_group == 1).all()


def _towards(direction: np.ndarray) -> np.ndarray:
    """A camera's axes that looks there, upright: its z points backwards."""
    back = -direction / np.linalg.norm(direction)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back], axis=1)
