"""What policy, demonstrations, simulator and suite say of themselves, compared before anything is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from handeye.conventions import libero
from handeye.conventions.normalize import Normalizer
from handeye.conventions.prompt import plain_text
from handeye.conventions.spec import Specs, require_same
from handeye.data.pipeline.pipeline import Pipeline
from handeye.data.pipeline.steps import CropImages, CropRandomly, NormalizeProprio, UnnormalizeActions
from handeye.data.source import EpisodeRef
from handeye.diagnose.cause import Cause
from handeye.errors import UserError


@runtime_checkable
class FromCheckpoint(Protocol):
    """A policy that has its checkpoint's manifest at hand."""

    manifest: Any


def pipeline_of(policy: object) -> Pipeline | None:
    found = getattr(policy.manifest, "pipeline", None) if isinstance(policy, FromCheckpoint) else None
    return found if isinstance(found, Pipeline) else None


def normalizers(pipeline: Pipeline | None) -> tuple[Normalizer | None, Normalizer | None]:
    """(of the state, of the actions)."""
    if pipeline is None:
        return None, None
    state = [step.normalizer for step in pipeline.encode_steps if isinstance(step, NormalizeProprio)]
    action = [step.normalizer for step in pipeline.decode_steps if isinstance(step, UnnormalizeActions)]
    return next(iter(state), None), next(iter(action), None)


def specs(policy: Specs, demonstrations: Specs) -> list[Cause]:
    """Every difference is one that evaluation would refuse."""
    here, there = "the policy", "the demonstrations"
    pairs: list[tuple[Any, Any, str]] = [
        (policy.action, demonstrations.action, there),
        (policy.proprio, demonstrations.proprio, there),
        (policy.action, libero.ACTION, "the simulator"),
        (policy.proprio, libero.PROPRIO, "the simulator"),
    ]
    found = []
    try:
        if policy.image.cameras:
            pairs.append((policy.image, demonstrations.image.only(policy.image.cameras, here=there), there))
    except UserError as error:
        found.append(_said(error))
    for one, other, where in pairs:
        try:
            require_same(one, other, here=here, there=where)
        except UserError as error:
            found.append(_said(error))
    return found


def _said(error: UserError) -> Cause:
    return Cause(
        name="declared conventions",
        likelihood=0.98,
        what=f"{error.what} {error.why}",
        fix=error.fix,
        evidence={"why": error.why},
    )


def sentences(refs: Sequence[EpisodeRef], suite: Sequence[str]) -> tuple[list[Cause], dict[str, str]]:
    """Causes, and the suite's sentence for each one that differs from it in form alone. `suite`: its sentences; none
    where no suite was named."""
    there = sorted({ref.prompt for ref in refs})
    tasks = {ref.task for ref in refs}
    if len(there) == 1 and len(tasks) > 1:
        text = there[0]
        return [
            Cause(
                name="one sentence for all",
                likelihood=0.94,
                what=f"the demonstrations say {text!r} for all of their {len(tasks)} tasks: training on them never "
                "shows which task is meant",
                fix="find where this format keeps its sentences (`handeye data verify`; LeRobot: meta/tasks), and "
                "train again",
                evidence={"sentence": text, "tasks": len(tasks)},
            )
        ], {}
    if not suite:
        return [], {}
    plain = {_words(text): text for text in suite}
    known = {text: plain[_words(text)] for text in there if _words(text) in plain}
    if strange := [text for text in there if text not in known]:
        share = len(strange) / len(there)
        return [
            Cause(
                name="sentences of the suite",
                likelihood=0.92 if share == 1 else 0.4,
                what=f"{len(strange)} of {len(there)} sentences of the demonstrations are none of the suite's, such as "
                f"{strange[0]!r}: the policy is asked with words that it never read",
                fix="name the suite that the demonstrations are of, or give them its sentences and train again",
                evidence={"strange": strange[:10], "suite": list(suite)[:10]},
            )
        ], {}
    return [], {text: known[text] for text in there if known[text] != text}


def _words(text: str) -> str:
    """Without case, marks and underscores."""
    return plain_text(text.replace("_", " ")).rstrip(".")


def crops(pipeline: Pipeline | None) -> list[Cause]:
    """Trained on random crops, acting on whole pictures: things look smaller than they ever did."""
    if pipeline is None:
        return []
    varied = [step for step in pipeline.augment_steps if isinstance(step, CropRandomly)]
    held = [step for step in (*pipeline.still_steps, *pipeline.encode_steps) if isinstance(step, CropImages)]
    if not varied or held:
        return []
    return [
        Cause(
            name="no crop while acting",
            likelihood=0.7,
            what="its pipeline crops pictures at random in training, and not at all while acting",
            fix="add CropImages with the same area to the pipeline's `still` list (OpenVLA: --center_crop True)",
            evidence={"augment": [type(step).__name__ for step in pipeline.augment_steps]},
        )
    ]
