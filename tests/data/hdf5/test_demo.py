from __future__ import annotations

from dataclasses import replace

import numpy as np

from handeye.conventions.rotation import axis_angle_robosuite


def test_a_recorder_gives_what_libero_stores_twice(demo) -> None:
    made = demo(6, 0)
    np.testing.assert_array_equal(made.gripper_states, made.robot_states[:, :2])
    np.testing.assert_array_equal(made.ee_states[:, :3], made.robot_states[:, 2:5])
    np.testing.assert_array_equal(made.ee_states[:, 3:], axis_angle_robosuite(made.robot_states[:, 5:]))
    assert made.dones.tolist() == made.rewards.tolist() == [0, 0, 0, 0, 0, 1]
    assert made.succeeded and len(made) == 6
    np.testing.assert_array_equal(made.init_state, made.states[0])


def test_every_action_gets_what_was_seen_before_it(demo) -> None:
    made = demo(6, 0)
    before = made.episode(id="id", task="task", prompt="prompt", source={})
    assert len(before.actions) == 6 and before.source["actions_left_out"] == 0
    np.testing.assert_array_equal(before.images["wrist"], made.images["wrist"])

    after = replace(made, observed="after").episode(id="id", task="task", prompt="prompt", source={"file": "f"})
    assert after.source == {"file": "f", "observed": "after", "actions_left_out": 1}
    np.testing.assert_array_equal(after.actions, made.actions[1:])
    np.testing.assert_array_equal(after.states, made.states[1:])
    np.testing.assert_array_equal(after.images["wrist"], made.images["wrist"][:-1])
    np.testing.assert_array_equal(after.proprio[:, 3:6], made.ee_states[:-1, 3:])
