"""A start with that part of a checkpoint which fits (`handeye train --allow-partial`), and how it is told.

Everything else here loads all or nothing. Who changes a head, a chunk or the cameras of a policy wants its other
weights all the same; what was not among them must then be known wherever the policy goes, for it acts as if all had
been learned. So a record of it stays in the checkpoint (`provenance.partial`), one per such start on the way to it.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any

Shapes = Mapping[str, Sequence[int]]
Record = dict[str, Any]
"""{from, modules: {name: {numbers, loaded, new: {tensor: why}}}, left_out: [tensor]}: of each part of the model, how
many numbers it has and how many of them came from the checkpoint."""


def compare(wanted: Shapes, found: Shapes, *, fresh: Sequence[str] = (), what: str) -> Record | None:
    """None: everything fits. `fresh`: patterns of tensors that a checkpoint may lack."""
    new = {
        name: "missing" if name not in found else f"{list(found[name])} there, {list(shape)} here"
        for name, shape in wanted.items()
        if not (name in found and list(found[name]) == list(shape))
        and not (name not in found and any(fnmatch.fnmatchcase(name, pattern) for pattern in fresh))
    }
    left_out = sorted(found.keys() - wanted.keys())
    if not new and not left_out:
        return None
    modules: dict[str, dict[str, Any]] = {}
    for name, shape in wanted.items():
        module = modules.setdefault(name.split(".")[0], {"numbers": 0, "loaded": 0, "new": {}})
        module["numbers"] += math.prod(shape)
        module["loaded"] += math.prod(shape) if name in found and name not in new else 0
        module["new"] |= {name: new[name]} if name in new else {}
    return {"from": what, "modules": modules, "left_out": left_out}


def told(record: Record) -> str:
    """On lines of a terminal."""
    width = max(len(name) for name in record["modules"])
    lines = [f"From {record['from']} came only what fits, the rest from the seed (--allow-partial):"]
    for name, module in record["modules"].items():
        share = module["loaded"] / module["numbers"]
        lines.append(f"  {name:{width}}  {share:7.2%} of {module['numbers']:,} numbers")
        lines += [f"  {'':{width}}    new: {tensor} ({why})" for tensor, why in module["new"].items()]
    lines += [f"  left out: {name}" for name in record["left_out"]]
    return "\n".join(lines)


def mark(records: Sequence[Record]) -> str:
    """In a sentence, beside results; empty where there is nothing to say."""
    if not records:
        return ""
    parts = []
    for record in records:
        new = [tensor for module in record["modules"].values() for tensor in module["new"]]
        numbers = sum(module["numbers"] for module in record["modules"].values())
        loaded = sum(module["loaded"] for module in record["modules"].values())
        parts.append(
            f"{loaded / numbers:.1%} of its numbers came from {record['from']}, {len(new)} tensors were initialised "
            f"anew and {len(record['left_out'])} left out"
        )
    return f"The policy's training began with part of a checkpoint: {'; before that, '.join(reversed(parts))}."
