"""The protocols we can run. `openvla-2024`, `oft-2025` and `openpi-2025` repeat what those projects' scripts do."""

from __future__ import annotations

from dataclasses import replace

from handeye.errors import unknown
from handeye.protocols.protocol import Protocol

LIBERO_HORIZONS = {
    "libero_spatial": 220,  # longest demonstration 193 (openvla experiments/robot/libero/run_libero_eval.py)
    "libero_object": 280,  # longest demonstration 254 (same file)
    "libero_goal": 300,  # longest demonstration 270 (same file)
    "libero_10": 520,  # longest demonstration 505 (same file)
    "libero_90": 400,  # longest demonstration 373 (same file)
}
"""The loop of the reference runs to horizon + settle steps and counts both, so the policy has these many steps.
openpi's examples/libero/main.py has the same five numbers."""

OPEN_AND_STILL = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""Stand still, open the gripper: `get_libero_dummy_action` of openvla's libero_utils.py, LIBERO_DUMMY_ACTION of
openpi's main.py. LIBERO itself (2023) settles for 5 steps with zeros, which leaves the gripper where it is."""

SUPPORTED_MUJOCO = ">=3.2.3,<3.3.3"
"""3.3.3 darkens the floor (OpenVLA on libero_object 88 -> 68 %); 3.4.0 changes a stored scene (libero_spatial task 5,
98 -> 12 %)."""


def handeye_2026() -> Protocol:
    """Ours: the field's horizons and settling, scenes that depend on nothing but the episode's identity."""
    return Protocol(
        name="handeye-2026",
        version=1,
        horizons={
            **LIBERO_HORIZONS,
            "tabletop": 150,  # twice what the expert needs at most: 73 steps (initial states 0 to 2 of every task)
            "fake": 40,
        },
        settle_steps=10,  # as openvla and openpi: num_steps_wait
        settle_action=OPEN_AND_STILL,
        stream="episode",
        seed=0,
        camera_size="policy",
        image_steps="those of the policy's pipeline",
        replan_steps="chunk",
        initial_states=50,  # every stored state of a LIBERO task
        simulator=SUPPORTED_MUJOCO,
    )


def openvla_2024() -> Protocol:
    """OpenVLA: one action per look; the agentview camera, turned by 180 degrees."""
    return Protocol(
        name="openvla-2024",
        version=1,
        horizons=LIBERO_HORIZONS,
        settle_steps=10,  # run_libero_eval.py: num_steps_wait
        settle_action=OPEN_AND_STILL,
        stream="published",
        seed=0,  # libero_utils.py get_libero_env: env.seed(0), once per task; the script's own seed 7 never reaches it
        camera_size=256,  # libero_utils.py get_libero_env: camera_heights, camera_widths
        image_steps="turn 180 degrees, JPEG round trip, Lanczos3 to 224, centre crop of 0.9 of the area",
        replan_steps=1,
        initial_states=50,  # num_trials_per_task
        simulator=SUPPORTED_MUJOCO,  # theirs was unpinned (libero_requirements.txt); published before 3.3.3
    )


def oft_2025() -> Protocol:
    """OpenVLA-OFT: as OpenVLA, with chunks of eight executed whole and two cameras."""
    return replace(
        openvla_2024(),
        name="oft-2025",
        replan_steps=8,  # experiments/robot/libero/run_libero_eval.py: num_open_loop_steps
        # the same path as OpenVLA's, for both cameras (openvla_utils.py prepare_images_for_vla)
    )


def openpi_2025() -> Protocol:
    """openpi: five of ten actions per look."""
    return replace(
        openvla_2024(),
        name="openpi-2025",
        seed=7,  # examples/libero/main.py: seed, given to env.seed once per task
        image_steps="turn 180 degrees, resize with padding to 224",  # examples/libero/main.py
        replan_steps=5,  # examples/libero/main.py: replan_steps
    )


PROTOCOLS = {
    "handeye-2026": handeye_2026,
    "openvla-2024": openvla_2024,
    "oft-2025": oft_2025,
    "openpi-2025": openpi_2025,
}


def protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS, fix="name one of these with --protocol")
    return PROTOCOLS[name]()
