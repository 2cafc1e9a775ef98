"""The smallest policy that is still a policy: cameras, a sentence and the arm's own state in, a chunk of actions out.

It is the default family: it learns a handful of tasks in minutes on two CPU cores. Read it first; the others differ in
size, not in shape. It looks for a few *places* in each picture (a spatial soft-argmax, after Finn et al. 2016, "Deep
Spatial Autoencoders"), and the sentence decides which (FiLM, after Perez et al. 2018). Coordinates of places are what
an arm needs, and far fewer demonstrations teach them than teach a flat feature map.

Shape letters: B batch, H height, W width, C channels, K keypoints, L bytes of a sentence, U different sentences,
S proprio, T chunk steps, A action, D model width, E sentence width.
"""

from __future__ import annotations

import math
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

    proprio_width: int = 8
    action_width: int = 7
    """The last one is the gripper: +1 or -1."""

    chunk: int = 8
    """Actions predicted in one pass."""

    sentence_width: int = 64

    channels: tuple[int, ...] = (16, 32, 48)
    """Of the convolutions. The first two halve the picture each; the others keep its size."""

    keypoints: int = 32
    """Places looked for in each picture."""

    width: int = 256
    layers: int = 3
    """Residual layers of the head."""

    gripper_weight: float = 0.1
    """Of the gripper's cross-entropy (nats) against the arm's L1 error (in normalised units)."""

    proprio_noise: float = 0.05
    """Standard deviation added to normalised proprioception in training: close positions must not be told apart by it
    alone, or the policy learns to replay by heart instead of looking."""


class Reader(nn.Module):
    """A sentence as bytes (plus one; 0 pads) in, one vector out. No vocabulary to carry and no word it cannot read."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        E = config.sentence_width
        self.bytes = nn.Embedding(257, E)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(E, E, 3, padding=d, dilation=d) for d in (1, 2, 4, 8)
        )  # sees 31 bytes

    def forward(self, prompt_BL: Tensor) -> Tensor:
        prompt_UL, which_B = torch.unique(prompt_BL, dim=0, return_inverse=True)  # a batch holds few: each is read once
        present_U1L = (prompt_UL > 0).float()[:, None]
        x_UEL = self.bytes(prompt_UL).transpose(1, 2) * present_U1L
        for convolution in self.convolutions:
            x_UEL = (x_UEL + F.relu(convolution(x_UEL))) * present_U1L
        return (x_UEL.sum(-1) / present_U1L.sum(-1))[which_B]


class Trunk(nn.Module):
    """One camera: picture and sentence in, the coordinates of K places and what is seen there out."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = (5, *config.channels)  # red, green, blue, and the pixel's own x and y
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, 5 if n == 0 else 3, stride=2 if n < 2 else 1, padding=2 if n == 0 else 1)
            for n, (i, o) in enumerate(pairwise(widths))
        )
        self.films = nn.ModuleList(nn.Linear(config.sentence_width, 2 * o) for o in config.channels[1:])
        self.places = nn.Conv2d(config.channels[-1], config.keypoints, 1)

    def forward(self, image_BHW3: Tensor, sentence_BE: Tensor) -> Tensor:
        pixels_B3HW = image_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1  # a view in channels-last order, no copy
        x_BCHW = torch.cat([pixels_B3HW, _coordinates(pixels_B3HW)], dim=1)
        x_BCHW = F.relu(self.convolutions[0](x_BCHW))  # edges and colours: the sentence need not steer those
        for convolution, film in zip(self.convolutions[1:], self.films, strict=True):
            scale_BC11, shift_BC11 = film(sentence_BE)[:, :, None, None].chunk(2, dim=1)
            x_BCHW = F.relu(convolution(x_BCHW) * (1 + scale_BC11) + shift_BC11)
        weight_BKP = self.places(x_BCHW).flatten(2).softmax(-1)
        place_BK2 = weight_BKP @ _coordinates(x_BCHW).flatten(2).transpose(1, 2)
        seen_BC = x_BCHW.amax((2, 3))  # is it there at all, wherever it is
        return torch.cat([place_BK2.flatten(1), seen_BC], dim=-1)


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
        seen = len(config.cameras) * (2 * config.keypoints + config.channels[-1])
        self.join = nn.Linear(seen + config.proprio_width + E, D)
        self.layers = nn.ModuleList(Layer(D) for _ in range(config.layers))
        self.norm = nn.LayerNorm(D)
        self.act = nn.Linear(D, config.chunk * config.action_width)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Every tensor, from this generator alone."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv1d, nn.Linear)):
                nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)  # torch's own default
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, generator=generator)
        for layer in self.layers:
            nn.init.zeros_(layer.narrow.weight)  # each residual layer starts as the identity

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
    y_HW, x_HW = torch.meshgrid(
        torch.linspace(-1, 1, H, device=like_BCHW.device),
        torch.linspace(-1, 1, W, device=like_BCHW.device),
        indexing="ij",
    )
    return torch.stack([x_HW, y_HW]).expand(B, 2, H, W)
