"""The same policy without one of its pipeline's steps: what if training did not have it?"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from handeye.data.pipeline.steps import (
    AddState,
    CompressImages,
    ConvertGripper,
    ConvertProprioRotation,
    CropImages,
    ScaleActions,
    TurnImages,
)
from handeye.diagnose.candidates import Candidate
from handeye.diagnose.declared import pipeline_of
from handeye.types import Policy

CAUSES: dict[type, str] = {
    TurnImages: "pictures",
    CompressImages: "pictures",
    CropImages: "pictures",
    ConvertProprioRotation: "state",
    ConvertGripper: "gripper",
    AddState: "relative to the state",
    ScaleActions: "action statistics",
}
"""Steps that a pipeline can do without -> whose name a diagnosis gives them."""


def each_step(policy: Policy) -> Iterator[Candidate]:
    """Nothing for a policy that shows no pipeline, such as one behind a socket."""
    pipeline = pipeline_of(policy)
    if pipeline is None:
        return
    for side in ("live_steps", "encode_steps", "still_steps", "decode_steps"):
        steps = getattr(pipeline, side)
        for place, step in enumerate(steps):
            if cause := CAUSES.get(type(step)):
                other: Any = copy.copy(policy)
                fewer = replace(pipeline, **{side: (*steps[:place], *steps[place + 1 :])})
                other.manifest = replace(other.manifest, pipeline=fewer)
                name = type(step).__name__
                yield Candidate(
                    name=f"without {name} in its pipeline",
                    cause=cause,
                    fix=f"take {name} out of the pipeline in the checkpoint's manifest, or train with it",
                    policy=other,
                )
