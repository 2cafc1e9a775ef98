"""Demonstrations in the fake environment: a square to reach, in LIBERO's file layout, made in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handeye.data.hdf5.demo import TaskHeader, record
from handeye.data.hdf5.write import write_task_file
from handeye.sim import fake
from handeye.sim.config import SimConfig
from handeye.types import EpisodeId


def demonstrate(env: fake.FakeEnv, episode: EpisodeId):
    """Straight to the target. What the fake calls proprioception is kept from the policy: it must look."""
    env.reset(episode)
    actions, images = [], {"agentview": [], "wrist": []}
    while not actions or not env.success():
        observation = env.observe()
        point, target = observation.proprio[:2], observation.proprio[2:4]
        action = np.zeros(7)
        action[:2] = np.clip((target - point) / fake.STEP, -1, 1)
        action[6] = -1 if len(actions) % 2 else 1
        for camera in images:
            images[camera].append(observation.images[camera])
        actions.append(action)
        env.step(action, look=True)
    steps = len(actions)
    robot_states = np.zeros((steps, 9))
    robot_states[:, 8] = 1
    return record(
        actions=np.array(actions),
        states=np.zeros((steps, 9)),
        images={camera: np.array(frames) for camera, frames in images.items()},
        robot_states=robot_states,
        joint_states=np.zeros((steps, 7)),
    )


@pytest.fixture(scope="session")
def fake_demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tasks, three demonstrations each, 32-pixel images."""
    root = tmp_path_factory.mktemp("demos")
    for task in fake.tasks("fake"):
        env = fake.make(task, SimConfig(camera_size=32))
        header = TaskHeader(name=task.name, language=task.language, env_name="Fake", problem_name="fake")
        demos = [demonstrate(env, EpisodeId(suite="fake", task=task.index, initial_state=n)) for n in range(3)]
        write_task_file(root / f"{task.name}_demo.hdf5", header, demos)
    return root
