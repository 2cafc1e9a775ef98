"""Published numbers: their arithmetic adds up, their protocols exist, and the authors' own come first."""

from __future__ import annotations

import numpy as np
import pytest

from handeye.protocols.presets import PROTOCOLS, described
from handeye.protocols.published import PUBLISHED, SUITES, Published, published_for


def by_report() -> dict[tuple[str, str, str], list[Published]]:
    found: dict[tuple[str, str, str], list[Published]] = {}
    for entry in PUBLISHED:
        found.setdefault((entry.model, entry.by, entry.source), []).append(entry)
    return found


def test_each_report_covers_the_four_suites_under_a_protocol_that_exists() -> None:
    assert len(by_report()) == len(PUBLISHED) / 4 >= 12
    for report in by_report().values():
        assert tuple(entry.suite for entry in report) == SUITES
        assert {entry.protocol for entry in report} <= set(PROTOCOLS)
        assert all(entry.source and entry.pinned for entry in report)


@pytest.mark.parametrize(
    ("model", "by", "average"),
    [
        ("OpenVLA, fine-tuned per suite", "", 76.5),
        ("OpenVLA-OFT, one checkpoint per suite", "", 97.1),
        ("OpenVLA-OFT, one checkpoint for all suites", "", 96.8),
        ("pi0.5, pi05_libero at 30k", "", 96.85),
        ("pi0, pi0_libero at 30k", "", 94.15),
        ("pi0-FAST, pi0_fast_libero at 30k", "", 85.5),
        ("pi0.5, pi05_libero and 6,000 more steps", "lerobot", 97.5),
        ("OpenVLA, fine-tuned per suite", "vla-eval", 76.2),
        ("OpenVLA-OFT, one checkpoint for all suites", "vla-eval", 96.7),
        ("pi0.5, pi05_libero", "vla-eval", 97.7),
    ],
)
def test_the_suites_average_to_what_was_printed(model: str, by: str, average: float) -> None:
    [percents] = [[e.percent for e in r] for (m, b, _), r in by_report().items() if (m, b) == (model, by)]
    assert abs(np.mean(percents) - average) <= 0.0501


def test_rates_of_one_run_are_whole_counts() -> None:
    for entry in PUBLISHED:
        if entry.episodes <= 500 and entry.spread is None:
            printed = 100 * entry.successes / entry.episodes
            assert abs(printed - entry.percent) < 0.11, entry


def test_a_report_that_is_the_protocols_own_run_has_its_number_of_episodes() -> None:
    for entry in PUBLISHED:
        per_run = 10 * described(entry.protocol).initial_states
        assert entry.episodes % per_run == 0


def test_look_up_puts_the_authors_first() -> None:
    found = published_for("openpi-2025", "libero_10")
    assert [entry.percent for entry in found] == [92.4, 85.2, 60.2, 93.0, 94.6]
    assert published_for("oft-2025", "libero_goal")[-1].differs
    assert published_for("oft-2025", "tabletop") == () == published_for("handeye-2026", "libero_10")
