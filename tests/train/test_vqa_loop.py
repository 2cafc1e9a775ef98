"""One step of fine-tuning on questions: the gradient out of parts, what is masked, and what is not computed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from small_vqa import form, model, write_questions
from torch import Tensor

from handeye.data.xvr.batches import QuestionBatches
from handeye.data.xvr.form import Form
from handeye.data.xvr.questions import Questions
from handeye.models.gemma import Gemma
from handeye.train.vqa import recompute
from handeye.train.vqa_loop import gradient, tensors, validate
from handeye.train.vqa_optimizer import choose
from handeye.train.vqa_presets import paligemma_xvr

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("xvr"))


def batches(root: Path, asked: Form, size: int = 12, file: str = "train") -> QuestionBatches:
    return QuestionBatches(Questions(root / f"{file}.jsonl"), asked, size, 0)


def gradients(parts: list[dict[str, Tensor]], *, precision: str = "fp32", seed: int = 0) -> tuple[float, Tensor]:
    """The loss, and all gradients in one row."""
    made = model(seed)
    choose(made, "all")
    loss = gradient(made, parts, precision=precision)
    return loss, torch.cat([p.grad.flatten() for p in made.parameters()])


def cut(batch: dict[str, np.ndarray], *places: int) -> list[dict[str, Tensor]]:
    ends = [0, *places, len(batch["text"])]
    return [tensors({n: a[i:j] for n, a in batch.items()}, CPU) for i, j in pairwise(ends)]


@pytest.mark.parametrize("places", [(4, 8), (1, 2, 7)])
def test_parts_give_the_gradient_of_the_whole(root: Path, places: tuple[int, ...]) -> None:
    """Equal parts, and unequal ones: every example weighs the same."""
    batch = batches(root, form(root)).next()
    (whole, wanted), (summed, found) = gradients(cut(batch)), gradients(cut(batch, *places))
    assert summed == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(gradients(cut(batch, *places)[:1])[1], wanted, rtol=1e-2, atol=1e-4)


def test_absent_pictures_and_padding_change_nothing(root: Path) -> None:
    """With room for more pictures and more tokens, untrimmed: the same loss and gradient, and the same answers."""
    asked = form(root)
    wide = replace(asked, pictures=6, length=90)
    small, large = (batches(root, one).next() for one in (asked, wide))
    untrimmed = {name: torch.from_numpy(array) for name, array in large.items()}
    assert untrimmed["images"].shape[1] == 6 and untrimmed["text"].shape[1] == 90
    garbage = untrimmed["images"].clone()
    absent = torch.arange(6) >= untrimmed["num_images"][:, None]
    garbage[absent] = torch.randn_like(garbage[absent])
    (loss, wanted), *others = (gradients([x]) for x in (cut(small)[0], untrimmed, {**untrimmed, "images": garbage}))
    for other, found in others:
        assert other == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)
    rows = np.arange(12)
    first = tensors(batches(root, asked).batch(rows, answer=False), CPU)
    second = {n: torch.from_numpy(a) for n, a in batches(root, wide).batch(rows, answer=False).items()}
    absent = torch.arange(6) >= second["num_images"][:, None]
    second["images"][absent] = torch.randn_like(second["images"][absent])
    one, two = (model().answer(x, length=5, end=-1) for x in (first, second))
    assert one[0].tolist() == two[0].tolist()
    torch.testing.assert_close(one[1], two[1], rtol=1e-4, atol=1e-5)


def test_logits_only_where_the_loss_looks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, rows = Gemma.logits, list[int]()
    monkeypatch.setattr(Gemma, "logits", lambda self, x: rows.append(x.shape[0]) or asked(self, x))
    batch = batches(root, form(root)).next()
    gradients(cut(batch))
    assert rows == [int(batch["mask_loss"].sum())] and rows[0] < batch["mask_input"].sum() / 4


def test_recomputing_gives_the_same_and_keeps_less(root: Path) -> None:
    (part,) = cut(batches(root, form(root)).next())
    found, kept = [], []
    for again in (False, True):
        made = model()
        choose(made, "all")
        if again:
            recompute(made)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x):
            made.loss(part)[0].backward()
        found.append(torch.cat([p.grad.flatten() for p in made.parameters()]))
        kept.append(sum(sizes))
    assert torch.equal(*found)
    assert kept[1] < kept[0] / 2


def test_bf16_computes_in_bfloat16_and_keeps_float32(root: Path) -> None:
    batch = batches(root, form(root)).next()
    seen = set[torch.dtype]()
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, out: seen.add(out.dtype) if isinstance(module, torch.nn.Linear) else None
    )
    loss, found = gradients(cut(batch), precision="bf16")
    hook.remove()
    exact, wanted = gradients(cut(batch))
    assert seen == {torch.bfloat16} and found.dtype == torch.float32
    assert loss != exact and loss == pytest.approx(exact, rel=0.02)
    assert torch.nn.functional.cosine_similarity(found, wanted, dim=0) > 0.99


def test_validation_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against answers put into its mouth: two right, one in a sentence, one of no form, two wrong."""
    config = replace(paligemma_xvr(), batch=4)
    valid = batches(root, form(root), file="valid")
    truths = [entry.answer for entry in valid.questions.entries]
    said = iter(
        [
            truths[0],
            truths[1].upper(),
            f"it is {truths[2]}",
            "purple",
            *("red" if t != "Red" else "gray" for t in truths[4:]),
        ]
    )
    monkeypatch.setattr(Form, "said", lambda self, ids: next(said))
    found = validate(model(), valid, form(root), config, CPU)
    assert found["exact"] == 2 / 6 and found["contains"] == 3 / 6 and found["questions"] == 6
    assert found["malformed"] >= 2 / 6
    assert found["loss"] == pytest.approx(gradients(cut(valid.batch(np.arange(6))))[0], rel=1e-5)
