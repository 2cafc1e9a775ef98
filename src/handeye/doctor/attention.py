"""Ways to compute attention, each compared with an exact sum: another backend reads a mask in another way, or not."""

from __future__ import annotations

from collections.abc import Iterator

from handeye.doctor import probes
from handeye.doctor.findings import Finding, of

TOPIC = "attention"
ok, warn, fail = of(TOPIC)

TOLERANCE = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 3e-2}
"""Relative. A mask that is not read gives 0.3."""


def check() -> Iterator[Finding]:
    try:
        found = probes.ask("attention")
    except probes.UnansweredError as why:
        yield warn("attention", f"not tried: {why}", "no model runs without torch", "see the topic gpu")
        return
    works, refuses = [], []
    for key, result in found["backends"].items():
        name, _, dtype = key.partition(", ")
        if "not" in result:
            refuses.append(key)
        elif result["error"] <= TOLERANCE[dtype]:
            works.append(f"{name} {dtype} {result['error']:.0e}")
        else:
            yield fail(
                key,
                f"differs from the exact sum by {result['error']:.1e}",
                "answers are wrong without an error, most of all for padded prompts",
                "update torch and the driver; until then use --attention eager",
            )
    if works:
        yield ok("with padding", f"{', '.join(works)} (relative error, {found['device']})")
    else:
        yield fail("with padding", "no way to compute attention works", "no model runs", "reinstall torch")
    if refuses:
        yield ok("not here", f"{', '.join(refuses)}: torch takes another by itself")
