"""What PaliGemma promises whatever its weights: frames and padding that are absent do not matter, and decoding says
what the training forward would have said."""

from __future__ import annotations

import torch
from small_pi05 import VOCABULARY, reader
from torch import Tensor


def question(frames: int = 3) -> dict[str, Tensor]:
    """Two rows: all frames and a long answer, one frame and a short one."""
    random = torch.Generator().manual_seed(5)
    place = torch.arange(9)
    prompt, length = torch.tensor([[4], [2]]), torch.tensor([[9], [5]])
    return {
        "images": torch.rand(2, frames, 28, 28, 3, generator=random) * 2 - 1,
        "num_images": torch.tensor([frames, 1]),
        "text": torch.randint(3, VOCABULARY, (2, 9), generator=random),
        "mask_input": place < length,
        "mask_ar": (place >= prompt) & (place < length),
        "mask_loss": (place >= prompt) & (place < length),
    }


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    model, batch = reader(), question()
    second = {name: value[1:] for name, value in batch.items()}
    short = {**second, "images": second["images"][:, :1]}
    short |= {name: second[name][:, :5] for name in ("text", "mask_input", "mask_ar", "mask_loss")}
    losses = [model.loss_per_example(each)[-1] for each in (batch, second, short)]
    torch.testing.assert_close(torch.stack(losses), losses[0].expand(3), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_counting_all_is_another_model_where_frames_are_absent() -> None:
    batch = question()
    ours, theirs = reader().loss_per_example(batch), reader(count="all").loss_per_example(batch)
    torch.testing.assert_close(ours[0], theirs[0])
    assert not torch.allclose(ours[1], theirs[1], atol=1e-4)


@torch.no_grad()
def test_loss_is_that_of_all_logits() -> None:
    model, batch = reader(), question()
    nats = -model.logits(batch).log_softmax(-1)[:, :-1].gather(-1, batch["text"][:, 1:, None])[..., 0]
    learnt = batch["mask_loss"][:, 1:]
    expected = (nats * learnt).sum(1) / learnt.sum(1)
    torch.testing.assert_close(model.loss_per_example(batch), expected, atol=1e-5, rtol=1e-5)
    nothing = {**batch, "mask_loss": torch.zeros_like(batch["mask_loss"])}
    assert model.loss(nothing)[0].item() == 0


def test_decoding_agrees_with_the_training_forward() -> None:
    """Greedy answers appended to the question are what the full forward finds likeliest at every place."""
    model, batch = reader(), question()
    prompt = {**batch, "mask_input": torch.arange(9) < torch.tensor([[4], [2]])}
    ids, logits = model.answer(prompt, length=4, end=-1)
    for row, start in enumerate((4, 2)):
        whole = {name: value[row : row + 1].clone() for name, value in batch.items()}
        whole["text"][0, start : start + 4] = ids[row]
        place = torch.arange(9)
        whole["mask_input"] = (place < start + 4)[None]
        whole["mask_ar"] = ((place >= start) & (place < start + 4))[None]
        with torch.no_grad():
            full = model.logits(whole)[0, start - 1 : start + 3]
        torch.testing.assert_close(full, logits[row], atol=1e-5, rtol=1e-5)
        assert full.argmax(-1).tolist() == ids[row].tolist()


def test_an_answer_stops() -> None:
    model, batch = reader(), question()
    ids, _ = model.answer(batch, length=4, end=-1)
    end = int(ids[0, 1])
    stopped, _ = model.answer({name: value[:1] for name, value in batch.items()}, length=4, end=end)
    first = ids[0].tolist().index(end)
    assert stopped[0].tolist() == ids[0].tolist()[: first + 1] + [0] * (3 - first)
