"""What `handeye evaluate` is configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from handeye.compute.config import Attention, Precision
from handeye.errors import UserError
from handeye.sim.config import Backend

Videos = Literal["none", "failures", "all"]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Roll a policy out on a suite. The same command again goes on from the last finished episode."""

    policy: Annotated[str, Positional, arg(metavar="POLICY")]
    """A checkpoint directory; `expert` (scripted, sees the simulator's state), `zero`, `noise`; `ws://HOST:PORT`, a
    server of ours or openpi's; `replay:DATASET`, recorded actions; `lerobot:PATH`, in LeRobot's own library."""

    suite: str
    """libero_spatial, libero_object, libero_goal, libero_10, libero_90 or tabletop."""

    tasks: tuple[int, ...] = ()
    """Indices in the suite's order. Default: all."""

    episodes: int | None = None
    """Episodes per task, one from each of the first so many initial states. Default: as many as the protocol has."""

    initial_states: str | None = None
    """A range instead of the first so many: `40:50` is 40 to 49. For states that no demonstration used."""

    protocol: str = "handeye-2026"
    """Horizon, settling, scenes, camera size, replanning: a name that `handeye protocols list` prints, or a file of
    your own such as mine.json."""

    seed: int | None = None
    """Of the scene stream. Default: the protocol's."""

    stop_when: str | None = None
    """Stop as soon as it is known: `rate=0.9` (above or below it), `width=0.05` (to within), `baseline=runs/a` (better
    or worse than that run; `,margin=0.02` adds: or equivalent). `,alpha=0.01` for another chance of being wrong than
    0.05. Part of the plan: decided before the first episode."""

    shard: str | None = None
    """`2/5`: the second of five parts of the same plan, each into a directory of its own, perhaps on another machine;
    `handeye merge-runs` puts them together."""

    workers: int = 2
    """Simulator processes. The records do not depend on it."""

    ray: str | None = None
    """Run on a Ray cluster: HOST:PORT of its head, or `auto` on one of its machines. Workers anywhere, policies on its
    GPUs. handeye, its files and the checkpoint must be on every machine under the same paths."""

    policies: int | None = None
    """With --ray: processes of the policy. Default: one per GPU of the cluster, or one."""

    devices: tuple[str, ...] = ("auto",)
    """Where a checkpoint computes: `cpu`, `cuda`, `cuda:1`; `auto` is the first GPU if there is one. Several: one
    process each, which share the questions."""

    rows: int | None = None
    """Observations that a checkpoint's model computes at once, part of the plan since it reaches the last bit.
    Default: 1 on a CPU, 4 on a GPU. More is faster where there are always as many questions."""

    attention: Attention = "auto"
    """How a checkpoint computes attention (OpenVLA, OpenVLA-OFT): the first of `flash`, `sdpa` and `eager` that the
    device can do and that agrees with `eager`, or the one named. Part of the plan, since it reaches the last bits."""

    precision: Precision = "auto"
    """What a checkpoint computes in: as its weights are stored, in another type, or with the language model's weights
    rounded to 8 or 4 bits (`int8`, `nf4`; needs bitsandbytes). What that changes is measured and recorded."""

    batch: int = 16
    """Most questions that the policy is asked together, and of a checkpoint no more than --rows, since whoever asked
    first would wait for the others. The records do not depend on it."""

    wait_ms: float = 0.0
    """Milliseconds that a question may wait for others to join it. 0: those that are there are answered."""

    out: Path | None = None
    """The run's directory, here or at a URL such as s3://BUCKET/a, where every episode is sent as it ends. Default:
    runs/eval-..., named after what is evaluated: the same command finds it."""

    videos: Videos = "none"
    """Which episodes leave an mp4 of the agentview camera."""

    allow_errors: bool = False
    """Print a rate although some episodes ended in an error of ours. It is over the others."""

    attempts: int = 3
    """How often an episode is tried when its worker dies, hangs or raises, before its outcome is `error`."""

    hang_after: float = 300.0
    """Seconds without a sign from a worker after which it is killed and its episode tried again."""

    worker_memory: float = 3.0
    """Gigabytes. A worker that holds more after an episode is replaced; at twice as much it is killed at once and its
    episode tried again."""

    arithmetic: Literal["bitwise", "fast"] = "bitwise"
    """`bitwise` repeats the reference's controller to the last bit; `fast` differs by less than 1e-9."""

    backend: Backend = "auto"
    """Graphics library: the first of EGL, OSMesa, GLFW that renders a frame, or the one named."""

    allow_mujoco: bool = False
    """Run with a MuJoCo outside the supported range, or outside the protocol's. Every result says so."""

    def __post_init__(self) -> None:
        counts = {"workers": self.workers, "attempts": self.attempts, "episodes": self.episodes}
        counts |= {"batch": self.batch, "rows": self.rows, "policies": self.policies}
        for flag, value in counts.items():
            if value is not None and value < 1:
                raise UserError(f"--{flag} {value} is too few.", fix=f"use --{flag} 1 or more")
        if self.hang_after <= 0:
            raise UserError(f"--hang-after {self.hang_after} is not a time.", fix="give seconds, such as 300")
        if self.ray is None and self.policies is not None:
            raise UserError("--policies is for --ray.", fix="name several --devices on one machine")
        if self.ray is not None and len(self.devices) > 1:
            raise UserError("--devices names several with --ray.", fix="use --policies: Ray chooses their GPUs")
        if not self.devices:
            raise UserError("--devices names none.", fix="leave it out, or name one, such as cuda:0")
        if self.wait_ms < 0:
            raise UserError(f"--wait-ms {self.wait_ms:g} is not a time.", fix="give milliseconds, such as 5, or 0")
        if self.worker_memory <= 0:
            raise UserError(f"--worker-memory {self.worker_memory:g} is no memory.", fix="give gigabytes, such as 3")
        if self.initial_states is not None and self.episodes is not None:
            raise UserError(
                "--episodes and --initial-states were both given.",
                why="each says which initial states are used",
                fix="leave one out; --initial-states 0:10 is the same as --episodes 10",
            )
        if self.shard is not None and self.stop_when is not None:
            raise UserError(
                "--shard and --stop-when were both given.",
                why="a part cannot know what the others found, so it cannot know when to stop",
                fix="leave one out",
            )
        self.state_range()
        self.part()

    def part(self) -> tuple[int, int]:
        """Number of the shard, counted from 1, and how many there are."""
        if self.shard is None:
            return 1, 1
        number, slash, count = self.shard.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise UserError(f"--shard {self.shard} is not a part.", fix="write 2/5 for the second of five")
        return int(number), int(count)

    def state_range(self) -> tuple[int, int | None]:
        """First initial state, and one past the last; None: as many as the protocol has."""
        if self.initial_states is None:
            return 0, self.episodes
        first, colon, end = self.initial_states.partition(":")
        if not (first.isdecimal() and (end.isdecimal() if colon else True)) or (colon and int(end) <= int(first)):
            raise UserError(
                f"--initial-states {self.initial_states} is not a range.", fix="write 40:50 for 40 to 49, or 7 for one"
            )
        return int(first), int(end) if colon else int(first) + 1


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Put parts of one evaluation together, from `--shard` or from machines that were given the same command."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN")]
    """Directories of `handeye evaluate`, or their URLs. All of one plan."""

    out: Path
    """Where the whole goes: a new directory, or one that an earlier merge of this plan made."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("There is nothing to merge.", fix="name the directories: handeye merge-runs A B --out C")
        if self.out in self.runs:
            raise UserError(
                f"--out {self.out} is one of the parts.", why="parts are left as they are", fix="choose another --out"
            )
