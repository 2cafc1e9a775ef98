"""Episodes made again in our simulator by the rule of the published "no_noops" sets (regenerate_libero_dataset.py):
from the recorded start, the recorded actions without the no-ops, everything observed before its action, only what
succeeds again. Pictures may have another size than those of the source."""

from __future__ import annotations

from dataclasses import replace

from handeye.data.convert.account import Account
from handeye.data.convert.noops import moving
from handeye.data.replay.play import play
from handeye.data.replay.run import Stage
from handeye.data.replay.start import start_of
from handeye.data.source import EpisodeRef, Source
from handeye.protocols.presets import handeye_2026
from handeye.sim.config import SimConfig
from handeye.types import Episode


class Regenerator:
    """Keeps the environment of the last task."""

    def __init__(self, source: Source, *, size: int | None, suite: str | None) -> None:
        self._source, self._suite = source, suite
        self._stage = Stage(SimConfig(camera_size=size or source.specs.image.height))

    def make(self, ref: EpisodeRef, *, drop_no_ops: bool) -> tuple[Episode | None, Account]:
        start = start_of(self._source, ref, suite=self._suite)
        kept = moving(start.actions) if drop_no_ops else None
        account = Account(
            id=ref.id, steps=len(start.actions), kept=0, no_ops=0 if kept is None else int((~kept).sum())
        )  # fmt: skip
        settle = handeye_2026().settle_steps  # as the reference, which takes ten before each replay
        went = play(self._stage.of(start.task), start, kept=kept, settle=settle, look=True)
        if not went.success or went.seen is None:
            return None, replace(account, reason="does not succeed again")
        seen, recorded = went.seen, self._source.load(ref, images=False).source
        return (
            Episode(
                id=ref.id, task=ref.task, prompt=ref.prompt, images=seen.images, proprio=seen.proprio,
                actions=seen.actions, states=seen.states, joints=seen.joints, success=True,
                source={**recorded, "observed": "before", "regenerated": True},
            ),
            replace(account, kept=went.steps),
        )  # fmt: skip
