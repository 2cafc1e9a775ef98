"""What the cameras show, pixel for pixel, in OSMesa and in EGL on the same Mesa. Culling is on, as it always is.

A process draws with one library, so the drawing is done by this file as a program of its own, a quarter of the tasks
at a time: `python test_images.py BACKEND GOLDENS TASK...` prints one JSON line per image.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = [pytest.mark.goldens, pytest.mark.libero, pytest.mark.slow]
SHARES = 4
SOFTWARE = "llvmpipe"
"""What drew the reference's images; a GPU rounds otherwise."""


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("backend", ["osmesa", "egl"])
def test_every_image(backend: str, share: int, sim_goldens: Path, record_property) -> None:
    tasks = sorted(path.name.removesuffix(".xml.gz") for path in sim_goldens.glob("*.xml.gz"))[share::SHARES]
    wanted = sorted(path.name for task in tasks for path in sim_goldens.glob(f"{task}-k*.png"))
    command = [sys.executable, "-W", "ignore", __file__, backend, str(sim_goldens), *tasks]
    chosen = ("MUJOCO_GL", "PYOPENGL_PLATFORM")  # by tests that drew in this process before
    fresh = {name: value for name, value in os.environ.items() if name not in chosen}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=fresh)
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(one["file"] for one in found) == wanted
    assert len(found) >= 4 * len(tasks) > 0
    assert [one for one in found if one["differing"]] == []
    record_property(f"images equal in every pixel with {backend}", len(found))


def draw(backend: str, goldens: Path, tasks: list[str]) -> None:
    import numpy as np
    from PIL import Image

    from handeye.errors import UserError
    from handeye.sim import libero, rendering, suites
    from handeye.sim.config import SimConfig
    from handeye.sim.placement import FIRST_LOADS

    try:
        choice = rendering.choice(backend)
    except UserError as error:
        sys.exit(_say(str(error)))
    if SOFTWARE not in choice.renderer:
        sys.exit(_say(f"{backend} draws with {choice.renderer}, the reference's images with {SOFTWARE}"))
    for name in tasks:
        golden = np.load(goldens / f"{name}.npz")
        meta = json.loads(str(golden["meta"]))
        moments = defaultdict(list)
        for path in sorted(goldens.glob(f"{name}-k*.png")):
            number, step, camera = path.stem.removeprefix(f"{name}-k").split("-")
            moments[int(number), int(step)].append((camera, path))
        env = suites.make(suites.task(meta["suite"], meta["task_index"]), SimConfig(backend=backend))
        for number in sorted({number for number, _ in moments}):
            earlier = sum(key.startswith("reset/") and key.endswith("/state") for key in golden.files)
            env.place(np.random.RandomState(0), FIRST_LOADS + earlier + number)
            env.set_state(libero.initial_states(env.task)[number])
            for step, action in enumerate([None, *golden[f"traj/k{number}/actions"]]):
                if action is not None:
                    env.step(action, look=(number, step) in moments)
                for camera, path in moments.get((number, step), ()):
                    theirs = np.asarray(Image.open(path))[::-1]
                    differing = int((env.observe().images[camera] != theirs).sum())
                    print(json.dumps({"file": path.name, "differing": differing}))  # noqa: T201
        env.close()


def _say(text: str) -> int:
    sys.stderr.write(text + "\n")
    return 2


if __name__ == "__main__":
    draw(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
