"""Loading is all or nothing: what is missing, left over, damaged, foreign or hostile is named, and nothing is run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from handeye.checkpoints.files import read_tensors
from handeye.checkpoints.load import check_keys, family, load, model_config
from handeye.checkpoints.manifest import FILE, Manifest, describe
from handeye.checkpoints.save import save
from handeye.errors import UserError
from handeye.models import FAMILIES, tiny

WEIGHTS = "model.safetensors"


def reseal(checkpoint: Path, **changes: Any) -> None:
    """Make the manifest agree with the changed files, so that only the later checks can object."""
    value = json.loads((checkpoint / FILE).read_text())
    file = describe(checkpoint, [WEIGHTS])[WEIGHTS]
    value |= {"files": {WEIGHTS: {"bytes": file.bytes, "sha256": file.sha256}}, **changes}
    (checkpoint / FILE).write_text(json.dumps(value))


def test_what_was_saved_comes_back_to_the_bit(checkpoint: Path, model: nn.Module, manifest: Manifest) -> None:
    found = load(checkpoint)
    assert found.manifest.pipeline == manifest.pipeline
    assert not found.model.training
    loaded, saved = found.model.state_dict(), model.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)
    assert not any(p.requires_grad or p.is_meta for p in found.model.parameters())


def test_families_are_those_of_the_dict() -> None:
    for name in FAMILIES:
        assert {"Config", "Model"} <= set(dir(family(name)))
    with pytest.raises(UserError, match="Did you mean 'tiny'"):
        family("tinny")


def test_a_manifest_does_not_choose_what_is_imported(checkpoint: Path) -> None:
    reseal(checkpoint, family="antigravity")
    with pytest.raises(UserError, match="antigravity"):
        load(checkpoint)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("act.bias"), ["1 tensors missing", "act.bias"]),
        (lambda t: t.update(surplus=torch.zeros(1)), ["1 unexpected", "surplus"]),
        (lambda t: t.update({"act.bias": torch.zeros(3)}), ["act.bias is float32[3], not float32[56]"]),
        (lambda t: t.update({"act.bias": t["act.bias"].half()}), ["act.bias is float16[56], not float32[56]"]),
        (
            lambda t: [t.pop(name) for name in list(t) if name.startswith("layers.")],
            ["layers.0.norm.weight", "layers.0.narrow.bias"],
        ),
    ],
)
def test_tensors_that_do_not_fit_are_all_listed(
    checkpoint: Path, change: Callable[[dict[str, torch.Tensor]], object], said: list[str]
) -> None:
    tensors = load_file(checkpoint / WEIGHTS)
    change(tensors)
    save_file(tensors, checkpoint / WEIGHTS)
    reseal(checkpoint, tensors=len(tensors))
    with pytest.raises(UserError) as error:
        load(checkpoint)
    for part in said:
        assert part in str(error.value)


def test_a_wrong_count_is_an_error(checkpoint: Path) -> None:
    reseal(checkpoint, tensors=3)
    with pytest.raises(UserError, match="its manifest says 3"):
        load(checkpoint)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_an_error(checkpoint: Path, keep: int) -> None:
    path = checkpoint / WEIGHTS
    size = path.stat().st_size
    os.truncate(path, keep if keep >= 0 else size + keep)
    with pytest.raises(UserError, match=f"bytes, not {size}"):
        load(checkpoint)
    reseal(checkpoint)
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        load(checkpoint)


def test_one_flipped_bit_is_an_error(checkpoint: Path) -> None:
    content = bytearray((checkpoint / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (checkpoint / WEIGHTS).write_bytes(content)
    with pytest.raises(UserError, match="sha256"):
        load(checkpoint)


def test_a_configuration_of_another_model_is_an_error(checkpoint: Path, manifest: Manifest) -> None:
    reseal(checkpoint, config={**manifest.config, "heads": 4})
    with pytest.raises(UserError, match="heads"):
        load(checkpoint)
    reseal(checkpoint, config={**manifest.config, "width": "wide"})
    with pytest.raises(UserError, match="width"):
        load(checkpoint)
    reseal(checkpoint, config={**manifest.config, "width": 32})
    with pytest.raises(UserError, match="of another shape"):
        load(checkpoint)


@pytest.mark.goldens
def test_broken_golden_files(goldens: Path, checkpoint: Path) -> None:
    """Every file of the reference data's broken checkpoints, in the place of our weights."""
    listed = {
        entry["path"]: entry["expect"]
        for entry in json.loads((goldens / "data/broken/MANIFEST.json").read_text())["entries"]
        if entry["path"].startswith("checkpoints/")
    }
    read = 0
    for name, expected in listed.items():
        path = goldens / "data/broken" / name
        if expected == "accept" and path.suffix == ".safetensors":
            assert read_tensors([path])
        else:  # pickles are no safetensors, sound or not: nothing in them is looked at
            with pytest.raises(UserError, match="safetensors"):
                read_tensors([path])
        (checkpoint / WEIGHTS).write_bytes(path.read_bytes())
        with pytest.raises(UserError):
            load(checkpoint)
        read += 1
    assert read == len(list((goldens / "data/broken/checkpoints").iterdir())) >= 7
    assert "GOLDEN_PICKLE_WAS_EXECUTED" not in os.environ


def test_declared_exceptions_are_patterns() -> None:
    wanted, found = {"head.a": "x", "body.b": "x"}, {"body.b": "x", "extra.c": "x"}
    check_keys(wanted, found, what="it", fresh=["head.*"], dropped=["extra.*"])
    with pytest.raises(UserError, match="0 tensors missing, 1 unexpected"):
        check_keys(wanted, found, what="it", fresh=["head.*"])


def test_many_that_do_not_fit_are_counted() -> None:
    """As where the two are models of different sizes, in which every tensor differs."""
    wanted, found = ({f"{part}.{i}": size for part in "ab" for i in range(20)} for size in ("[2]", "[3]"))
    for name in [name for name in found if name.startswith("b")][:13]:
        found[f"more.{name}"] = found.pop(name)
    with pytest.raises(UserError, match="13 tensors missing, 13 unexpected, 27 of another shape") as error:
        check_keys(wanted, found, what="it")
    missing, unexpected, other = error.value.why.split("; ")
    assert missing == f"missing: {', '.join(f'b.{i}' for i in range(12))} and 1 more"
    assert unexpected.endswith("more.b.11 and 1 more")
    assert other.startswith("other: a.0 is [3], not [2], a.1") and other.endswith("a.11 is [3], not [2] and 15 more")


def test_a_config_field_that_does_not_exist_gets_a_hint() -> None:
    assert model_config(tiny, {"width": 32}).width == 32
    with pytest.raises(UserError, match="Did you mean 'keypoints'"):
        model_config(tiny, {"keypoint": 3})


def test_two_models_do_not_share_memory(tmp_path: Path, model: nn.Module, manifest: Manifest) -> None:
    save(tmp_path / "c", replace(manifest, step=1), model.state_dict())
    one, two = load(tmp_path / "c").model, load(tmp_path / "c").model
    next(one.parameters()).add_(1)
    assert not torch.equal(next(one.parameters()), next(two.parameters()))
