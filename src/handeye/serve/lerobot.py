"""A policy of LeRobot's, in its own library: for checkpoints that this program does not read itself.

LeRobot is not among our requirements. Its releases up to 0.4.4 cannot be installed beside our pinned versions (they
want an older huggingface-hub or torch), so it lives in an environment of its own, where handeye is installed too.

What a policy sees is what LeRobot's LIBERO environment shows it (lerobot envs/libero.py and processor/env_processor.py
at 0.6): images turned by 180 degrees as floats in [0, 1], the eight numbers of the arm, the sentence. Its actions are
LIBERO's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from handeye.conventions import image, libero
from handeye.conventions.image import Orientation
from handeye.conventions.spec import Specs
from handeye.errors import UserError
from handeye.serve.lerobot_weights import require_loaded
from handeye.types import ActionChunk, EpisodeId, Observation

IMAGES = "observation.images."
CAMERAS = {"image": "agentview", "image2": "wrist", "wrist_image": "wrist"}
"""LeRobot's names of LIBERO's cameras, of its own data sets and of older ones -> ours."""

STATE, ACTION, TASK = "observation.state", "action", "task"
NO_CAMERA = "empty_camera"
"""LeRobot's placeholder for a camera that its π0 was built for and LIBERO lacks. The policy fills it in itself."""


class LeRobotPolicy:
    """Observations are answered one at a time, each with the noise of its own seed, so no answer depends on another."""

    def __init__(self, path: str, *, device: str) -> None:
        """`path`: a folder that LeRobot saved, or a name on its hub. UserError where the library is missing or the
        policy is not one for LIBERO that answers single observations with chunks."""
        configs, factory = _library()
        config = configs.PreTrainedConfig.from_pretrained(path)
        config.device = device
        self._cameras = _cameras(path, config)
        _refuse_memory(path, config)
        # strict: LeRobot's default leaves out weights that do not fit, and says so in a log line
        self._policy = factory.get_policy_class(config.type).from_pretrained(path, config=config, strict=True)
        require_loaded(self._policy, path)
        self._policy.to(device).eval()
        self._before, self._after = factory.make_pre_post_processors(
            policy_cfg=config,
            pretrained_path=path,
            preprocessor_overrides={"device_processor": {"device": device}},
        )
        self._device = device
        self.chunk = int(getattr(config, "n_action_steps", 1))
        """Actions executed of each prediction, as LeRobot does it."""

        self.specs: Specs = libero.specs(
            camera_size=_size(path, config), cameras=tuple(dict.fromkeys(self._cameras.values()))
        )

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        """Nothing is remembered between questions."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self._answer(observation) for observation in observations]

    def _answer(self, seen: Observation) -> ActionChunk:
        asked: dict[str, Any] = {STATE: torch.from_numpy(seen.proprio.copy())[None], TASK: [seen.prompt]}
        for key, name in self._cameras.items():
            turned = image.convert(seen.images[name], source=Orientation.UPRIGHT, target=Orientation.TURNED_180)
            pixels_HW3 = torch.from_numpy(np.ascontiguousarray(turned))
            asked[key] = pixels_HW3.permute(2, 0, 1)[None].float() / 255
        devices = [torch.device(self._device)] if self._device.startswith("cuda") else []
        with torch.inference_mode(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seen.seed)
            self._policy.reset()
            chunk_BTA = self._policy.predict_action_chunk(self._before(asked))[:, : self.chunk]
            # Its own loop hands the post-processor one action per call; statistics may have any shape in it.
            steps = [self._after(chunk_BTA[:, step])[0] for step in range(chunk_BTA.shape[1])]
        return ActionChunk(actions=torch.stack(steps).float().cpu().numpy())


def _library() -> tuple[Any, Any]:
    try:
        from lerobot.configs import policies as configs
        from lerobot.policies import factory
    except ImportError as error:
        raise UserError(
            "LeRobot's policies need LeRobot.",
            why=str(error),
            fix="install it (pip install lerobot, if need be in an environment of its own together with handeye), or "
            "evaluate a server of it: ws://HOST:PORT",
        ) from None
    return configs, factory


def _cameras(path: str, config: Any) -> dict[str, str]:
    """LeRobot's key -> our camera, for each image that the policy takes."""
    found = {}
    for key in config.input_features:
        name = key.removeprefix(IMAGES)
        if key.startswith(IMAGES) and not name.startswith(NO_CAMERA):
            if name not in CAMERAS:
                raise _unfit(path, f"it looks through '{name}'; LIBERO's cameras are {', '.join(CAMERAS)}")
            found[key] = CAMERAS[name]
        elif not key.startswith((IMAGES, STATE)):
            raise _unfit(path, f"it wants '{key}', which LIBERO's environments do not give")
    return found


def _size(path: str, config: Any) -> int:
    """Of the images it was trained on, which its policies resize themselves."""
    shapes = {tuple(f.shape) for key, f in config.input_features.items() if key.removeprefix(IMAGES) in CAMERAS}
    if len(shapes) > 1 or any(len(shape) != 3 or shape[1] != shape[2] for shape in shapes):
        raise _unfit(path, f"its images have the shapes {sorted(shapes)}; one square size is expected")
    state = config.input_features.get(STATE)
    if state is not None and tuple(state.shape) != (libero.PROPRIO.width,):
        raise _unfit(path, f"its state has the shape {tuple(state.shape)}, LIBERO's has {libero.PROPRIO.width} numbers")
    action = config.output_features.get(ACTION)
    if action is None or tuple(action.shape) != (libero.ACTION.width,):
        raise _unfit(path, f"its actions have the shape {action and tuple(action.shape)}, LIBERO's 7 numbers")
    return int(next(iter(shapes))[1]) if shapes else libero.IMAGE.height


def _refuse_memory(path: str, config: Any) -> None:
    if getattr(config, "n_obs_steps", 1) != 1:
        raise _unfit(path, f"it looks at the last {config.n_obs_steps} observations; a question here holds one")
    if getattr(config, "temporal_ensemble_coeff", None) is not None:
        raise _unfit(
            path, "it averages over earlier predictions (temporal_ensemble_coeff), so it must be asked each step"
        )


def _unfit(path: str, why: str) -> UserError:
    return UserError(
        f"{path} is not a policy of LeRobot's that can be evaluated here.",
        why=why,
        fix="use a policy trained on LIBERO that answers one observation with a chunk of actions",
    )
