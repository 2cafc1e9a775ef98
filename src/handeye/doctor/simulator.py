"""Is this simulator the one that the numbers are about? `handeye sim check`, and which GPU draws."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from handeye.doctor import probes
from handeye.doctor.findings import Finding, of

TOPIC = "simulator"
ok, warn, fail = of(TOPIC)

MEANS = {
    "MuJoCo": "success rates differ by tens of per cent with another version",
    "graphics": "nothing can be seen, so no policy that looks can be evaluated",
    "floor brightness": "pictures are darker than in training (OpenVLA on LIBERO-Object: 88 % -> 68 %)",
    "LIBERO's files": "the built-in tabletop suite runs, LIBERO does not",
}


def check() -> Iterator[Finding]:
    try:
        found = probes.ask("simulator", timeout=300.0)
    except probes.UnansweredError as why:
        yield fail("probe", str(why), "no episode can be rolled out", "handeye sim check; pip install 'handeye[sim]'")
        return
    for each in found:
        about, measured, fix = each["about"], each["measured"], each["fix"]
        if each["expected"] and each["verdict"] != "ok":
            measured += f" (expected {each['expected']})"
        means = MEANS.get(about, "scenes move or look otherwise than those that the numbers are about")
        if each["verdict"] == "ok":
            yield ok(about, measured)
        elif each["verdict"] == "skipped":
            yield warn(about, measured, means, fix)
        else:
            yield fail(about, measured, means, fix or "handeye sim check")
    yield from _device()


def _device() -> Iterator[Finding]:
    try:
        drawn = probes.ask("egl")
    except probes.UnansweredError:
        return  # `graphics` has said it
    software = any(word in drawn["renderer"].lower() for word in ("llvmpipe", "softpipe", "swrast"))
    named = os.environ.get("MUJOCO_EGL_DEVICE_ID")
    said = f"{drawn['backend']}: {drawn['renderer']}" + (f", device {named}" if named else "")
    if software and shutil.which("nvidia-smi"):
        yield warn(
            "draws with",
            said,
            "right and slow; on a GPU machine the driver's EGL library is missing",
            "apt-get install libegl1; containers need NVIDIA_DRIVER_CAPABILITIES=all",
        )
    else:
        yield ok("draws with", said)
