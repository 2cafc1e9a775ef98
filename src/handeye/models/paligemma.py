"""PaliGemma: pictures and a question in, an answer out, token by token. It is pi0's and pi0.5's half that reads.

Pictures and question see each other freely, the answer sees them and what it has said. Several pictures are frames, one
after the other; frames that are absent are neither looked at nor counted, in training and in decoding alike (the
reference masks them in training only).

Shape letters: B batch, F frames, H height, W width, P tokens of all frames, L text tokens, T all tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handeye.models.gemma import (
    GEMMA_2B,
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


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of PaliGemma 3B at 224 unless said otherwise."""

    vision: SiglipConfig = SO400M
    language: GemmaConfig = GEMMA_2B
    vocabulary: int = VOCABULARY
    dtype: Dtype = "float32"
    """What it computes in, but for norms and the patch embedding."""

    count: Literal["present", "all"] = "present"
    """What takes a position. `all`: absent frames and padding too, as big_vision trains; then training and its own
    decoder disagree where frames are absent."""


class Model(nn.Module):
    """A batch, as `handeye.data.xvr` makes it: `images` float (B, F, H, W, 3) in [-1, 1], `num_images` (B,), how many
    frames are there; `text` (B, L); `mask_input` (B, L), a token is there; `mask_ar` (B, L), it sees only what comes
    before it; `mask_loss` (B, L), it is to be learnt."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vision = Siglip(config.vision, config.language.width)
        self.language = Gemma(config.language, vocabulary=config.vocabulary)
        set_precision(self, config.dtype)

    def initialise(self, generator: torch.Generator) -> None:
        """Every tensor, from this generator alone."""
        initialise(self, generator)

    def look(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens of all frames (B, P, D), and which are there (B, P)."""
        images_BFHW3 = batch["images"]
        B, frames = images_BFHW3.shape[:2]
        tokens_BPD = self.vision(images_BFHW3.flatten(0, 1)).unflatten(0, (B, frames)).flatten(1, 2)
        there_BF = torch.arange(frames, device=tokens_BPD.device) < batch["num_images"][:, None]
        return tokens_BPD, there_BF.repeat_interleave(self.config.vision.tokens, dim=1)

    def read(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The text's tokens after the last layer (B, L, D)."""
        seen_BPD, there_BP = self.look(batch)
        there_BT = torch.cat([there_BP, batch["mask_input"].bool()], dim=1)
        starts_BT = torch.cat([torch.zeros_like(there_BP), batch["mask_ar"].bool()], dim=1)
        tokens_BTD = self._join(seen_BPD, batch["text"])
        (read_BTD,), _ = attend(
            (self.language,),
            (tokens_BTD,),
            positions_BT=self._positions(there_BT),
            visible_BTS=blocks(starts_BT, there_BT),
        )
        return read_BTD[:, seen_BPD.shape[1] :]

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Of the next token, at every token of the text (B, L, vocabulary). Much memory; `loss` does with less."""
        return self.language.logits(self.read(batch))

    def loss_per_example(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean negative log-likelihood (nats) of the tokens to be learnt (B,); 0 where there are none. Logits are
        computed for those tokens alone: at full size all of them would be gigabytes."""
        learnt_BL = batch["mask_loss"][:, 1:].bool()
        cut = {**batch, **{name: batch[name][:, :-1] for name in ("text", "mask_input", "mask_ar")}}
        logits_XV = self.language.logits(self.read(cut)[learnt_BL])
        nats_X = F.cross_entropy(logits_XV, batch["text"][:, 1:][learnt_BL], reduction="none")
        row_X = learnt_BL.nonzero()[:, 0]
        total_B = torch.zeros(len(learnt_BL), device=nats_X.device).index_add(0, row_X, nats_X)
        return total_B / learnt_BL.sum(1).clamp(min=1)

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over examples of each one's mean, as big_vision trains."""
        return self.loss_per_example(batch).mean(), {}

    @torch.no_grad()
    def answer(self, batch: Mapping[str, Tensor], *, length: int, end: int) -> tuple[Tensor, Tensor]:
        """Greedy: ids (B, length), zeros after `end`, and the logits that each was chosen from (B, length, vocabulary).
        Give prompts without answers. Stops early when every row has ended; then the last logits are zeros."""
        seen_BPD, there_BP = self.look(batch)
        there_BT = torch.cat([there_BP, batch["mask_input"].bool()], dim=1)
        (read_BTD,), cache = attend(
            (self.language,),
            (self._join(seen_BPD, batch["text"]),),
            positions_BT=self._positions(there_BT),
            visible_BTS=blocks(torch.zeros_like(there_BT), there_BT),
        )
        place_BT = torch.arange(there_BT.shape[1], device=there_BT.device).expand_as(there_BT)
        last_B = place_BT.where(there_BT, -1).amax(1)
        rows_B = torch.arange(len(last_B), device=last_B.device)
        here_BD, position_B = read_BTD[rows_B, last_B], self._positions(there_BT)[rows_B, last_B]
        ids_BL = torch.zeros(len(last_B), length, dtype=torch.long, device=last_B.device)
        logits_BLV = torch.zeros(*ids_BL.shape, self.config.vocabulary, device=last_B.device)
        ended_B = torch.zeros_like(last_B, dtype=torch.bool)
        for step in range(length):
            logits_BLV[:, step] = self.language.logits(here_BD)
            ids_BL[:, step] = logits_BLV[:, step].argmax(-1).where(~ended_B, 0)
            ended_B |= ids_BL[:, step] == end
            if ended_B.all() or step == length - 1:
                break
            there_BT = torch.cat([there_BT, torch.ones_like(there_BT[:, :1])], dim=1)
            position_B = position_B + 1
            (read_B1D,), new = attend(
                (self.language,),
                (self.language.embed(ids_BL[:, step : step + 1]),),
                positions_BT=position_B[:, None],
                visible_BTS=there_BT[:, None],
                past=cache,
            )
            cache = [
                (torch.cat([k, nk], dim=1), torch.cat([v, nv], dim=1))
                for (k, v), (nk, nv) in zip(cache, new, strict=True)
            ]
            here_BD = read_B1D[:, 0]
        return ids_BL, logits_BLV

    def _join(self, seen_BPD: Tensor, text_BL: Tensor) -> Tensor:
        return torch.cat([x.to(self.language.dtype) for x in (seen_BPD, self.language.embed(text_BL))], dim=1)

    def _positions(self, there_BT: Tensor) -> Tensor:
        return positions(there_BT if self.config.count == "present" else torch.ones_like(there_BT))
