"""The tiny family: shapes, masks, initialisation, and that it can learn where to look and what a sentence asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from handeye.conventions.prompt import byte_ids
from handeye.models.tiny import Config, Model

SMALL = Config(
    image_size=32,
    channels=(8, 16, 16),
    keypoints=8,
    overview=16,
    width=64,
    layers=1,
    sentence_width=16,
    proprio_noise=0.0,
)


def make(config: Config = SMALL, seed: int = 0) -> Model:
    with torch.device("meta"):
        model = Model(config)
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    model.initialise(torch.Generator().manual_seed(seed))
    return model


def prompts(*sentences: str) -> torch.Tensor:
    return torch.from_numpy(np.stack([byte_ids(sentence, 48) for sentence in sentences]))


def batch(B: int, config: Config = SMALL, seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        **{
            f"image.{c}": torch.randint(256, (B, config.image_size, config.image_size, 3), generator=random).to(
                torch.uint8
            )
            for c in config.cameras
        },
        "proprio": torch.randn(B, config.proprio_width, generator=random),
        "prompt": prompts(*["put it there"] * B),
        "actions": torch.rand(B, config.chunk, config.action_width, generator=random) * 2 - 1,
        "valid": torch.ones(B, config.chunk, dtype=torch.bool),
    }


def test_one_pass_gives_a_chunk_with_a_decided_gripper() -> None:
    actions = make().eval().sample_actions(batch(3))
    assert actions.shape == (3, SMALL.chunk, SMALL.action_width)
    assert set(actions[..., -1].unique().tolist()) <= {-1.0, 1.0}
    assert actions.isfinite().all()


@pytest.mark.parametrize("size", [16, 40])
def test_any_cameras_and_picture_sizes(size: int) -> None:
    config = replace(SMALL, cameras=("front", "left", "right"), image_size=size)
    assert make(config).eval().sample_actions(batch(2, config)).shape == (2, 8, 7)


def test_the_generator_alone_decides_every_weight() -> None:
    one, again, other = make(seed=1).state_dict(), make(seed=1).state_dict(), make(seed=2).state_dict()
    assert all(tensor.isfinite().all() for tensor in one.values())
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["act.weight"], other["act.weight"])


def test_every_weight_takes_part() -> None:
    model = make().train()
    torch.nn.init.ones_(model.layers[0].narrow.weight)  # zero at the start, which would stop the gradient behind it
    model.loss(batch(2))[0].backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_padding_does_not_teach() -> None:
    model, made = make().eval(), batch(2)
    made["valid"][:, 5:] = False
    changed = made | {"actions": made["actions"].clone()}
    changed["actions"][:, 5:] = 100.0
    assert model.loss(made)[0] == model.loss(changed)[0]
    changed["actions"][:, 4] = 100.0
    assert model.loss(made)[0] != model.loss(changed)[0]


def test_noise_on_proprioception_is_for_training_only() -> None:
    model, made = make(replace(SMALL, proprio_noise=0.5)), batch(2)
    assert model.train().loss(made)[0] != model.loss(made)[0]
    assert model.eval().loss(made)[0] == model.loss(made)[0]


def test_the_order_of_words_matters_and_padding_does_not() -> None:
    read = make().read
    a, b = read(prompts("put the red cube on the blue cube", "put the blue cube on the red cube"))
    assert (a - b).abs().max() > 1e-3
    short = prompts("open it")
    assert torch.allclose(read(short), read(torch.nn.functional.pad(short, (0, 40))), atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_it_learns_to_go_where_the_sentence_says(seed: int) -> None:
    """Two squares at random places; the sentence names the colour whose place is the answer. Blind to the picture the
    error would be 0.4 on average, deaf to the sentence about 0.27."""
    random = np.random.default_rng(seed)
    colours = {"go to red": (255, 0, 0), "go to blue": (0, 0, 255)}

    def draw(B: int) -> dict[str, torch.Tensor]:
        image = np.full((B, 32, 32, 3), 128, np.uint8)
        places = random.integers(2, 27, (B, 2, 2))
        for index in range(B):
            for (y, x), colour in zip(places[index], colours.values(), strict=True):
                image[index, y : y + 4, x : x + 4] = colour
        asked = random.integers(0, 2, B)
        target = places[np.arange(B), asked] / 14.5 - 1
        actions = np.zeros((B, 1, 3), np.float32)
        actions[:, 0, :2], actions[:, 0, 2] = target, np.sign(target[:, 0])
        return {
            "image.agentview": torch.from_numpy(image),
            "proprio": torch.zeros(B, 1),
            "prompt": prompts(*[list(colours)[a] for a in asked]),
            "actions": torch.from_numpy(actions),
            "valid": torch.ones(B, 1, dtype=torch.bool),
        }

    config = replace(SMALL, cameras=("agentview",), proprio_width=1, action_width=3, chunk=1)
    model = make(config, seed).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(300):
        loss, _ = model.loss(draw(32))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    error = model.eval().loss(draw(256))[1]["arm_l1"].item()
    assert error < 0.15
