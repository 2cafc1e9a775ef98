"""pi0 and pi0.5: PaliGemma reads cameras and prompt, a smaller Gemma, the action expert, denoises a chunk of actions.

Flow matching with openpi's time, which runs against the papers': at t = 1 there is noise, at t = 0 there are actions,
and the model answers with the velocity noise - actions. The two families differ in where the state and the time go:
pi0 has a token for the state, and mixes the time into the action tokens; pi0.5 has the state in its prompt (or, on
LIBERO, nowhere), and the time steers the expert's norms.

Cameras and prompt (the prefix) see each other and nothing else, so their keys and values are computed once per answer.

Shape letters: B batch, H height, W width, L prompt, P prefix, Q suffix, S state, T chunk, A action, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handeye.models.gemma import (
    GEMMA_2B,
    GEMMA_300M,
    VOCABULARY,
    Dtype,
    Gemma,
    GemmaConfig,
    attend,
    blocks,
    initialise,
    positions,
    set_precision,
)
from handeye.models.siglip import SO400M, Siglip, SiglipConfig

FASTEST, SLOWEST = 4e-3, 4.0
"""Periods of the sine-cosine code of time (openpi models/pi0.py:47-63, 140-186)."""

BETA, LEAST_TIME = 1.5, 0.001
"""Times in training: Beta(1.5, 1) * 0.999 + 0.001 (openpi models/pi0.py:188-201)."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of `pi05_libero` unless said otherwise."""

    kind: Literal["pi0", "pi05"] = "pi05"
    cameras: tuple[str, ...] = ("agentview", "wrist", "right_wrist")
    """Our names of openpi's base_0_rgb, left_wrist_0_rgb, right_wrist_0_rgb, in its order."""

    vision: SiglipConfig = SO400M
    language: GemmaConfig = GEMMA_2B
    expert: GemmaConfig = GEMMA_300M
    vocabulary: int = VOCABULARY
    action_width: int = 32
    """Of state and actions, padded."""

    chunk: int = 10
    """Actions per answer: openpi's action_horizon. 10 for pi05_libero, 50 for pi0_libero."""

    steps: int = 10
    """Of denoising."""

    dtype: Dtype = "float32"
    """What it computes in, but for norms and what touches actions. openpi acts in bfloat16."""


@dataclass(frozen=True)
class Prefix:
    """What the model looks at before it acts."""

    tokens: Tensor
    """(B, P, D)."""

    there: Tensor
    """bool (B, P). False: padding, or a camera that this robot lacks."""


@dataclass(frozen=True)
class Suffix:
    """What the expert is given at one time of the flow."""

    tokens: Tensor
    """(B, Q, D)."""

    starts: Tensor
    """bool (B, Q): where a block of attention begins."""

    condition: Tensor | None
    """(B, D), of the adaptive norms; pi0 has none."""


class Model(nn.Module):
    """A batch: `image.<camera>` float (B, H, W, 3) in [-1, 1], `image_mask.<camera>` bool (B,), `prompt` (B, L),
    `prompt_mask` bool (B, L), `proprio` (B, S), all as the pipeline makes them; to learn, `actions` (B, T, A)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        D, A = config.expert.width, config.action_width
        pi05 = config.kind == "pi05"
        self.vision = Siglip(config.vision, config.language.width)
        self.language = Gemma(config.language, vocabulary=config.vocabulary)
        self.expert = Gemma(config.expert, adaptive=pi05)
        self.action_in_proj = nn.Linear(A, D)
        self.action_out_proj = nn.Linear(D, A)
        if pi05:
            self.time_mlp_in, self.time_mlp_out = nn.Linear(D, D), nn.Linear(D, D)
        else:
            self.state_proj = nn.Linear(A, D)
            self.action_time_mlp_in, self.action_time_mlp_out = nn.Linear(2 * D, D), nn.Linear(D, D)
        set_precision(self, config.dtype)

    types: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.bfloat16)
    """What `compute_in` takes. Not float16: openpi never computes in it."""

    def compute_in(self, dtype: Dtype) -> None:
        """Convert the weights, but for norms and what touches actions."""
        self.config = replace(self.config, dtype=dtype)
        set_precision(self, dtype)

    def initialise(self, generator: torch.Generator) -> None:
        """Every tensor, from this generator alone."""
        initialise(self, generator)

    def prefix(self, batch: Mapping[str, Tensor]) -> Prefix:
        """Cameras in order, then the prompt. A camera that nobody in the batch has is left out: it would take no
        position, and nothing would look at it."""
        tokens, there = [], []
        for name in self.config.cameras:
            mask_B = batch[f"image_mask.{name}"].bool()
            if mask_B.any():
                seen_BND = self.vision(batch[f"image.{name}"])
                tokens.append(seen_BND)
                there.append(mask_B[:, None].expand(-1, seen_BND.shape[1]))
        tokens.append(self.language.embed(batch["prompt"]))
        there.append(batch["prompt_mask"].bool())
        return Prefix(torch.cat([x.to(self.language.dtype) for x in tokens], dim=1), torch.cat(there, dim=1))

    def suffix(self, state_BS: Tensor, noisy_BTA: Tensor, time_B: Tensor) -> Suffix:
        """The noisy actions, and what goes with them."""
        actions_BTD = self.action_in_proj(noisy_BTA)
        time_BD = time_code(time_B, actions_BTD.shape[-1])
        starts_BT = torch.zeros(actions_BTD.shape[:2], dtype=torch.bool, device=actions_BTD.device)
        starts_BT[:, 0] = True  # the prefix does not see actions
        if self.config.kind == "pi05":
            condition_BD = F.silu(self.time_mlp_out(F.silu(self.time_mlp_in(time_BD))))
            return Suffix(actions_BTD, starts_BT, condition_BD)
        mixed_BTD = torch.cat([actions_BTD, time_BD[:, None].expand_as(actions_BTD)], dim=-1)
        mixed_BTD = self.action_time_mlp_out(F.silu(self.action_time_mlp_in(mixed_BTD)))
        tokens_BQD = torch.cat([self.state_proj(state_BS)[:, None], mixed_BTD], dim=1)
        return Suffix(tokens_BQD, torch.cat([starts_BT[:, :1], starts_BT], dim=1), None)

    def velocity(self, batch: Mapping[str, Tensor], noisy_BTA: Tensor, time_B: Tensor) -> Tensor:
        """(B, T, A), prefix and suffix in one pass: for training."""
        prefix, suffix = self.prefix(batch), self.suffix(batch["proprio"], noisy_BTA, time_B)
        there_BPQ = torch.cat([prefix.there, torch.ones_like(suffix.starts)], dim=1)
        starts_BPQ = torch.cat([torch.zeros_like(prefix.there), suffix.starts], dim=1)
        (_, acted_BQD), _ = attend(
            (self.language, self.expert),
            (prefix.tokens, suffix.tokens),
            positions_BT=positions(there_BPQ),
            visible_BTS=blocks(starts_BPQ, there_BPQ),
            conditions=(None, suffix.condition),
        )
        return self._answer(acted_BQD)

    def loss(
        self, batch: Mapping[str, Tensor], *, noise_BTA: Tensor | None = None, time_B: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the velocity over all steps and all 32 dimensions, padding and steps past an episode's
        end included, as openpi trains. Noise and time are each sample's own, from `seed` (B,), unless given."""
        per_step_BT = self.loss_per_step(batch, noise_BTA=noise_BTA, time_B=time_B)
        return per_step_BT.mean(), {}

    def loss_per_step(
        self, batch: Mapping[str, Tensor], *, noise_BTA: Tensor | None = None, time_B: Tensor | None = None
    ) -> Tensor:
        """(B, T)."""
        actions_BTA = batch["actions"]
        if noise_BTA is None:
            noise_BTA = self.noise(batch["seed"]).to(actions_BTA.device)
        if time_B is None:
            drawn = [torch.rand((), generator=torch.Generator().manual_seed(s ^ 1)) for s in batch["seed"].tolist()]
            uniform_B = torch.stack(drawn).to(actions_BTA.device)
            time_B = uniform_B ** (1 / BETA) * (1 - LEAST_TIME) + LEAST_TIME  # Beta(a, 1) is u^(1/a)
        time_B11 = time_B[:, None, None]
        noisy_BTA = time_B11 * noise_BTA + (1 - time_B11) * actions_BTA
        return (self.velocity(batch, noisy_BTA, time_B) - (noise_BTA - actions_BTA)).square().mean(-1)

    @torch.no_grad()
    def sample_actions(
        self, batch: Mapping[str, Tensor], *, noise_BTA: Tensor | None = None, steps: int | None = None
    ) -> Tensor:
        """Normalised actions (B, T, A). The noise is each observation's own, from `seed` (B,), unless it is given."""
        if noise_BTA is None:
            noise_BTA = self.noise(batch["seed"]).to(batch["proprio"].device)
        *_, actions_BTA = self.denoise(batch, noise_BTA, steps or self.config.steps)
        return actions_BTA

    def noise(self, seed_B: Tensor) -> Tensor:
        """Drawn on the CPU, row by row: the same on every device, and whoever else is in the batch."""
        shape = self.config.chunk, self.config.action_width
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seed_B.tolist()])

    @torch.no_grad()
    def denoise(self, batch: Mapping[str, Tensor], noise_BTA: Tensor, steps: int) -> Iterator[Tensor]:
        """The chunk before the first Euler step and after each: steps + 1 times (B, T, A)."""
        prefix = self.prefix(batch)
        there_BP = prefix.there
        _, cache = attend(
            (self.language,),
            (prefix.tokens,),
            positions_BT=positions(there_BP),
            visible_BTS=blocks(torch.zeros_like(there_BP), there_BP),
        )
        x_BTA = noise_BTA
        yield x_BTA
        for step in range(steps):
            time_B = torch.full((len(x_BTA),), 1 - step / steps, device=x_BTA.device)
            suffix = self.suffix(batch["proprio"], x_BTA, time_B)
            own_BQ = torch.ones_like(suffix.starts)
            before_BQP = there_BP[:, None].expand(-1, own_BQ.shape[1], -1)
            (acted_BQD,), _ = attend(
                (self.expert,),
                (suffix.tokens,),
                positions_BT=there_BP.sum(1, keepdim=True) + positions(own_BQ),
                visible_BTS=torch.cat([before_BQP, blocks(suffix.starts, own_BQ)], dim=-1),
                conditions=(suffix.condition,),
                past=cache,
            )
            x_BTA = x_BTA - self._answer(acted_BQD) / steps
            yield x_BTA

    def _answer(self, acted_BQD: Tensor) -> Tensor:
        """The last T tokens are the actions'."""
        return self.action_out_proj(acted_BQD[:, -self.config.chunk :].to(self.action_out_proj.weight.dtype))


def time_code(time_B: Tensor, width: int) -> Tensor:
    """All sines, then all cosines (B, width). In single precision, as the weights were trained with."""
    fraction_d = torch.linspace(0, 1, width // 2, device=time_B.device)
    period_d = FASTEST * (SLOWEST / FASTEST) ** fraction_d
    angle_Bd = time_B.float()[:, None] * (1 / period_d * 2 * math.pi)
    return torch.cat([angle_Bd.sin(), angle_Bd.cos()], dim=-1)
