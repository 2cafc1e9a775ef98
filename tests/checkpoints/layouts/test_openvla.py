"""Published folders of OpenVLA and OFT, whole, damaged and foreign. Small ones are written as upstream's code writes
them; the reference's own are read in tests/parity."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_openvla import batch, small

from handeye.checkpoints import published
from handeye.checkpoints.adapters import merged, read_adapter
from handeye.checkpoints.layouts import openvla as layout
from handeye.conventions import libero
from handeye.conventions.plain import to_plain
from handeye.errors import UserError
from handeye.models import openvla, openvla_oft

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        (openvla, {}),
        (openvla_oft, {}),
        (openvla_oft, {"proprio_width": None, "cameras": ("wrist",)}),
        (openvla_oft, {"head": "diffusion"}),
        (openvla_oft, {"head": "tokens", "proprio_width": None}),
    ],
)
def test_written_and_read(write: Write, module: Any, settings: dict[str, Any]) -> None:
    folder = write("published", module, **settings)
    options = {"cameras": "+".join(settings["cameras"])} if "cameras" in settings else {}
    if settings.get("head") == "tokens":
        options["family"] = "openvla_oft"
    if "cameras" in settings:
        options["proprio"] = "no"
    checkpoint = published.load(folder, options)
    made = small(
        module, **{**settings, "towers": checkpoint.model.config.towers, "language": checkpoint.model.config.language}
    )
    ours = checkpoint.model.state_dict()
    assert checkpoint.model.config == made.config
    assert all(torch.equal(ours[name], tensor) for name, tensor in made.state_dict().items())
    given = batch(module, lengths=(5,), towers=made.config.towers, **settings)
    assert torch.equal(checkpoint.model.sample_actions(given), made.sample_actions(given))
    manifest = checkpoint.manifest
    assert manifest.specs == libero.specs(camera_size=256, cameras=made.config.cameras)
    assert (manifest.config, manifest.tensors) == (to_plain(made.config), len(ours))
    assert manifest.step == (7000 if module is openvla_oft and settings.get("head") != "tokens" else 0)
    assert manifest.provenance["statistics"] == "libero_goal"
    assert {path.name for path in folder.iterdir()} - set(manifest.files) == {"config.json"}


def test_precision_is_one_for_all(write: Write) -> None:
    """As upstream, which reads everything as bfloat16; but the rotary angles stay exact."""
    folder = write("published", openvla_oft)
    model = published.load(folder, {"precision": "bf16"}).model
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.bfloat16}
    assert model.language_model.model.rotary_emb.inv_freq.dtype == torch.float32
    asked = batch(openvla_oft, lengths=(5,), towers=model.config.towers)
    assert model.sample_actions(asked).isfinite().all()


def test_shards_and_their_index(write: Write) -> None:
    folder = write("published")
    whole = published.load(folder).model.state_dict()
    state = {name: tensor.clone() for name, tensor in whole.items()}
    (folder / "model.safetensors").unlink()
    halves = {
        "model-00001-of-00002.safetensors": list(state)[:60],
        "model-00002-of-00002.safetensors": list(state)[60:],
    }
    for name, names in halves.items():
        save_file({each: state[each] for each in names}, folder / name)
    index = {"metadata": {}, "weight_map": {each: name for name, names in halves.items() for each in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    again = published.load(folder)
    assert set(halves) < set(again.manifest.files)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in again.model.state_dict().items())

    index["weight_map"] |= {"ghost": "model-00001-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"disagree on 1 tensors(.|\n)*ghost \(only the index"):
        published.load(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"incomplete(.|\n)*model-00002-of-00002"):
        published.load(folder)


def test_statistics_by_name_or_because_there_is_one(write: Write, statistics: dict[str, Any]) -> None:
    folder = write("published", keys=("bridge_orig", "libero_goal"))
    with pytest.raises(UserError, match=r"2 data sets(.|\n)*bridge_orig, libero_goal(.|\n)*#statistics=NAME"):
        published.load(folder)
    with pytest.raises(UserError, match=r"'libero_goa'. Did you mean 'libero_goal'"):
        published.load(folder, {"statistics": "libero_goa"})
    assert published.load(folder, {"statistics": "libero_goal"}).manifest.provenance["statistics"] == "libero_goal"
    (folder / "dataset_statistics.json").write_text(json.dumps({"mine": statistics}))  # comes before config.json's
    assert published.load(folder).manifest.provenance["statistics"] == "mine"
    (folder / "dataset_statistics.json").write_text("{}")
    with pytest.raises(UserError, match="no statistics"):
        published.load(folder)


def test_what_is_fine_tuned_needs_no_statistics_of_its_own(write: Write) -> None:
    """openvla-7b has those of some twenty data sets, and none of them is LIBERO."""
    folder = write("published", keys=("bridge_orig", "fractal20220817_data"))
    with pytest.raises(UserError, match="statistics of 2 data sets"):
        published.load(folder)
    read = published.load(folder, to_fine_tune=True)
    named = published.load(folder, {"statistics": "bridge_orig"})
    ours, theirs = (each.model.state_dict() for each in (read, named))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_head_that_never_saw_the_arm(write: Write) -> None:
    folder = write("published", openvla_oft, proprio_width=None)
    with pytest.raises(UserError, match="proprio=no"):
        published.load(folder)
    assert published.load(folder, {"proprio": "no"}).model.config.proprio_width is None


def test_every_tensor_that_does_not_fit_is_listed(write: Write) -> None:
    folder = write("published", openvla_oft)
    state = {name: t.clone() for name, t in published.load(folder).model.state_dict().items()}
    state = {name: t for name, t in state.items() if not name.startswith(("action_head", "proprio"))}
    state["language_model.model.norm.weight"] = torch.ones(15)
    state["stranger"] = torch.ones(1)
    del state["projector.fc3.bias"]
    save_file(state, folder / "model.safetensors")
    torch.save({"module.fc1.weight": torch.ones(16, 8)}, folder / "proprio_projector--7000_checkpoint.pt")
    with pytest.raises(UserError) as raised:
        published.load(folder)
    for part in (
        "4 tensors missing, 1 unexpected, 1 of another shape",
        "projector.fc3.bias",
        "stranger",
        "proprio_projector.fc2.weight",
        "language_model.model.norm.weight is float32[15], not float32[16]",
    ):
        assert part in str(raised.value)


def damage_config(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def second_head(folder: Path) -> None:
    torch.save({"module.model.fc1.weight": torch.ones(1)}, folder / "action_head--8000_checkpoint.pt")


def foreign_head(folder: Path) -> None:
    torch.save({"module.flow.fc1.weight": torch.ones(1)}, folder / "action_head--7000_checkpoint.pt")


def no_dict(folder: Path) -> None:
    torch.save([torch.ones(1)], folder / "action_head--7000_checkpoint.pt")


def other_robot(folder: Path) -> None:
    path = folder / "proprio_projector--7000_checkpoint.pt"
    torch.save({**torch.load(path), "module.fc1.weight": torch.ones(16, 14)}, path)


def other_pixels(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"input_sizes": [[3, 224, 224]] * 2, "means": [[0.5] * 3] * 2})
    )


def unmerged(folder: Path) -> None:
    save_file({"a.lora_A.weight": torch.ones(1)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_config(timm_model_ids=["vit_so400m_patch14_siglip_224"]), "timm_model_ids is"),
        (damage_config(image_sizes=[336, 336]), r"image_sizes is \[336, 336\]"),
        (damage_config(n_action_bins=128), "n_action_bins is 128"),
        (damage_config(timm_model_kwargs=[{"img_size": 1}, {}]), "img_size"),
        (damage_config(text_config={"hidden_size": 16, "rope_scaling": {"factor": 2}}), "rope_scaling"),
        (damage_config(text_config={"hidden_size": "16"}), "width is '16'"),
        (second_head, r"several files for action_head(.|\n)*7000(.|\n)*8000"),
        (foreign_head, r"no component(.|\n)*flow.fc1.weight"),
        (no_dict, "no dict of tensors"),
        (other_robot, r"another robot(.|\n)*14 numbers"),
        (other_pixels, "prepares images in another way"),
        (unmerged, "adapter still apart"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (lambda folder: (folder / "config.json").unlink(), r"incomplete(.|\n)*no config.json"),
        (lambda folder: (folder / "action_head--7000_checkpoint.pt").unlink(), r"proprio_(.|\n)*no action_head"),
        (lambda folder: (folder / "proprio_projector--7000_checkpoint.pt").unlink(), r"no proprio_(.|\n)*#proprio=no"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer(.|\n)*cannot be read"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "cannot be read as safetensors"),
        (lambda folder: (folder / "action_head--7000_checkpoint.pt").write_bytes(b"\x80\x04."), "no zip file"),
    ],
)  # fmt: skip
def test_wrong_and_foreign_folders(write: Write, damage: Callable[[Path], None], said: str) -> None:
    folder = write("published", openvla_oft)
    damage(folder)
    with pytest.raises(UserError, match=said):
        published.load(folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"statistic": "x"}, "Did you mean 'statistics'"),
        ({"precision": "int4"}, "fp32"),
        ({"cameras": "left"}, "agentview"),
        ({"denoising_steps": "51"}, "use 1 to 50"),
        ({"family": "openvla"}, r"no OpenVLA checkpoint(.|\n)*action_head--7000"),
        ({"base": "nowhere"}, "no lora_adapter"),
        ({"proprio": "no"}, "trained with the arm's state"),
    ],
)
def test_wrong_options(write: Write, options: dict[str, str], said: str) -> None:
    folder = write("published", openvla_oft)
    with pytest.raises(UserError, match=said):
        published.load(folder, options)


def test_other_folders(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert not layout.recognises(tmp_path)
    with pytest.raises(UserError, match="is not a checkpoint"):
        published.load(tmp_path)
    with pytest.raises(UserError, match="takes no 'statistics'"):
        published.load(tmp_path, {"statistics": "x"})


# ---- adapters --------------------------------------------------------------------------------------------------------


def write_adapter(folder: Path, weights: dict[str, torch.Tensor], modules: tuple[str, ...], **changes: Any) -> None:
    folder.mkdir(exist_ok=True)
    told = {"peft_type": "LORA", "r": 4, "lora_alpha": 2, "bias": "none", "use_dora": False, "rank_pattern": {}}
    (folder / "adapter_config.json").write_text(json.dumps({**told, **changes}))
    random = torch.Generator().manual_seed(5)
    tensors = {}
    for module in modules:
        out, *inner = weights[f"{module}.weight"].shape
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn((4, *inner), generator=random)
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(
            (out, 4, *[1] * (len(inner) - 1)), generator=random
        )
    tensors["base_model.model.language_model.lm_head.base_layer.weight"] = torch.ones(2, 2)
    save_file(tensors, folder / "adapter_model.safetensors")


MODULES = ("language_model.lm_head", "vision_backbone.featurizer.patch_embed.proj", "projector.fc1")


def test_an_adapter_on_its_base(write: Write) -> None:
    base, folder = write("base"), write("trained")
    weights = {name: t.clone() for name, t in published.load(base).model.state_dict().items()}
    write_adapter(folder / "lora_adapter", weights, MODULES)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"only lora_adapter/(.|\n)*#base=DIR"):
        published.load(folder)
    checkpoint = published.load(folder, {"base": str(base)})
    adapter = read_adapter(folder / "lora_adapter")
    assert adapter.scale == dict.fromkeys(MODULES, 0.5) and set(adapter.down) == set(MODULES)
    for name, tensor in checkpoint.model.state_dict().items():
        module = name.removesuffix(".weight")
        if module not in MODULES:
            assert torch.equal(tensor, weights[name])
            continue
        up, down = adapter.up[module].flatten(1), adapter.down[module].flatten(1)
        change = sum(torch.outer(up[:, rank], down[rank]) for rank in range(4))
        torch.testing.assert_close(tensor, weights[name] + 0.5 * change.reshape(tensor.shape), atol=1e-5, rtol=1e-5)
    assert "lora_adapter/adapter_model.safetensors" in checkpoint.manifest.files
    assert set(checkpoint.manifest.provenance["base"]) == {"model.safetensors"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dora": True}, "use_dora = True"),
        ({"rank_pattern": {"fc": 8}}, "gives fc rank 8, and its A has 4"),
        ({"r": 8}, "gives fc rank 8, and its A has 4"),
        ({"alpha_pattern": {"f.*|x": 8}}, "alpha_pattern has 'f.*|x'"),
        ({"alpha_pattern": {"fc": "8"}}, "lora_alpha is '8'"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"peft_type": "IA3"}, "none of a LoRA"),
        ({"r": 0}, "r is 0"),
    ],
)
def test_other_adapters_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write_adapter(tmp_path / "a", {"fc.weight": torch.ones(3, 5)}, ("fc",), **changes)
    with pytest.raises(UserError, match=said):
        read_adapter(tmp_path / "a")


def test_an_adapter_of_another_model(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", {"fc.weight": torch.ones(3, 5)}, ("fc",))
    adapter = read_adapter(tmp_path / "a")
    with pytest.raises(UserError, match=r"does not belong(.|\n)*no fc"):
        merged({"other.weight": torch.ones(3, 5)}, adapter, what="a")
    with pytest.raises(UserError, match=r"does not fit(.|\n)*fc: B \[3, 4\] x A \[4, 5\] for a weight \[5, 3\]"):
        merged({"fc.weight": torch.ones(5, 3)}, adapter, what="a")
