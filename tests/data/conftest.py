"""Made-up demonstrations with known contents, in memory and as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handeye.data.hdf5.demo import DemoRecord, TaskHeader, record
from handeye.data.hdf5.write import write_task_file

SIZE = 12
HEADER = TaskHeader(
    name="put_the_bowl_on_the_plate",
    language="put the bowl on the plate",
    env_name="Libero_Tabletop_Manipulation",
    problem_name="libero_tabletop_manipulation",
    bddl_file="libero_goal/put_the_bowl_on_the_plate.bddl",
    bddl_text="(define)",
    env_args={"camera_heights": SIZE},
)


def make_demo(steps: int, seed: int) -> DemoRecord:
    """Pixel (0, 0) of every image holds its step; the arm's joints are those of the states."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(steps, 30))
    images = {name: rng.integers(0, 256, (steps, SIZE, SIZE, 3), dtype=np.uint8) for name in ("agentview", "wrist")}
    for frames in images.values():
        frames[:, 0, 0] = np.arange(steps)[:, None]
    quaternions = rng.normal(size=(steps, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    actions = rng.uniform(-1, 1, (steps, 7))
    actions[:, 6] = np.sign(actions[:, 6])
    return record(
        actions=actions,
        states=states,
        images=images,
        robot_states=np.concatenate([rng.normal(size=(steps, 5)), quaternions], axis=1),
        joint_states=states[:, 1:8],
        model_file="<mujoco/>",
        info={"seed": seed},
    )


@pytest.fixture
def demo() -> Callable[[int, int], DemoRecord]:
    return make_demo


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    """Three demonstrations of one task."""
    path = tmp_path / "put_the_bowl_on_the_plate_demo.hdf5"
    write_task_file(path, HEADER, [make_demo(steps, steps) for steps in (5, 9, 7)])
    return path


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two suites, three tasks, five demonstrations each of 4 to 8 steps."""
    root = tmp_path_factory.mktemp("folder")
    for number, name in enumerate(("a/push_the_button", "a/open_the_drawer", "b/put_the_bowl_on_the_plate")):
        path = root / f"{name}_demo.hdf5"
        write_task_file(path, HEADER, [make_demo(4 + k, 10 * number + k) for k in range(5)])
    return root


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks of the tabletop suite, two demonstrations each, from the simulator."""
    from handeye.expert.config import DemosConfig
    from handeye.expert.demos import run

    out = tmp_path_factory.mktemp("recorded") / "tabletop"
    return run(DemosConfig(suite="tabletop", tasks=(0, 1), per_task=2, camera_size=48, workers=1, out=out))
