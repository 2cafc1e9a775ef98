"""What LIBERO's numbers mean, each with its source. The built-in tabletop suite speaks the same conventions."""

from __future__ import annotations

from dataclasses import replace

from handeye.conventions.gripper import Gripper
from handeye.conventions.image import Orientation
from handeye.conventions.rotation import Rotation
from handeye.conventions.spec import ActionSpec, ImageSpec, ProprioSpec, Specs

CAMERAS = ("agentview", "wrist")
"""Our names of LIBERO's agentview and robot0_eye_in_hand."""

HDF5_IMAGES = {"agentview": "agentview_rgb", "wrist": "eye_in_hand_rgb"}
"""Our name of a camera -> its dataset under obs/ in a demonstration file."""

ACTION = ActionSpec(
    width=7,
    control="eef_delta",
    low=-1.0,
    high=1.0,
    metres_per_unit=0.05,  # output_max of robosuite's controllers/config/osc_pose.json
    radians_per_unit=0.5,  # the same file
    gripper=Gripper.PM1_CLOSE,  # robosuite PandaGripper.format_action: -1 opens, +1 closes
    gripper_index=6,
    hz=20.0,  # LIBERO envs/env_wrapper.py: control_freq
)

IMAGE = ImageSpec(cameras=CAMERAS, height=128, width=128, orientation=Orientation.UPRIGHT)
"""As our simulator and our readers hand it out; 128: LIBERO envs/env_wrapper.py camera_heights."""

PROPRIO = ProprioSpec(
    parts=(("eef_position", 3), ("eef_orientation", 3), ("finger_positions", 2)),
    rotation=Rotation.AXIS_ANGLE_ROBOSUITE,
)
"""openvla-oft experiments/robot/libero/run_libero_eval.py:253-260; see conventions/proprio.py for frames and units."""


def specs(*, camera_size: int, cameras: tuple[str, ...] = CAMERAS) -> Specs:
    """Of a LIBERO or tabletop simulator that renders at this size."""
    image = replace(IMAGE, cameras=cameras, height=camera_size, width=camera_size)
    return Specs(action=ACTION, image=image, proprio=PROPRIO)
