"""The proof counts what happened, one record per episode."""

import json

import pytest

from handeye.errors import UserError
from handeye.expert.config import ProveConfig
from handeye.expert.prove import run


def test_a_proof_has_one_record_per_episode(tmp_path, capsys):
    path = run(ProveConfig(suite="tabletop", tasks=(9, 11), states=2, arithmetic="fast", out=tmp_path / "proof.json"))
    proof = json.loads(path.read_text())
    assert [(e["task"], e["initial_state"]) for e in proof["episodes"]] == [(9, 0), (9, 1), (11, 0), (11, 1)]
    assert all(e["success"] and not e["note"] for e in proof["episodes"])
    assert "4/4 = 100.0%" in capsys.readouterr().out


def test_more_states_than_there_are_is_refused(tmp_path):
    with pytest.raises(UserError, match="initial states"):
        run(ProveConfig(suite="tabletop", tasks=(9,), states=100_000, out=tmp_path / "proof.json"))


def test_no_states_is_refused():
    with pytest.raises(UserError, match="too few"):
        ProveConfig(suite="tabletop", states=0)
