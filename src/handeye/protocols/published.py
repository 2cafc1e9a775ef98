"""Published results as data: what was said, over how many episodes, where, and what was pinned.

Nobody published the episodes themselves, so these are numbers to stand beside ours, never to be paired with. What a
number says about reproduction is what its interval says: see docs/statistics.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
OPENVLA_README = "openvla README (commit c8f03f4), table of LIBERO fine-tuning"
OPENPI_README = "openpi examples/libero/README.md"
OFT_PAPER = "OpenVLA-OFT paper, arXiv 2502.19645"
HARNESS = "allenai/vla-evaluation-harness docs/reproductions"
VLA_EVAL_DIFFERS = ("episodes are spread over shards with an environment each, so fixtures stand elsewhere",)


@dataclass(frozen=True, kw_only=True)
class Published:
    """One success rate on one suite."""

    model: str
    """Whose policy; with the checkpoint where several are."""

    protocol: str
    """The nearest of our protocols."""

    suite: str
    percent: float
    """As printed."""

    episodes: int
    """Over how many."""

    spread: float | None = None
    """Standard error in points, where it was printed."""

    source: str
    pinned: str
    """What the authors fixed, as far as is known."""

    differs: tuple[str, ...] = ()
    """Where the run departed from `protocol`. Empty: it is the run that the protocol describes."""

    by: str = ""
    """Who measured it, if not the model's authors."""

    @property
    def successes(self) -> int:
        """The nearest count; a rate that was printed rounded, or averaged, need not be one."""
        return round(self.percent * self.episodes / 100)


def _row(percents: tuple[float, ...], *, spreads: tuple[float, ...] = (), **common: Any) -> list[Published]:
    """One entry per suite, in the order of SUITES."""
    return [
        Published(suite=suite, percent=percent, spread=spreads[index] if spreads else None, **common)
        for index, (suite, percent) in enumerate(zip(SUITES, percents, strict=True))
    ]


_OPENVLA_PINS = (
    "Python 3.10.13, torch 2.2.0, transformers 4.40.1, flash-attn 2.5.5, robosuite 1.4.1, A100; MuJoCo not pinned"
)
_OPENVLA: dict[str, Any] = {
    "protocol": "openvla-2024",
    "episodes": 1500,
    "source": OPENVLA_README,
    "pinned": _OPENVLA_PINS,
}
_OFT: dict[str, Any] = {
    "protocol": "oft-2025",
    "episodes": 500,
    "pinned": "Python 3.10.14, torch 2.2.0, a fork of transformers 4.40.1, robosuite 1.4.1, A100; MuJoCo not pinned",
}
_OPENPI: dict[str, Any] = {
    "protocol": "openpi-2025",
    "episodes": 500,
    "source": OPENPI_README,
    "pinned": "MuJoCo 3.2.3, robosuite 1.4.1, Python 3.8 (simulator), noise by request order",
}
_HARNESS_PINS = "MuJoCo 3.2.3, robosuite 1.4.0, bddl 1.0.1, numpy 1.22.4, in Docker"

PUBLISHED: tuple[Published, ...] = (
    *_row((84.7, 88.4, 79.2, 53.7), spreads=(0.9, 0.8, 1.0, 1.3), model="OpenVLA, fine-tuned per suite", **_OPENVLA),
    *_row((78.9, 85.7, 84.6, 51.1), spreads=(1.0, 0.9, 0.9, 1.3), model="Octo, fine-tuned", **_OPENVLA),
    *_row((78.3, 92.5, 68.3, 50.5), spreads=(1.1, 0.7, 1.2, 1.3), model="Diffusion Policy, from scratch", **_OPENVLA),
    *_row(
        (97.6, 98.4, 97.9, 94.5),
        model="OpenVLA-OFT, one checkpoint per suite",
        source=f"{OFT_PAPER}; average 97.1 in openvla-oft LIBERO.md",
        **_OFT,
    ),
    *_row(
        (97.7, 98.0, 96.1, 95.3),
        model="OpenVLA-OFT, one checkpoint for all suites",
        source=f"{OFT_PAPER}, table XIV; average 96.8 in openvla-oft LIBERO.md",
        **_OFT,
    ),
    *_row((98.8, 98.2, 98.0, 92.4), model="pi0.5, pi05_libero at 30k", **_OPENPI),
    *_row((96.8, 98.8, 95.8, 85.2), model="pi0, pi0_libero at 30k", **_OPENPI),
    *_row((96.4, 96.8, 88.6, 60.2), model="pi0-FAST, pi0_fast_libero at 30k", **_OPENPI),
    *_row(
        (97.4, 98.4, 97.6, 93.0),
        model="pi0.5, pi05_libero",
        by="a user",
        **{**_OPENPI, "source": "openpi issue 734", "pinned": "not said"},
    ),
    *_row(
        (97.0, 99.0, 98.0, 96.0),
        model="pi0.5, pi05_libero and 6,000 more steps",
        protocol="lerobot-0.6",
        episodes=100,
        source="lerobot docs/source/libero.mdx",
        pinned="hf-libero 0.1.4; the lock has MuJoCo 3.8.1, in which libero_spatial task 5 is another scene",
        by="lerobot",
        differs=("batches of one episode: initial states depend on when earlier episodes ended (lerobot issue 4152)",),
    ),
    *_row(
        (86.6, 86.6, 79.0, 52.8),
        model="OpenVLA, fine-tuned per suite",
        protocol="openvla-2024",
        episodes=500,
        source=f"{HARNESS}/openvla.md",
        pinned=_HARNESS_PINS,
        by="vla-eval",
        differs=("seed 7 instead of 0", *VLA_EVAL_DIFFERS),
    ),
    *_row(
        (96.6, 97.6, 97.4, 95.4),
        model="OpenVLA-OFT, one checkpoint for all suites",
        protocol="oft-2025",
        episodes=500,
        source=f"{HARNESS}/oft.md",
        pinned=_HARNESS_PINS,
        by="vla-eval",
        differs=VLA_EVAL_DIFFERS,
    ),
    *_row(
        (98.0, 99.6, 98.6, 94.6),
        model="pi0.5, pi05_libero",
        protocol="openpi-2025",
        episodes=500,
        source=f"{HARNESS}; facts of its version 0.8",
        pinned=_HARNESS_PINS,
        by="vla-eval",
        differs=("ten of ten actions per look instead of five", *VLA_EVAL_DIFFERS),
    ),
)
"""OpenVLA's table is the mean of three seeds over 500 episodes each; its seeds reach neither scenes nor a greedy
policy, so the three differ by the GPU's arithmetic alone and the printed error says little."""


def published_for(protocol: str, suite: str) -> tuple[Published, ...]:
    """What may stand beside a run of this protocol on this suite: the authors' own numbers first."""
    found = [entry for entry in PUBLISHED if (entry.protocol, entry.suite) == (protocol, suite)]
    return tuple(sorted(found, key=lambda entry: (len(entry.differs), bool(entry.by))))
