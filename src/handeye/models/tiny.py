"""The smallest policy that is still a policy: cameras, a sentence and the arm's own state in, a chunk of actions out.

It is the default family: it learns a handful of tasks in minutes on two CPU cores. Read it first; the others differ in
size, not in shape. It looks for a few *places* in each picture (a spatial soft-argmax, after Finn et al. 2016, "Deep
Spatial Autoencoders"), and the sentence decides which (FiLM, after Perez et al. 2018). Coordinates of places are what
an arm needs, and far fewer demonstrations teach them than teach a flat feature map.

Shape letters: B batch, H height, W width, C channels, K keypoints, L bytes (then words) of a sentence,
U different sentences, S proprio, T chunk steps, V overview, A action, D model width, E sentence width.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes. What the numbers mean (units, gripper sign, camera) is in the checkpoint's specs."""

    cameras: tuple[str, ...] = ("agentview", "wrist")
    """Each has a convolutional trunk of its own: they see different things."""

    image_size: int = 96
    """Height and width of every picture; a multiple of 8."""

    proprio_width: int = 8
    action_width: int = 7
    """The last one is the gripper: +1 or -1."""

    chunk: int = 8
    """Actions predicted in one pass."""

    buckets: int = 2048
    """Rows of the table of words."""

    sentence_width: int = 64

    channels: tuple[int, ...] = (16, 32, 48)
    """Of the convolutions. The first two halve the picture each; the others keep its size."""

    keypoints: int = 32
    """Places looked for in each picture."""

    overview: int = 64
    """Width of the coarse layout of each picture, beside its places."""

    width: int = 256
    layers: int = 3
    """Residual layers of the head."""

    gripper_weight: float = 0.1
    """Of the gripper's cross-entropy (nats) against the arm's L1 error (in normalised units)."""

    proprio_noise: float = 0.05
    """Standard deviation added to normalised proprioception in training: close positions must not be told apart by it
    alone, or the policy learns to replay by heart instead of looking."""


class Reader(nn.Module):
    """A sentence as bytes (plus one; 0 pads) in, one vector out.

    Words are looked up by hash, so there is no vocabulary to carry. They are whole words on purpose: averaged over its
    bytes, "put the red cube on the plate" differs by 5 % from the same about a green one, and training spends its time
    on telling the two apart; averaged over words, by a third."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        E = config.sentence_width
        self.buckets = config.buckets
        self.words = nn.Embedding(config.buckets, E)
        self.neighbours = nn.Conv1d(E, E, 3, padding=1)  # "red on blue" is not "blue on red"
        self.norm = nn.LayerNorm(E)

    def forward(self, prompt_BL: Tensor) -> Tensor:
        prompt_UL, which_B = torch.unique(prompt_BL, dim=0, return_inverse=True)  # a batch holds few: each is read once
        vectors = [self._read(bytes(b - 1 for b in row if b)) for row in prompt_UL.tolist()]
        return self.norm(torch.stack(vectors))[which_B]

    def _read(self, sentence: bytes) -> Tensor:
        """Two hashes a word: two words are taken for one only if both agree, once in buckets squared."""
        hashes = [[zlib.crc32(salt + word) % self.buckets for salt in (b"0", b"1")] for word in sentence.split()]
        x_LE = self.words(torch.tensor(hashes, device=self.words.weight.device)).sum(1)
        return (x_LE + F.relu(self.neighbours(x_LE.T)).T).mean(0)


PEAK = 3.0
"""Factor on the initial logits of the soft-argmax."""


class Trunk(nn.Module):
    """One camera: picture and sentence in; out: where K places are, the layout, and what there is."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = (5, *config.channels)  # red, green, blue, and the pixel's own x and y
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, 5 if n == 0 else 3, stride=2 if n < 2 else 1, padding=2 if n == 0 else 1)
            for n, (i, o) in enumerate(pairwise(widths))
        )
        self.films = nn.ModuleList(nn.Linear(config.sentence_width, 2 * o) for o in config.channels[1:])
        self.places = nn.Conv2d(config.channels[-1], config.keypoints, 1)
        self.coarse = nn.Conv2d(config.channels[-1], 24, 3, stride=2, padding=1)
        self.overview = nn.Linear(24 * (config.image_size // 8) ** 2, config.overview)
        self.norm = nn.LayerNorm(config.overview)

    def forward(self, image_BHW3: Tensor, sentence_BE: Tensor) -> Tensor:
        pixels_B3HW = image_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1  # a view in channels-last order, no copy
        x_BCHW = torch.cat([pixels_B3HW, _coordinates(pixels_B3HW)], dim=1)
        x_BCHW = F.relu(self.convolutions[0](x_BCHW))  # edges and colours: the sentence need not steer those
        for convolution, film in zip(self.convolutions[1:], self.films, strict=True):
            scale_BC11, shift_BC11 = film(sentence_BE)[:, :, None, None].chunk(2, dim=1)
            x_BCHW = F.relu(convolution(x_BCHW) * (1 + scale_BC11) + shift_BC11)
        weight_BKP = self.places(x_BCHW).flatten(2).softmax(-1)
        place_BK2 = weight_BKP @ _coordinates(x_BCHW).flatten(2).transpose(1, 2)
        overview_BV = self.norm(self.overview(F.relu(self.coarse(x_BCHW)).flatten(1)))
        seen_BC = x_BCHW.amax((2, 3))  # is it there at all, wherever it is
        return torch.cat([place_BK2.flatten(1), overview_BV, seen_BC], dim=-1)


class Layer(nn.Module):
    """A residual layer of the head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, x_BD: Tensor) -> Tensor:
        return x_BD + self.narrow(F.gelu(self.widen(self.norm(x_BD))))


class Model(nn.Module):
    """Call `initialise` after construction: `__init__` only says which tensors there are, and may run on `meta`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        D, E = config.width, config.sentence_width
        self.read = Reader(config)
        self.trunks = nn.ModuleDict({name: Trunk(config) for name in config.cameras})
        seen = len(config.cameras) * (2 * config.keypoints + config.overview + config.channels[-1])
        self.join = nn.Linear(seen + config.proprio_width + E, D)
        self.layers = nn.ModuleList(Layer(D) for _ in range(config.layers))
        self.norm = nn.LayerNorm(D)
        self.act = nn.Linear(D, config.chunk * config.action_width)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Every tensor, from this generator alone."""
        for parameter in self.parameters():
            parameter.zero_()  # as the biases stay
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, generator=generator)  # keeps the scale through ReLUs
            elif isinstance(module, (nn.Conv1d, nn.Linear)):
                nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)  # torch's own default
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, generator=generator)
        for module in self.modules():
            if isinstance(module, Layer):
                nn.init.zeros_(module.narrow.weight)  # each residual layer starts as the identity
            elif isinstance(module, Trunk):
                # Peaked from the start: a flat soft-argmax always answers "the middle" and hardly passes a gradient.
                module.places.weight.mul_(PEAK)

    def forward(self, batch: Mapping[str, Tensor], proprio_BS: Tensor) -> Tensor:
        """Normalised actions; the gripper's entry is the logit of +1."""
        sentence_BE = self.read(batch["prompt"])
        seen = [trunk(batch[f"image.{name}"], sentence_BE) for name, trunk in self.trunks.items()]
        x_BD = self.join(torch.cat([*seen, proprio_BS, sentence_BE], dim=-1))
        for layer in self.layers:
            x_BD = layer(x_BD)
        return self.act(self.norm(x_BD)).unflatten(-1, (self.config.chunk, self.config.action_width))

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """L1 on the arm, cross-entropy on the gripper. `valid` masks what lies past an episode's end."""
        proprio_BS = batch["proprio"]
        if self.training:
            proprio_BS = proprio_BS + self.config.proprio_noise * torch.randn_like(proprio_BS)
        predicted_BTA, target_BTA = self(batch, proprio_BS), batch["actions"]
        valid_BT = batch["valid"].float()
        arm_BT = (predicted_BTA - target_BTA)[..., :-1].abs().mean(-1)
        grip_BT = F.binary_cross_entropy_with_logits(
            predicted_BTA[..., -1], (target_BTA[..., -1] > 0).float(), reduction="none"
        )
        arm, grip = ((x_BT * valid_BT).sum() / valid_BT.sum() for x_BT in (arm_BT, grip_BT))
        return arm + self.config.gripper_weight * grip, {"arm_l1": arm.detach(), "gripper_nats": grip.detach()}

    @torch.no_grad()
    def sample_actions(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Normalised actions (B, T, A); the gripper is +1 or -1, never between."""
        predicted_BTA = self(batch, batch["proprio"])
        grip_BT1 = torch.where(predicted_BTA[..., -1:] > 0, 1.0, -1.0)
        return torch.cat([predicted_BTA[..., :-1], grip_BT1], dim=-1)


def _coordinates(like_BCHW: Tensor) -> Tensor:
    """x and y of every position, in [-1, 1]: (B, 2, H, W)."""
    B, _, H, W = like_BCHW.shape
    y_H, x_W = (torch.linspace(-1, 1, size, device=like_BCHW.device) for size in (H, W))
    return torch.stack([x_W.expand(H, W), y_H[:, None].expand(H, W)]).expand(B, 2, H, W)
