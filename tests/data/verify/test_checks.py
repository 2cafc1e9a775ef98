"""A sound set passes; each of many defects is found by the check that looks for it, with its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from handeye.conventions.rotation import axis_angle, quaternion_xyzw
from handeye.data.verify.contents import ContentsCheck
from handeye.data.verify.findings import Check, Finding, exit_code
from handeye.data.verify.motion import GripperCheck, MomentCheck
from handeye.data.verify.picture import PictureCheck
from handeye.data.verify.pose import PoseCheck
from handeye.types import Episode

CHECKS = (ContentsCheck, GripperCheck, MomentCheck, PoseCheck, PictureCheck)


def findings(source, kinds: Sequence[type[Check]] = CHECKS, *arguments: str) -> dict[str, Finding]:
    found: list[Finding] = []
    for kind in kinds:
        check = kind(*arguments)
        for ref, episode in zip(source.episodes, source.held, strict=True):
            check.add(ref, check.measure(episode))
        found += check.findings(source)
    return {finding.check: finding for finding in found}


def test_a_sound_set_passes(sound: tuple[Episode, ...], source_of) -> None:
    found = findings(source_of(*sound))
    assert {finding.verdict for finding in found.values()} == {"ok", "note"}, found
    assert [name for name, finding in found.items() if finding.verdict == "note"] == ["counts"]
    assert exit_code(list(found.values())) == 0
    assert set(found) == {
        "counts", "lengths", "language", "success", "duplicates", "action range", "gripper range", "gripper sign",
        "moment", "action scale", "orientation", "position", "pictures agentview", "orientation agentview",
        "pictures wrist", "orientation wrist",
    }  # fmt: skip


def _actions(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Episode], Episode]:
    return lambda episode: replace(episode, actions=change(episode.actions.copy()))


def _orientation(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Episode], Episode]:
    def changed(episode: Episode) -> Episode:
        proprio = episode.proprio.copy()
        proprio[:, 3:6] = change(proprio[:, 3:6])
        return replace(episode, proprio=proprio)

    return changed


def _pictures(change: Callable[[np.ndarray], np.ndarray], camera: str) -> Callable[[Episode], Episode]:
    return lambda episode: replace(episode, images={**episode.images, camera: change(episode.images[camera])})


def _later(episode: Episode) -> Episode:
    """Rows hold what was seen after their action."""
    return replace(
        episode, actions=episode.actions[:-1], proprio=episode.proprio[1:], joints=episode.joints[1:],
        images={name: frames[1:] for name, frames in episode.images.items()},
    )  # fmt: skip


def _flip_gripper(actions: np.ndarray) -> np.ndarray:
    actions[:, 6] *= -1
    return actions


def _zero_one(actions: np.ndarray) -> np.ndarray:
    actions[:, 6] = (actions[:, 6] + 1) / 2
    return actions


def _metres(actions: np.ndarray) -> np.ndarray:
    actions[:, :3] *= 0.05
    return actions


def _swap(actions: np.ndarray) -> np.ndarray:
    actions[:, [0, 1]] = actions[:, [1, 0]]
    return actions


def _negate(actions: np.ndarray) -> np.ndarray:
    actions[:, 1] *= -1
    return actions


def _euler(vector: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_quat(quaternion_xyzw(vector)).as_euler("xyz")


def _canonical(vector: np.ndarray) -> np.ndarray:
    return axis_angle(quaternion_xyzw(vector))


def _twice(episode: Episode) -> Episode:
    return replace(episode, images=dict.fromkeys(episode.images, episode.images["agentview"]))


DEFECTS = {
    "gripper turned around": (_actions(_flip_gripper), "gripper sign", "fail", "the opposite"),
    "gripper from 0 to 1": (_actions(_zero_one), "gripper range", "fail", "none below 0"),
    "actions in metres": (_actions(_metres), "action scale", "fail", "in other units"),
    "x and y swapped": (_actions(_swap), "action scale", "fail", "the x action moves along y"),
    "y negated": (_actions(_negate), "action scale", "fail", "the y action moves backwards"),
    "seen after the action": (_later, "moment", "warn", "AFTER"),
    "canonical axis-angle": (_orientation(_canonical), "orientation", "fail", "canonical"),
    "Euler angles": (_orientation(_euler), "orientation", "fail", "as Euler angles x, y, z (fixed axes) 0.0000"),
    "upside down": (_pictures(lambda f: f[:, ::-1], "agentview"), "orientation agentview", "fail", "upside down"),
    "mirrored": (_pictures(lambda f: f[:, :, ::-1], "agentview"), "orientation agentview", "fail", "mirrored"),
    "turned": (_pictures(lambda f: f[:, ::-1, ::-1], "agentview"), "orientation agentview", "fail", "turned by 180"),
    "wrist turned": (_pictures(lambda f: f[:, ::-1, ::-1], "wrist"), "orientation wrist", "fail", "turned by 180"),
    "transposed": (_pictures(lambda f: f.swapaxes(1, 2), "wrist"), "orientation wrist", "fail", "swapped"),
    "black camera": (_pictures(np.zeros_like, "wrist"), "pictures wrist", "fail", "of one colour"),
    "one picture for ever": (_pictures(lambda f: f[:1].repeat(len(f), 0), "wrist"), "pictures wrist", "warn", "repeat"),
    "one camera twice": (_twice, "cameras", "fail", "the same pictures"),
    "no success": (lambda e: replace(e, success=False), "success", "warn", "do not end in success"),
    "placeholder": (lambda e: replace(e, prompt="complete the task"), "language", "fail", "'complete the task'"),
    "one sentence for all": (lambda e: replace(e, prompt="pick it up"), "language", "fail", "every task has the"),
    "shifted joints": (lambda e: replace(e, joints=np.roll(e.joints, 9, axis=0)), "position", "fail", "disagree"),
    "a dead dimension": (_actions(lambda a: a * [1, 1, 1, 0, 1, 1, 1]), "action range", "warn", "3 never changes"),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found(name: str, sound: tuple[Episode, ...], source_of) -> None:
    change, check, verdict, words = DEFECTS[name]
    finding = findings(source_of(*(change(episode) for episode in sound)))[check]
    assert (finding.verdict, words in finding.found) == (verdict, True), finding
    assert finding.fix


def test_too_little_is_no_evidence(sound: tuple[Episode, ...], source_of) -> None:
    short = replace(
        sound[0], actions=sound[0].actions[:5], proprio=sound[0].proprio[:5], joints=None,
        images={name: frames[:5] for name, frames in sound[0].images.items()},
    )  # fmt: skip
    found = findings(source_of(short))
    for name in ("gripper sign", "moment", "action scale", "orientation agentview", "orientation wrist"):
        assert found[name].verdict == "note", found[name]
    assert found["lengths"].verdict == "warn" and "shorter than 10" in found["lengths"].found


def test_duplicates_are_named(sound: tuple[Episode, ...], source_of) -> None:
    found = findings(source_of(*sound, replace(sound[2], id="copy/demo_9")))["duplicates"]
    assert found.verdict == "warn" and f"{sound[2].id} = copy/demo_9" in found.found


def test_counts_are_compared_with_the_published(sound: tuple[Episode, ...], source_of) -> None:
    some = [
        replace(sound[0], id=f"t{n % 10}/{n}", task=f"t{n % 10}", actions=sound[0].actions + n / 1e6)
        for n in range(432)
    ]
    complete = findings(source_of(*some), [ContentsCheck], "libero_spatial")["counts"]
    assert complete.verdict == "ok" and "without no-ops, complete" in complete.found
    half = findings(source_of(*some[:300]), [ContentsCheck], "libero_spatial")["counts"]
    assert half.verdict == "warn" and "432 episodes of 10 tasks" in half.found
    own = findings(source_of(*some[:300]), [ContentsCheck], "none")["counts"]
    assert own.verdict == "note"
