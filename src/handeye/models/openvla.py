"""OpenVLA: a picture and a sentence in, one action out, spoken as seven of the language model's rarest words.

Kim et al. 2024, "OpenVLA". Two vision towers look at the picture, a projector turns each patch into something that
Llama reads, Llama goes on talking. Module names are those of the published checkpoints. Llama is transformers' own,
unchanged; masks and the greedy loop are here.

The sequence is  <s> | patches | question, blank | actions | </s> | <PAD> ...  with the patches right behind <s>
(openvla prismatic/extern/hf/modeling_prismatic.py:382-401). Ids and their mask come from one function, `sequence`, and
so have one length.

Shape letters: B batch, L tokens of text, P patches (and what else is inserted), S whole sequence, N tokens asked about,
T chunk steps, A action, D width of the language model, F of the towers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from handeye.conventions import action_tokens
from handeye.models.vit import DINO, SIGLIP, LayerScale, TowerConfig, Towers

Dtype = Literal["float32", "bfloat16", "float16"]
Backend = Literal["sdpa", "eager", "flash_attention_2"]

PAD = 32000
"""<PAD>, which OpenVLA added to Llama's 32000 words."""


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Llama-2-7B as the published checkpoints have it. They were converted without Llama's own configuration, so
    rms_norm_eps and the context are transformers' defaults, not Llama-2's (vla-scripts/extern/
    convert_openvla_weights_to_hf.py:152-176), and everything was fine-tuned that way."""

    width: int = 4096
    mlp: int = 11008
    layers: int = 32
    heads: int = 32
    key_value_heads: int = 32
    vocabulary: int = 32064
    """Rows of the table: 32000 words, <PAD>, and empty ones up to a multiple of 64."""

    epsilon: float = 1e-6
    rope_theta: float = 10000.0
    context: int = 2048


LLAMA = LanguageConfig()


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes. What the numbers mean (units, gripper, crops) is in the checkpoint's specs and pipeline."""

    cameras: tuple[str, ...] = ("agentview",)
    chunk: int = 1
    action_width: int = 7
    towers: tuple[TowerConfig, ...] = (DINO, SIGLIP)
    language: LanguageConfig = LLAMA
    dtype: Dtype = "bfloat16"
    """Of the weights, and of what is computed with them."""


class Projector(nn.Module):
    """What the towers saw of a patch, as a word (modeling_prismatic.py:139-156)."""

    def __init__(self, seen: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(seen, 4 * seen)
        self.fc2 = nn.Linear(4 * seen, width)
        self.fc3 = nn.Linear(width, width)

    def forward(self, x_BPF: Tensor) -> Tensor:
        return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(x_BPF)))))


class Model(nn.Module):
    """Call `initialise` after construction, or assign a checkpoint: `__init__` may run on `meta`."""

    attentions: ClassVar[tuple[Backend, ...]] = ("flash_attention_2", "sdpa", "eager")
    """What `attend_with` takes, the quickest first."""

    looks_ahead: ClassVar[bool] = False
    """Whether a token sees those behind it."""

    types: ClassVar[tuple[torch.dtype, ...]] = (torch.bfloat16, torch.float16, torch.float32)
    """What `compute_in` takes."""

    quantisable: ClassVar[str] = "language_model.model.layers."
    """Where the names of modules begin whose Linear layers may be rounded to 8 or 4 bits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if len(config.cameras) != 1 or config.chunk != 1:
            raise ValueError("OpenVLA looks through one camera and answers one action: several are openvla_oft's")
        self.config = config
        self.vision_backbone = Towers(config.towers)
        self.projector = Projector(sum(tower.width for tower in config.towers), config.language.width)
        self.language_model = language_model(config.language)
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
        """Which attention Llama computes with. All give the same answers, up to rounding."""
        self.language_model.set_attn_implementation(backend)

    def see(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(B, P, D)"""
        (camera,) = self.config.cameras
        return self.projector(self.vision_backbone(batch[f"image.{camera}"].to(self._dtype)))

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy (nats) of the action's ids and the </s> behind them, each given all before it."""
        action_BN, valid_BN = batch["actions"].flatten(1), _per_token(batch)
        ids_BL, mask_BL, start_B = sequence(*trimmed(batch), with_stop(action_BN))
        x_BSD, mask_BS = insert(self.language_model.model.embed_tokens(ids_BL), mask_BL, self.see(batch))
        states_BSD = self.read(x_BSD, mask_BS)
        asked_BN = picked(states_BSD, before(start_B, x_BSD, ids_BL), action_BN.shape[1] + 1)
        logits_BNV = self.language_model.lm_head(asked_BN).float()
        target_BN = with_stop(torch.where(valid_BN, action_BN, IGNORED))
        loss = F.cross_entropy(logits_BNV.flatten(0, 1), target_BN.flatten(), ignore_index=IGNORED)
        return loss, token_metrics(logits_BNV[:, :-1].argmax(-1), action_BN, valid_BN)

    @torch.no_grad()
    def sample_actions(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Ids, greedily, over the whole vocabulary as in the reference: int64 (B, 1, A). `A` ids come out whatever they
        are; the reference stops at an early </s> and then reads the end of the question as actions."""
        embed = self.language_model.model.embed_tokens
        nothing_B0 = batch["prompt"][:, :0]
        ids_BL, mask_BL, _ = sequence(*alone_trimmed(batch), nothing_B0)
        x_BSD, mask_BS = insert(embed(ids_BL), mask_BL, self.see(batch))
        last_B = mask_BS.sum(1) - 1
        cache = DynamicCache(config=self.language_model.config)
        state_BD = picked(self.read(x_BSD, mask_BS, cache=cache), last_B, 1)[:, 0]
        spoken = [self.language_model.lm_head(state_BD).argmax(-1)]
        for _ in range(self.config.action_width - 1):
            mask_BS, last_B = F.pad(mask_BS, (0, 1), value=True), last_B + 1
            x_B1D = embed(spoken[-1][:, None])
            state_BD = self.read(x_B1D, mask_BS, cache=cache, position_ids=last_B[:, None])[:, 0]
            spoken.append(self.language_model.lm_head(state_BD).argmax(-1))
        return torch.stack(spoken, dim=1)[:, None]

    def read(self, x_BSD: Tensor, mask_BS: Tensor, **how: Any) -> Tensor:
        """The language model's states after the final norm, (B, S, D). The mask holds every key there is, those in the
        cache too."""
        if self.language_model.config._attn_implementation == "flash_attention_2":
            mask = mask_BS  # its kernels know rows' lengths, and are causal by themselves
        else:
            mask = additive(mask_BS, x_BSD, causal=True)
        how = {"use_cache": False, **how} if "cache" not in how else {"use_cache": True, **how}
        return self.language_model.model(inputs_embeds=x_BSD, attention_mask=mask, **how).last_hidden_state

    @property
    def _dtype(self) -> torch.dtype:
        return self.projector.fc1.weight.dtype


# ---- shared with OpenVLA-OFT -----------------------------------------------------------------------------------------

IGNORED = -100
"""Of torch's cross_entropy: no target here."""


def language_model(config: LanguageConfig) -> LlamaForCausalLM:
    attention: dict[str, Any] = {"attn_implementation": "sdpa"}  # not among the names that LlamaConfig declares
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.mlp,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_value_heads,
            rms_norm_eps=config.epsilon,
            max_position_embeddings=config.context,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            pad_token_id=PAD,
            tie_word_embeddings=False,
            **attention,
        )
    )


def finish(model: nn.Module, dtype: Dtype) -> None:
    """Weights in their type; the angles of the rotary embedding in single precision, and never on `meta`: they are
    computed, not loaded."""
    model.to(getattr(torch, dtype))
    llama: Any = model.language_model
    place = llama.lm_head.weight.device
    with torch.device("cpu"):
        llama.model.rotary_emb = LlamaRotaryEmbedding(llama.config)
    if place.type != "meta":
        llama.model.rotary_emb.to(place)


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Normal with Llama's deviation, for a reduced model that is trained from nothing. Norms start as the identity."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                parameter.zero_()
            elif parameter.ndim == 1 or isinstance(module, LayerScale):  # norms, layer scales
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, 0.02, generator=generator)


def trimmed(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The prompt and its mask without what is padding in every row."""
    longest = int(batch["prompt_mask"].sum(1).max())
    return batch["prompt"][:, :longest], batch["prompt_mask"][:, :longest]


def alone_trimmed(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Only where a row is alone: the length of its neighbours' prompts must not choose the kernels for a row."""
    return trimmed(batch) if len(batch["prompt"]) == 1 else (batch["prompt"], batch["prompt_mask"])


def sequence(prompt_BL: Tensor, mask_BL: Tensor, tail_BN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each row's prompt, right behind it its tail, <PAD> up to the longest. Returns ids, their mask (the same shape)
    and where each tail begins."""
    start_B = mask_BL.sum(1)
    room = prompt_BL.shape[1] + tail_BN.shape[1]
    ids_BL = F.pad(prompt_BL.masked_fill(~mask_BL.bool(), PAD), (0, tail_BN.shape[1]), value=PAD)
    ids_BL = ids_BL.scatter(1, at(start_B, tail_BN.shape[1]), tail_BN)
    positions_L = torch.arange(room, device=ids_BL.device)
    return ids_BL, positions_L < start_B[:, None] + tail_BN.shape[1], start_B


def insert(text_BLD: Tensor, mask_BL: Tensor, seen_BPD: Tensor) -> tuple[Tensor, Tensor]:
    """What is seen goes right behind <s>; the mask grows with it."""
    seen_BP = mask_BL.new_ones(seen_BPD.shape[:2])
    return (
        torch.cat([text_BLD[:, :1], seen_BPD.to(text_BLD.dtype), text_BLD[:, 1:]], dim=1),
        torch.cat([mask_BL[:, :1], seen_BP, mask_BL[:, 1:]], dim=1),
    )


def additive(mask_BS: Tensor, x_BQD: Tensor, *, causal: bool) -> Tensor:
    """(B, 1, Q, S): 0 where a query may look, the type's lowest number where not. The queries are the last Q of S."""
    (B, S), Q = mask_BS.shape, x_BQD.shape[1]
    may_BQS = mask_BS[:, None, :].expand(B, Q, S)
    if causal:
        may_BQS = may_BQS & torch.ones(Q, S, dtype=torch.bool, device=mask_BS.device).tril(S - Q)
    blocked = torch.finfo(x_BQD.dtype).min
    return torch.zeros_like(may_BQS, dtype=x_BQD.dtype).masked_fill(~may_BQS, blocked)[:, None]


def at(start_B: Tensor, count: int) -> Tensor:
    """(B, count): start, start + 1, ..."""
    return start_B[:, None] + torch.arange(count, device=start_B.device)


def before(start_B: Tensor, x_BSD: Tensor, ids_BL: Tensor) -> Tensor:
    """Where the state lies that speaks a tail's first token: one place before it, behind all that was inserted."""
    return start_B - 1 + (x_BSD.shape[1] - ids_BL.shape[1])


def picked(x_BSD: Tensor, start_B: Tensor, count: int) -> Tensor:
    """(B, count, D) from `start` on."""
    return x_BSD.gather(1, at(start_B, count)[..., None].expand(-1, -1, x_BSD.shape[-1]))


def with_stop(ids_BN: Tensor) -> Tensor:
    return F.pad(ids_BN, (0, 1), value=action_tokens.STOP)


def _per_token(batch: Mapping[str, Tensor]) -> Tensor:
    """`valid` says which of a chunk's steps lie within the episode."""
    return batch["valid"].bool()[..., None].expand_as(batch["actions"]).flatten(1)


def spoken_value(ids: Tensor) -> Tensor:
    """`action_tokens.decode`, on any device."""
    index = (action_tokens.VOCABULARY - 1 - ids).clamp(0, action_tokens.EDGES - 2)
    return (index.float() + 0.5) * (2 / (action_tokens.EDGES - 1)) - 1


def token_metrics(spoken_BN: Tensor, action_BN: Tensor, valid_BN: Tensor) -> dict[str, Tensor]:
    """How many ids are right (given the right ones before them), and how far off they are in normalised units."""
    right = (spoken_BN == action_BN)[valid_BN].float().mean()
    return {
        "token_accuracy": right,
        "action_l1": (spoken_value(spoken_BN) - spoken_value(action_BN)).abs()[valid_BN].mean(),
    }
