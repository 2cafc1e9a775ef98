"""VGGT's aggregator on the smallest sizes. The numbers are in tests/parity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_vggt import VGGT

from handeye.conventions.plain import from_plain, to_plain
from handeye.errors import UserError
from handeye.models.vggt import VGGT_1B, Aggregator, AggregatorConfig, grid_positions, rotation, turned


def aggregator() -> Aggregator:
    model = Aggregator(VGGT)
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model.eval()


@torch.no_grad()
def test_the_first_view_is_another() -> None:
    """Everything is told relative to it: swapping two others only swaps their answers."""
    model, images = aggregator(), torch.rand(1, 3, 3, 28, 28)
    last = model(images)[-1]
    torch.testing.assert_close(model(images[:, [0, 2, 1]])[-1], last[:, [0, 2, 1]], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(model(images[:, [1, 0, 2]])[-1], last[:, [1, 0, 2]], atol=1e-3)


@torch.no_grad()
def test_guests_see_pictures_and_are_seen() -> None:
    model, images = aggregator(), torch.rand(2, 2, 3, 28, 28)
    views, positions, guests = model.see(images), model.positions(28, 28), torch.randn(2, 5, 16)
    there = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    *_, (_, answer) = model.layers(views, positions, guests, there)
    assert answer.shape == (2, 2 * 9 + 5, 16)
    louder = guests + there[..., None].logical_not() * 100
    *_, (_, same) = model.layers(views, positions, louder, there)
    assert torch.equal(same[:, :18], answer[:, :18]) and torch.equal(same[0, 18:21], answer[0, 18:21])
    *_, (_, other) = model.layers(views, positions, -guests, there)
    assert not torch.allclose(other[:, :18], answer[:, :18], atol=1e-3)
    *_, (_, dark) = model.layers(model.see(images * 0), positions, guests, there)
    assert not torch.allclose(dark[:, 18:21], answer[:, 18:21], atol=1e-3)


@torch.no_grad()
def test_without_guests_it_is_vggt() -> None:
    model, images = aggregator(), torch.rand(1, 2, 3, 28, 42)
    pairs = list(model.layers(model.see(images), model.positions(28, 42)))
    outputs = model(images)
    assert len(outputs) == len(pairs) == 2
    assert torch.equal(outputs[-1].flatten(1, 2), torch.cat(pairs[-1], dim=-1))


def test_rotation_depends_on_distance_alone() -> None:
    """The product of two turned vectors is the same wherever the pair stands."""
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def product(first: list[int], second: list[int]) -> float:
        cos, sin = rotation(torch.tensor([first, second]), 8, 100.0, torch.float32)
        return float((turned(query, (cos[:1], sin[:1])) * turned(key, (cos[1:], sin[1:]))).sum())

    assert abs(product([1, 2], [4, 3]) - product([11, 7], [14, 8])) < 1e-4
    assert abs(product([1, 2], [4, 3]) - product([1, 2], [3, 4])) > 1e-3
    assert grid_positions(2, 3).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_a_published_name_has_the_published_sizes() -> None:
    assert AggregatorConfig().name == AggregatorConfig(embedding="none").name == "VGGT-1B"
    for change in ({"depth": 23}, {"vision_depth": 23}, {"heads": 8}, {"embedding": "conv"}):
        with pytest.raises(UserError, match="is not VGGT-1B"):
            replace(VGGT_1B, **change)
        assert AggregatorConfig(**change).name == "of no published size"  # type: ignore[arg-type]
    assert replace(VGGT, name="small").name == "small"


def test_a_configuration_says_sizes_and_these_the_name() -> None:
    """So those that were saved before there were names are read."""
    plain = to_plain(VGGT_1B)
    assert "name" not in plain and from_plain(AggregatorConfig, plain, what="it").name == "VGGT-1B"
