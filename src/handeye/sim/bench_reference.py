"""The reference simulator behind the benchmark's few commands. Run by another interpreter; imports nothing of handeye.

`bench.py` starts this file with an interpreter that has hf-libero 0.1.4, robosuite 1.4.0 and mujoco 3.3.2, and speaks
JSON lines with it. `bench_ours.py` answers the same commands, but looks less often: the reference cannot step without
drawing.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder, whose libero.py and bddl.py are not the reference's

import contextlib
import importlib
import importlib.util
import json
import os
import tempfile
import time
from pathlib import Path

SETTLE = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]


def configure(assets: str) -> dict[str, str]:
    """LIBERO asks on a terminal where its files are, unless a file says it."""
    spec = importlib.util.find_spec("libero")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'libero' (hf-libero)")
    root = next(iter(spec.submodule_search_locations)) + "/libero"
    folder = tempfile.mkdtemp(prefix="libero-config-")
    os.environ["LIBERO_CONFIG_PATH"] = folder
    places = {"benchmark_root": root, "bddl_files": root + "/bddl_files", "init_states": root + "/init_files"}
    places.update(datasets=folder, assets=assets)
    Path(folder, "config.yaml").write_text("".join(f"{name}: {path}\n" for name, path in places.items()))
    package = importlib.import_module("libero.libero")
    package._assets_path_cache = assets  # type: ignore[attr-defined]
    return places


class Driver:
    """One environment at a time."""

    def __init__(self, assets: str) -> None:
        self.places = configure(assets)
        self.envs = importlib.import_module("libero.libero.envs")
        self.benchmark = importlib.import_module("libero.libero.benchmark")
        self.torch = importlib.import_module("torch")

    def open(self, suite: str, task: int, size: int, cameras: bool) -> None:
        """Task name -> first observation."""
        found = self.benchmark.get_benchmark_dict()[suite]().get_task(task)
        bddl = "/".join((self.places["bddl_files"], found.problem_folder, found.bddl_file))
        states = "/".join((self.places["init_states"], found.problem_folder, found.init_states_file))
        if cameras:
            self.env = self.envs.OffScreenRenderEnv(bddl_file_name=bddl, camera_heights=size, camera_widths=size)
        else:
            self.env = self.envs.env_wrapper.ControlEnv(
                bddl_file_name=bddl, has_offscreen_renderer=False, use_camera_obs=False
            )
        self.states = self.torch.load(states, weights_only=False)
        self.start(0, 0)

    def start(self, initial_state: int, settle: int) -> None:
        self.env.seed(0)
        self.env.reset()
        self.env.set_init_state(self.states[initial_state])
        self.steps([SETTLE] * settle)

    def steps(self, actions: list[list[float]]) -> None:
        for action in actions:
            self.env.step(action)

    def state(self) -> list[float]:
        return list(self.env.get_sim_state())

    def close(self) -> None:
        self.env.close()
        del self.env


def answer(driver: object) -> None:
    """JSON lines: a command in; its value, seconds and processor seconds out. What libraries print is no answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        command = json.loads(line)
        method = getattr(driver, command.pop("do"))
        wall, cpu = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(sys.stderr):
            value = method(**command)
        times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        answers.write(json.dumps({"value": value, **times}) + "\n")
        answers.flush()


if __name__ == "__main__":
    answer(Driver(sys.argv[1]))
