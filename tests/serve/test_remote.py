"""Our client and our server: what is served is what is local, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handeye.errors import UserError
from handeye.policy.scripted import Noise, Zero
from handeye.policy.websocket import Patience, Remote, ServerError
from handeye.serve.config import ServeConfig
from handeye.serve.server import describe
from handeye.types import Observation, Policy

SOON = Patience(connect=10.0, answer=20.0)


def same(remote: Remote, local: Policy, observations: list[Observation]) -> None:
    served, expected = remote.act(observations), local.act(observations)
    assert len(served) == len(expected) == len(observations)
    for one, other in zip(served, expected, strict=True):
        assert one.actions.dtype == np.float32
        np.testing.assert_array_equal(one.actions, other.actions)


@pytest.mark.parametrize("local", [Zero(), Noise()])
def test_baselines(local: Any, serving: Any, observe: Callable[..., Observation]) -> None:
    with Remote(serving(local).address, patience=SOON) as remote:
        assert remote.specs == local.specs
        same(remote, local, [observe(index, cameras=()) for index in range(3)])
        same(remote, local, [])


def test_everything_in_an_observation_arrives(serving: Any, looker: Any, observe: Callable[..., Observation]) -> None:
    """The answer depends on each pixel, the state, the sentence and the seed. More are asked than fit in a question."""
    running = serving(looker, batch=4)
    with Remote(running.address, patience=SOON) as remote:
        assert isinstance(remote, Policy)
        same(remote, looker, [observe(index) for index in range(11)])
    assert max(looker.batches[:-1]) == 4


def test_questions_are_cut_to_the_servers_size(serving: Any, looker: Any, observe: Callable[..., Observation]) -> None:
    running = serving(looker, batch=64, message_mb=0.01)  # an observation has 1.5 kB of pixels and 1 kB of allowance
    with Remote(running.address, patience=SOON) as remote:
        same(remote, looker, [observe(index) for index in range(9)])


@pytest.mark.parametrize("broken", ["size", "camera", "proprio"])
def test_another_observation_than_declared(
    broken: str, serving: Any, looker: Any, observe: Callable[..., Observation]
) -> None:
    seen = {
        "size": observe(0, 32),
        "camera": observe(0, cameras=("agentview",)),
        "proprio": Observation(images=observe(0).images, proprio=np.zeros(5, np.float32), prompt="x"),
    }[broken]
    with Remote(serving(looker).address, patience=SOON) as remote:
        with pytest.raises(ServerError, match={"size": "16x16", "camera": "wrist", "proprio": "8 numbers"}[broken]):
            remote.act([seen])
        same(remote, looker, [observe(1)])


def test_the_token_on_both_sides(serving: Any, looker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANDEYE_TOKEN", raising=False)
    (tmp_path / "token").write_text("correct-horse")
    running = serving(looker, token_file=tmp_path / "token")
    with pytest.raises(UserError, match="another token"):
        Remote(running.address, patience=SOON)
    monkeypatch.setenv("HANDEYE_TOKEN", "correct-horse")
    Remote(running.address, patience=SOON).close()


def test_a_full_server_is_waited_for(serving: Any, looker: Any, observe: Callable[..., Observation]) -> None:
    running = serving(looker, clients=1)
    with Remote(running.address, patience=SOON), pytest.raises(UserError, match="503"):
        Remote(running.address, patience=Patience(connect=0.5))
    Remote(running.address, patience=SOON).close()


def test_a_restarted_server_is_found_again(serving: Any, looker: Any, observe: Callable[..., Observation]) -> None:
    running = serving(looker)
    port = running.host_port[1]
    with Remote(running.address, patience=SOON) as remote:
        same(remote, looker, [observe(0)])
        running.stop()
        serving(looker, port=port)
        same(remote, looker, [observe(1)])


def test_which_policy_is_served(serving: Any, looker: Any) -> None:
    """A checkpoint is the same for who loads it and for who asks its server."""
    config, known = ServeConfig(policy="x"), {"manifest": "abc", "family": "tiny", "step": 3}
    said = describe(looker, config, {"name": "run/final", **known})
    with Remote(serving(looker, metadata=said).address, patience=SOON) as remote:
        assert remote.identity == known
    with Remote(serving(looker).address, patience=SOON) as remote:
        assert remote.identity["server"] == {"name": "test"}
