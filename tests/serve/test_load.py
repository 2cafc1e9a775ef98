"""A checkpoint by its address, local and served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handeye.checkpoints.partial import compare
from handeye.errors import UserError
from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.plan import make
from handeye.policy.websocket import Patience, Remote
from handeye.serve.config import ServeConfig
from handeye.serve.load import load
from handeye.serve.run import identity, serve_policy
from handeye.serve.server import describe
from handeye.types import Policy


def test_addresses_of_both_sides() -> None:
    assert load("expert") is None
    assert load("zero").specs.image.cameras == ()


def test_devices(checkpoint: Path) -> None:
    with pytest.raises(UserError, match="no device"):
        load(str(checkpoint), device="abacus")
    assert isinstance(load(str(checkpoint), device="cpu"), Policy)


@pytest.mark.parametrize("address", ["zero", "noise", "expert", "ws://127.0.0.1:1", "replay:nowhere"])
def test_what_computes_nothing_here_takes_no_precision(address: str) -> None:
    for flags in ({"precision": "bf16"}, {"attention": "sdpa"}):
        with pytest.raises(UserError, match="is for a checkpoint's folder"):
            load(address, **flags)


def test_a_family_that_has_one_way_says_so(checkpoint: Path) -> None:
    for flags, said in (
        ({"precision": "nf4"}, "cannot be quantised"),
        ({"attention": "flash"}, "takes no --attention"),
    ):
        with pytest.raises(UserError, match=said):
            load(str(checkpoint), device="cpu", **flags)
    policy = load(str(checkpoint), device="cpu")
    assert (policy.identity["attention"], policy.identity["precision"]) == (None, "fp32")


def test_a_served_checkpoint_gives_the_chunks_of_a_local_one(checkpoint: Path, serving: Any, observe: Any) -> None:
    """To the last bit, one by one; together as near as the model's own batches come."""
    local = load(str(checkpoint.parent), device="cpu")
    asked = [observe(index, 64) for index in range(6)]
    with Remote(serving(local, batch=6).address, patience=Patience(connect=10.0, answer=20.0)) as remote:
        assert remote.specs == local.specs
        for seen in asked:
            np.testing.assert_array_equal(remote.act([seen])[0].actions, local.act([seen])[0].actions)
        for one, other in zip(remote.act(asked), local.act(asked), strict=True):
            np.testing.assert_allclose(one.actions, other.actions, atol=1e-5, rtol=0)


def test_it_says_which_checkpoint_it_is(checkpoint: Path, serving: Any) -> None:
    """Whether it is asked here or through a server, it is the same policy: an evaluation's plan does not change."""
    local = load(str(checkpoint), device="cpu")
    about = identity(str(checkpoint), local)
    assert (about["name"], about["family"], about["step"]) == ("run/final", "tiny", 1)
    assert identity("noise", load("noise")) == {"name": "noise"}
    said = describe(local, ServeConfig(policy="x"), about)
    with Remote(serving(local, metadata=said).address, patience=Patience(connect=10.0)) as remote:
        assert remote.identity == local.identity


def test_a_partial_start_is_said_by_the_server_and_reaches_the_clients_plan(
    checkpoint: Path, serving: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    local = load(str(checkpoint), device="cpu")
    record = compare({"head.weight": (2, 2)}, {"head.weight": (3, 2)}, what="runs/other/final")
    told = {**local.manifest.provenance, "partial": [record]}
    local.manifest = replace(local.manifest, provenance=told)

    async def stopped(*_: object) -> None:
        """At once."""

    monkeypatch.setattr("handeye.serve.run._until_stopped", stopped)
    serve_policy(ServeConfig(policy=str(checkpoint)), local)
    assert "came from runs/other/final" in capsys.readouterr().err
    said = describe(local, ServeConfig(policy="x"), identity(str(checkpoint), local))
    with Remote(serving(local, metadata=said).address, patience=Patience(connect=10.0)) as remote:
        config = EvaluateConfig(policy="ws://x", suite="fake", tasks=(0,), episodes=1, out=tmp_path / "out")
        planned = make(config, remote).identity()["policy"]
    assert "came from runs/other/final" in planned["partial"]
