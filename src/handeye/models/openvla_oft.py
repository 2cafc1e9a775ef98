"""OpenVLA-OFT: two pictures, a sentence and the arm's own state in, a chunk of eight actions out, in one pass.

Three things differ from OpenVLA. The chunk is not spoken word by word: 56 empty slots stand where its words would, and
all are filled at once. For that every token sees every other one (the reference does it with a fork of transformers;
here it is the mask that Llama is given). And a small head turns the slots' states into numbers, directly (`l1`) or as
the noise of a diffusion (`diffusion`); `tokens` is the form without a head, which still speaks ids.

The sequence is  <s> | patches of each camera | state | diffusion step | question, blank | slots | </s> | <PAD> ...
A slot's answer is the state one place *before* it, as when words are spoken one by one (openvla-oft
prismatic/extern/hf/modeling_prismatic.py:395-459, 586-621, 913-940).

Shape letters as in openvla.py; N is the number of slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handeye.models.oft_heads import ActionHead, Ddim, VectorProjector, step_embedding
from handeye.models.openvla import (
    IGNORED,
    LLAMA,
    PAD,
    Backend,
    Dtype,
    LanguageConfig,
    Projector,
    additive,
    alone_trimmed,
    at,
    before,
    finish,
    initialise,
    insert,
    language_model,
    picked,
    sequence,
    spoken_value,
    trimmed,
    with_stop,
)
from handeye.models.vit import DINO, SIGLIP, TowerConfig, Towers

Head = Literal["l1", "diffusion", "tokens"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes, and which of the method's parts there are."""

    cameras: tuple[str, ...] = ("agentview", "wrist")
    chunk: int = 8
    action_width: int = 7
    head: Head = "l1"
    proprio_width: int | None = 8
    """None: the state is not looked at."""

    film: bool = False
    """The sentence steers the towers."""

    film_averages_padding: bool = False
    """In training, <PAD> counts in the sentence's mean, as upstream; then a sample's loss depends on its neighbours,
    and training differs from acting."""

    diffusion_steps: int = 50
    """In training."""

    denoising_steps: int = 50
    """While acting; at most as many as in training."""

    towers: tuple[TowerConfig, ...] = (DINO, SIGLIP)
    language: LanguageConfig = LLAMA
    dtype: Dtype = "bfloat16"

    @property
    def slots(self) -> int:
        return self.chunk * self.action_width


@dataclass(frozen=True)
class Asked:
    """What does not change while a chunk is denoised."""

    seen: Tensor
    """(B, P, D): patches and the state."""

    ids: Tensor
    mask: Tensor
    """Of the text: (B, L)."""

    start: Tensor
    """(B,): where the slots begin in it."""


class Model(nn.Module):
    """Call `initialise` after construction, or assign a checkpoint: `__init__` may run on `meta`."""

    attentions: ClassVar[tuple[Backend, ...]] = ("sdpa", "eager")
    """What `attend_with` takes, the quickest first. Flash attention's kernels get no mask of ours and run causally in
    transformers' Llama: it is not offered."""

    looks_ahead: ClassVar[bool] = True
    """Whether a token sees those behind it."""

    types: ClassVar[tuple[torch.dtype, ...]] = (torch.bfloat16, torch.float16, torch.float32)
    """What `compute_in` takes."""

    quantisable: ClassVar[str] = "language_model.model.layers."
    """Where the names of modules begin whose Linear layers may be rounded to 8 or 4 bits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        D = config.language.width
        self.vision_backbone = Towers(config.towers, film=D if config.film else None)
        self.projector = Projector(sum(tower.width for tower in config.towers), D)
        self.language_model = language_model(config.language)
        if config.head != "tokens":
            self.action_head = ActionHead(D, config.action_width)
        if config.proprio_width is not None:
            self.proprio_projector = VectorProjector(config.proprio_width, D)
        if config.head == "diffusion":
            self.noisy_action_projector = VectorProjector(1, D)
        self.ddim = Ddim(config.diffusion_steps)
        finish(self, config.dtype)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Every tensor, from this generator alone."""
        initialise(self, generator)

    def compute_in(self, dtype: Dtype) -> None:
        """Convert every weight."""
        self.config = replace(self.config, dtype=dtype)
        finish(self, dtype)

    def attend_with(self, backend: Backend) -> None:
        """Which attention Llama computes with: one of `attentions`, which give the same answers up to rounding."""
        if backend not in self.attentions:
            raise ValueError(f"{backend} cannot look ahead past padding")
        self.language_model.set_attn_implementation(backend)

    # ---- from a batch to states ----------------------------------------------------------------------------------

    def look(self, batch: Mapping[str, Tensor], prompt_BL: Tensor, prompt_mask_BL: Tensor) -> Asked:
        """All that is seen and read."""
        slots_BN = prompt_BL.new_full((len(prompt_BL), self.config.slots), PAD)
        ids_BL, mask_BL, start_B = sequence(prompt_BL, prompt_mask_BL, with_stop(slots_BN))
        language_BD = self.sentence(ids_BL, mask_BL, start_B) if self.config.film else None
        seen = [
            self.projector(self.vision_backbone(batch[f"image.{name}"].to(self._dtype), language_BD))
            for name in self.config.cameras
        ]
        if self.config.proprio_width is not None:
            seen.append(self.proprio_projector(batch["proprio"].to(self._dtype))[:, None])
        return Asked(torch.cat(seen, dim=1), ids_BL, mask_BL, start_B)

    def sentence(self, ids_BL: Tensor, mask_BL: Tensor, start_B: Tensor) -> Tensor:
        """(B, D): the mean word, slots left out (openvla-oft film_vit_wrapper.py:242)."""
        counted_BL = torch.ones_like(mask_BL) if self._averages_padding else mask_BL
        counted_BL = counted_BL.scatter(1, at(start_B, self.config.slots), False)[..., None]
        words_BLD = self.language_model.model.embed_tokens(ids_BL)
        return (words_BLD * counted_BL).sum(1) / counted_BL.sum(1)

    def enter(
        self, asked: Asked, noisy_BTA: Tensor | None = None, step_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What Llama reads, and its mask. Slots are empty; or, diffusing, hold the noisy chunk, a number each."""
        text_BLD = self.language_model.model.embed_tokens(asked.ids)
        seen_BPD = asked.seen
        slots_BND = text_BLD.new_zeros(len(text_BLD), self.config.slots, text_BLD.shape[-1])
        if noisy_BTA is not None and step_B is not None:
            slots_BND = self.noisy_action_projector(noisy_BTA.to(self._dtype).flatten(1)[..., None])
            step_B1D = step_embedding(step_B, text_BLD.shape[-1])[:, None]
            seen_BPD = torch.cat([seen_BPD, step_B1D.to(seen_BPD.dtype)], dim=1)
        where_BND = at(asked.start, self.config.slots)[..., None].expand_as(slots_BND)
        return insert(text_BLD.scatter(1, where_BND, slots_BND), asked.mask, seen_BPD)

    def states(self, asked: Asked, x_BSD: Tensor, mask_BS: Tensor, *, count: int) -> Tensor:
        """(B, count, D): the answers of the slots, after the final norm."""
        return picked(self.read(x_BSD, mask_BS), before(asked.start, x_BSD, asked.ids), count)

    def read(self, x_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        """The language model's states after the final norm, (B, S, D)."""
        mask_B1SS = additive(mask_BS, x_BSD, causal=not self.looks_ahead)
        return self.language_model.model(
            inputs_embeds=x_BSD, attention_mask=mask_B1SS, use_cache=False
        ).last_hidden_state

    def answer(self, asked: Asked, noisy_BTA: Tensor | None = None, step_B: Tensor | None = None) -> Tensor:
        """What the head makes of the slots: the chunk (B, T, A), or its noise."""
        return self.action_head(self.states(asked, *self.enter(asked, noisy_BTA, step_B), count=self.config.slots))

    # ---- training --------------------------------------------------------------------------------------------------

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """`l1`: mean error of the chunk; `diffusion`: mean squared error of its noise; `tokens`: nats per id. Metrics
        tell the first action, which is what counts most, from the others."""
        if self.config.head == "diffusion":
            return self.denoising_loss(batch, self._noise(batch["seed"]), self._noisiness(batch["seed"]))
        asked = self.look(batch, *trimmed(batch))
        if self.config.head == "tokens":
            return self._spoken_loss(batch, asked)
        error_BT = (self.answer(asked).float() - batch["actions"]).abs().mean(-1)
        return _mean(error_BT, batch), _first_and_others("l1", error_BT, batch)

    def denoising_loss(
        self, batch: Mapping[str, Tensor], noise_BTA: Tensor, step_B: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Given the noise and how much of it. Past an episode's end there is nothing to be read, either: zeros."""
        asked = self.look(batch, *trimmed(batch))
        known_BTA = batch["actions"] * batch["valid"][..., None]
        noisy_BTA = self.ddim.noisy(known_BTA, noise_BTA, step_B)
        error_BT = (self.answer(asked, noisy_BTA, step_B).float() - noise_BTA).square().mean(-1)
        return _mean(error_BT, batch), _first_and_others("noise_mse", error_BT, batch)

    def _spoken_loss(self, batch: Mapping[str, Tensor], asked: Asked) -> tuple[Tensor, dict[str, Tensor]]:
        action_BTA, valid_BT1 = batch["actions"], batch["valid"].bool()[..., None]
        states_BND = self.states(asked, *self.enter(asked), count=self.config.slots + 1)
        logits_BNV = self.language_model.lm_head(states_BND).float()
        target_BN = with_stop(torch.where(valid_BT1, action_BTA, IGNORED).flatten(1))
        loss = F.cross_entropy(logits_BNV.flatten(0, 1), target_BN.flatten(), ignore_index=IGNORED)
        spoken_BTA = logits_BNV[:, :-1].argmax(-1).view_as(action_BTA)
        right_BT = (spoken_BTA == action_BTA).float().mean(-1)
        error_BT = (spoken_value(spoken_BTA) - spoken_value(action_BTA)).abs().mean(-1)
        return loss, {
            **_first_and_others("token_accuracy", right_BT, batch),
            **_first_and_others("l1", error_BT, batch),
        }

    # ---- acting ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample_actions(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Normalised actions (B, T, A); ids, int64, for `tokens`. Diffusion starts from the noise of `seed` (B,), so
        that a row's answer is its own."""
        asked = self.look(batch, *alone_trimmed(batch))
        if self.config.head == "tokens":
            states_BND = self.states(asked, *self.enter(asked), count=self.config.slots)
            return self.language_model.lm_head(states_BND).argmax(-1).unflatten(1, (self.config.chunk, -1))
        if self.config.head == "l1":
            return self.answer(asked)
        return self.denoise(asked, self._noise(batch["seed"]))[-1]

    def denoise(self, asked: Asked, noise_BTA: Tensor) -> list[Tensor]:
        """Every sample on the way from noise to a chunk, first and last included."""
        count, samples = self.config.denoising_steps, [noise_BTA]
        for step in self.ddim.schedule(count):
            step_B = torch.full((len(noise_BTA),), step, device=noise_BTA.device)
            noise = self.answer(asked, samples[-1], step_B).float()
            samples.append(self.ddim.less_noisy(samples[-1], noise, step, count))
        return samples

    def _noise(self, seed_B: Tensor) -> Tensor:
        """Each row from its own generator, on the CPU: the same on every device."""
        shape = (self.config.chunk, self.config.action_width)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seed_B]
        return torch.stack(rows).to(seed_B.device)

    def _noisiness(self, seed_B: Tensor) -> Tensor:
        """How much of it, in training: each sample's own, as its noise is."""
        rows = [
            torch.randint(self.config.diffusion_steps, (), generator=torch.Generator().manual_seed(int(seed) ^ 1))
            for seed in seed_B
        ]
        return torch.stack(rows).to(seed_B.device)

    @property
    def _averages_padding(self) -> bool:
        return self.config.film_averages_padding and self.training

    @property
    def _dtype(self) -> torch.dtype:
        return self.projector.fc1.weight.dtype


def _mean(of_BT: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Over the steps within their episode."""
    valid_BT = batch["valid"].to(of_BT.dtype)
    return (of_BT * valid_BT).sum() / valid_BT.sum()


def _first_and_others(name: str, of_BT: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    valid_BT = batch["valid"].to(of_BT.dtype)
    parts = {"first": slice(0, 1), "others": slice(1, None)}
    return {
        f"{part}_{name}": ((of_BT * valid_BT)[:, where].sum() / valid_BT[:, where].sum().clamp(min=1)).detach()
        for part, where in parts.items()
    }
