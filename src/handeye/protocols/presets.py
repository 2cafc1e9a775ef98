"""The protocols we can run or compare with, each constant with its source.

`openvla-2024`, `oft-2025`, `openpi-2025`, `lerobot-0.6` and `libero-2023` repeat what those projects' scripts do. The
commits that were read: openvla c8f03f4, openvla-oft 213c5ff, openpi 15a9616, lerobot 7427f318 (0.6.2), LIBERO 8f1084e.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from handeye.errors import UserError, unknown
from handeye.protocols.protocol import Protocol
from handeye.records import read_json

LIBERO_HORIZONS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}
"""The loop of the reference runs to horizon + settle steps and counts both, so the policy has these many steps."""

OPENVLA_SCRIPT = "openvla experiments/robot/libero/run_libero_eval.py"
OFT_SCRIPT = "openvla-oft experiments/robot/libero/run_libero_eval.py"
OPENPI_SCRIPT = "openpi examples/libero/main.py"
LEROBOT_ENV = "lerobot src/lerobot/envs/libero.py"
LIBERO_METRIC = "LIBERO libero/lifelong/metric.py, evaluate_one_task_success"

LONGEST = {"libero_spatial": 193, "libero_object": 254, "libero_goal": 270, "libero_10": 505, "libero_90": 373}
"""Steps of each suite's longest demonstration (comments in openvla's script): why the horizons are what they are."""

OPEN_AND_STILL = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""Stand still, open the gripper."""

SUPPORTED_MUJOCO = ">=3.2.3,<3.3.3"
"""3.3.3 darkens the floor (OpenVLA on libero_object 88 -> 68 %); 3.4.0 changes a stored scene (libero_spatial task 5,
98 -> 12 %)."""


def _horizon_sources(where: str) -> dict[str, str]:
    return {f"horizons.{suite}": f"{where}; longest demonstration {steps}" for suite, steps in LONGEST.items()}


def handeye_2026() -> Protocol:
    """Ours: the field's horizons and settling, scenes that depend on nothing but the episode's identity."""
    return Protocol(
        name="handeye-2026",
        version=1,
        about="the default: the field's horizons, scenes that depend on the episode's identity alone",
        horizons={**LIBERO_HORIZONS, "tabletop": 150, "fake": 40},
        settle_steps=10,
        settle_action=OPEN_AND_STILL,
        stream="episode",
        seed=0,
        camera_size="policy",
        image_steps="those of the policy's pipeline",
        replan_steps="chunk",
        initial_states=50,
        simulator=SUPPORTED_MUJOCO,
        sources={
            **_horizon_sources("as openvla, openvla-oft and openpi"),
            "horizons.tabletop": "twice what the expert needs at most: 73 steps (initial states 0 to 2 of every task)",
            "horizons.fake": "a suite for tests; the point needs at most 6 steps",
            "settle_steps": "as openvla and openpi: num_steps_wait",
            "settle_action": "as openvla and openpi: stand still, open the gripper",
            "stream": "ours: the same episode has the same scene, whatever ran before it",
            "seed": "ours: an arbitrary number, stated",
            "camera_size": "ours: a policy is shown what it was trained on, and declares it",
            "image_steps": "ours: the steps are saved in the checkpoint",
            "replan_steps": "ours: as the policy was trained to act",
            "initial_states": "every stored state of a LIBERO task; as openvla and openpi",
            "success": "as LIBERO's own check_success after a step, like every project here",
            "simulator": "3.2.3 and 3.3.2 agree to 1e-11; 3.3.3 darkens the floor (LIBERO issue 88), 3.4.0 changes a "
            "stored scene (RLinf issue 1460)",
        },
    )


def openvla_2024() -> Protocol:
    """OpenVLA: one action per look; the agentview camera, turned by 180 degrees."""
    return Protocol(
        name="openvla-2024",
        version=1,
        about="OpenVLA's script: one action per look, one camera, scenes by seed 0 once per task",
        horizons=LIBERO_HORIZONS,
        settle_steps=10,
        settle_action=OPEN_AND_STILL,
        stream="published",
        seed=0,
        camera_size=256,
        image_steps="turn 180 degrees, JPEG round trip, Lanczos3 to 224, centre crop of 0.9 of the area",
        replan_steps=1,
        initial_states=50,
        simulator=SUPPORTED_MUJOCO,
        sources={
            **_horizon_sources(f"{OPENVLA_SCRIPT}: max_steps"),
            "settle_steps": f"{OPENVLA_SCRIPT}: num_steps_wait",
            "settle_action": "openvla experiments/robot/libero/libero_utils.py: get_libero_dummy_action",
            "stream": f"{OPENVLA_SCRIPT}: one environment per task, reset once per episode, states in order",
            "seed": "openvla libero_utils.py get_libero_env: env.seed(0), once per task; the script's own seed 7 never "
            "reaches the simulator",
            "camera_size": "openvla libero_utils.py get_libero_env: camera_heights, camera_widths",
            "image_steps": "openvla libero_utils.py get_libero_image, resize_image; openvla_utils.py get_vla_action",
            "replan_steps": f"{OPENVLA_SCRIPT}: asks at every step",
            "initial_states": f"{OPENVLA_SCRIPT}: num_trials_per_task",
            "success": f"{OPENVLA_SCRIPT}: done after any step of the policy",
            "simulator": "theirs was not pinned (libero_requirements.txt); published before 3.3.3, whose floor is "
            "darker; 3.2.3 repeats the table (allenai/vla-evaluation-harness docker/Dockerfile.libero)",
        },
    )


def oft_2025() -> Protocol:
    """OpenVLA-OFT: as OpenVLA, with chunks of eight executed whole and two cameras."""
    ours = openvla_2024()
    return replace(
        ours,
        name="oft-2025",
        about="OpenVLA-OFT's script: as OpenVLA's, eight actions per look, two cameras",
        replan_steps=8,
        sources={
            **{name: text.replace(OPENVLA_SCRIPT, OFT_SCRIPT) for name, text in ours.sources.items()},
            "replan_steps": f"{OFT_SCRIPT}: num_open_loop_steps",
            "image_steps": "openvla-oft openvla_utils.py prepare_images_for_vla: OpenVLA's path for both cameras",
            "camera_size": f"{OFT_SCRIPT}: env_img_res",
        },
    )


def openpi_2025() -> Protocol:
    """openpi: five of ten actions per look."""
    ours = openvla_2024()
    return replace(
        ours,
        name="openpi-2025",
        about="openpi's script: five of ten actions per look, two cameras, scenes by seed 7 once per task",
        seed=7,
        image_steps="turn 180 degrees, resize with padding to 224",
        replan_steps=5,
        sources={
            **_horizon_sources(f"{OPENPI_SCRIPT}: max_steps"),
            "settle_steps": f"{OPENPI_SCRIPT}: num_steps_wait",
            "settle_action": f"{OPENPI_SCRIPT}: LIBERO_DUMMY_ACTION",
            "stream": f"{OPENPI_SCRIPT}: one environment per task, reset once per episode, states in order",
            "seed": f"{OPENPI_SCRIPT}: seed, given to env.seed once per task",
            "camera_size": f"{OPENPI_SCRIPT}: LIBERO_ENV_RESOLUTION",
            "image_steps": f"{OPENPI_SCRIPT}: [::-1, ::-1], resize_with_pad to resize_size",
            "replan_steps": f"{OPENPI_SCRIPT}: replan_steps",
            "initial_states": f"{OPENPI_SCRIPT}: num_trials_per_task",
            "success": f"{OPENPI_SCRIPT}: done after any step of the policy",
            "simulator": "openpi examples/libero/requirements.txt: 3.2.3, which agrees with 3.3.2 to 1e-11",
        },
    )


def lerobot_0_6() -> Protocol:
    """LeRobot: the generator is seeded anew for every episode, larger pictures, ten episodes per task."""
    return Protocol(
        name="lerobot-0.6",
        version=1,
        about="lerobot-eval as its LIBERO page runs it: seeds 1000 + i per episode, 360 pixels, ten episodes per task",
        horizons=LIBERO_HORIZONS | {"libero_spatial": 280},
        settle_steps=10,
        settle_action=OPEN_AND_STILL,
        stream="reseeded",
        seed=1000,
        camera_size=360,
        image_steps="turn 180 degrees, then the policy's own resize (224 for pi0.5)",
        replan_steps=10,
        initial_states=10,
        simulator=">=3.0,<3.9",
        sources={
            **_horizon_sources(f"{LEROBOT_ENV}: TASK_SUITE_MAX_STEPS"),
            "settle_steps": f"{LEROBOT_ENV}: num_steps_wait, in reset",
            "settle_action": f"{LEROBOT_ENV}: get_libero_dummy_action",
            "stream": f"{LEROBOT_ENV} reset: env.seed before every reset. Episode i has initial state i and seed + i "
            "where a task's episodes form one batch, as its LIBERO page asks for comparisons; with smaller batches "
            "they depend on when earlier episodes ended (lerobot issue 4152)",
            "seed": "lerobot src/lerobot/configs/eval.py: seed; lerobot_eval.py gives start_seed + i to episode i",
            "camera_size": "lerobot src/lerobot/envs/configs.py LiberoEnv: observation_height, observation_width",
            "image_steps": "lerobot LIBERO processor turns both axes; resizing is the policy's",
            "replan_steps": "lerobot docs/source/libero.mdx: --policy.n_action_steps=10 in the published command",
            "initial_states": "lerobot docs/source/libero.mdx: 10 episodes per task are recommended",
            "success": f"{LEROBOT_ENV} step: check_success after any step",
            "simulator": "hf-libero 0.1.4 allows >=3.0,<3.9 and lerobot's lock has 3.8.1, whose libero_spatial task 5 "
            "settles differently (98 -> 12 %, RLinf pull request 1496); handeye runs 3.2.3 to 3.3.2",
        },
    )


def libero_2023() -> Protocol:
    """LIBERO's own evaluation, of policies trained from scratch. Its fixtures stand wherever chance put them."""
    return Protocol(
        name="libero-2023",
        version=1,
        about="LIBERO's own evaluation: 600 steps, 20 episodes per task, 128 pixels; its scenes cannot be repeated",
        horizons=dict.fromkeys(LIBERO_HORIZONS, 600),
        settle_steps=5,
        settle_action=(0.0,) * 7,
        stream="unknown",
        seed="unknown",
        camera_size=128,
        image_steps="none: as OpenGL gives it, bottom row first, divided by 255",
        replan_steps=1,
        initial_states=20,
        simulator=SUPPORTED_MUJOCO,
        sources={
            "horizons": "LIBERO libero/configs/eval/default.yaml: max_steps, for every suite",
            "settle_steps": f"{LIBERO_METRIC}: 5 steps before the policy",
            "settle_action": f"{LIBERO_METRIC}: zeros, which leave the gripper where it is",
            "stream": "LIBERO's metric.py never seeds its environments and its evaluate.py resets them before it does: "
            "an unseeded generator placed the fixtures",
            "seed": "LIBERO's seeds reached no placement",
            "camera_size": "LIBERO libero/configs/data/default.yaml: img_h, img_w",
            "image_steps": f"{LIBERO_METRIC}: raw_obs_to_tensor_obs",
            "replan_steps": f"{LIBERO_METRIC}: get_action at every step",
            "initial_states": "LIBERO libero/configs/eval/default.yaml: n_eval",
            "success": f"{LIBERO_METRIC}: done after any step",
            "simulator": "theirs was not pinned; 2.3.7 settles as 3.2.3 and 3.3.2 do (libero_spatial task 5)",
        },
    )


PROTOCOLS: Mapping[str, Callable[[], Protocol]] = {
    "handeye-2026": handeye_2026,
    "openvla-2024": openvla_2024,
    "oft-2025": oft_2025,
    "openpi-2025": openpi_2025,
    "lerobot-0.6": lerobot_0_6,
    "libero-2023": libero_2023,
}


def protocol(name: str) -> Protocol:
    """To run: by its name or, for one of your own, the path of a JSON file. UserError where a constant is unknown."""
    found = described(name)
    found.scenes()
    return found


def described(name: str) -> Protocol:
    """To read and compare: also one that cannot be run."""
    if name in PROTOCOLS:
        return PROTOCOLS[name]()
    if name.endswith(".json"):
        return _read(Path(name))
    raise unknown("protocol", name, PROTOCOLS, fix="name one of these with --protocol, or a file such as mine.json")


def _read(path: Path) -> Protocol:
    """A protocol of the user's own, as `protocols show --json` prints one. A name of ours keeps its meaning."""
    value = read_json(path, what="a protocol")
    try:
        made = Protocol.from_json(value)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not a protocol.",
            why=str(error),
            fix="start from one that is: `handeye protocols show handeye-2026 --json > mine.json`",
        ) from None
    if made.name in PROTOCOLS and made != PROTOCOLS[made.name]():
        raise UserError(
            f"{path} changes {made.name} and keeps its name.",
            why="a name always means the same: two runs under it must be comparable",
            fix="give it a name of its own",
        )
    return made
