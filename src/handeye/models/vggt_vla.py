"""A policy on VGGT: pictures through a geometry backbone, a sentence through Qwen, both fused, a chunk of actions out.

Two forms. `reference` is AtlasVLA's vggt_vla (Tingting-Olivia-Du/AtlasVLA at 8da9053, vggt_vla/models) with its module
names, number for number. `ours` keeps its parts and mends what made it blind (docs/models/vggt_vla.md has the table):

                    reference                                   ours
    views           patches of both in one sequence             a frame each, with camera token and registers
    patches         one untrained convolution                   VGGT's own DINOv2
    sentence        77 tokens, padding seen like words          the words alone
    state           not seen                                    a token
    actions         16 learned vectors + 0.1 x mean of tokens   one query per step, which looks at every token

Shape letters: B batch, S views, H height, W width, P patches, L words, N all tokens, T chunk, A action, D width,
V VGGT's width, Q width of the language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2Model, Qwen3Config, Qwen3Model

from handeye.errors import UserError
from handeye.models.vggt import VGGT_1B, Aggregator, AggregatorConfig, grid_positions

Kind = Literal["qwen3", "qwen2"]


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """A Qwen without its output layer. Qwen3 normalises queries and keys, Qwen2 has biases instead: the two never have
    the same tensors."""

    name: str
    """Which weights these are. A published name must have the published sizes."""

    kind: Kind
    width: int
    layers: int
    heads: int
    key_value_heads: int
    head_width: int
    mlp: int
    vocabulary: int = 151_936
    epsilon: float = 1e-6
    rope_theta: float = 1e6

    def __post_init__(self) -> None:
        sizes = (self.kind, self.width, self.layers, self.heads, self.key_value_heads, self.head_width, self.mlp)
        if (published := SIZES.get(self.name, sizes)) != sizes:
            raise UserError(
                f"This language model is not {self.name}.",
                why=f"{self.name} is {SAID.format(*published)}; this is {SAID.format(*sizes)}",
                fix="name the model that it is",
            )


SAID = "{} {} wide, {} layers, {} heads, {} of keys, {} wide each, MLP {}"
SIZES = {
    "Qwen3-0.6B": ("qwen3", 1024, 28, 16, 8, 128, 3072),
    "Qwen2-0.5B": ("qwen2", 896, 24, 14, 2, 64, 4864),
}
"""Of the published models that a configuration may name: huggingface Qwen/Qwen3-0.6B-Base and Qwen/Qwen2-0.5B,
config.json. Qwen3-0.6B's chat model has the same, and so has Qwen2.5-0.5B the other's."""


def published(name: str) -> LanguageConfig:
    kind, width, layers, heads, key_value_heads, head_width, mlp = SIZES[name]
    return LanguageConfig(
        name=name,
        kind="qwen3" if kind == "qwen3" else "qwen2",
        width=width,
        layers=layers,
        heads=heads,
        key_value_heads=key_value_heads,
        head_width=head_width,
        mlp=mlp,
    )


QWEN3_06B, QWEN2_05B = published("Qwen3-0.6B"), published("Qwen2-0.5B")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes. What the numbers mean is in the checkpoint's specs and pipeline."""

    form: Literal["ours", "reference"] = "ours"
    cameras: tuple[str, ...] = ("agentview", "wrist")
    image_size: int = 224
    proprio_width: int = 8
    """Of what `ours` sees of the robot."""

    action_width: int = 7
    """The last one is the gripper; in `ours` +1 or -1."""

    chunk: int = 10
    prompt_length: int = 77
    """Rows of the table of the words' positions."""

    aggregator: AggregatorConfig = VGGT_1B
    """In the reference its blocks alone (`embedding="none"`): its patches, camera token and registers are carried in
    every checkpoint and never computed with."""

    language: LanguageConfig = QWEN3_06B
    width: int = 768
    """Of vision and language tokens before and after VGGT, and in `ours` of the queries."""

    patch_size: int = 16
    """Of the reference's own convolution."""

    queries: int = 16
    """Of the reference."""

    head_width: int = 1024
    head_layers: int = 2
    """Of the reference's head."""

    dropout: float = 0.1
    tanh: bool = False
    """The reference's actions end in one (use_tanh_output)."""

    decoder_layers: int = 3
    decoder_heads: int = 8
    gripper_weight: float = 0.1
    """In `ours`: of the gripper's cross-entropy (nats) against the arm's L1 error (in normalised units)."""

    proprio_noise: float = 0.05
    """In `ours`: deviation added to the normalised state in training (as in models/tiny.py)."""


REFERENCE_LOSS = {"mse": 0.5, "huber": 0.5, "huber_delta": 1.0, "smooth": 0.02, "gripper": 2.0}
"""vggt_vla/configs/model_config.py, ActionHeadConfig; vggt_vla/training/losses.py."""

ADAPTER_HEADS = 8
"""Of its cross-attention (vggt_vla/models/vggt_adapter.py)."""


class Model(nn.Module):
    """Call `initialise` after construction, or assign a checkpoint: `__init__` may run on `meta`.

    A batch: `image.<camera>` (B, H, W, 3), uint8 or float32, which are [0, 1] or whatever the reference's pipeline made
    of them; `prompt` int64 (B, L) with `prompt_mask` bool (B, L), or without, and then 0 pads; in `ours` `proprio`
    (B, S). To learn: `actions` (B, T, A), `valid` (B, T)."""

    types: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.bfloat16)
    """What `compute_in` takes."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.language_encoder = LanguageEncoder(config)
        if config.form == "reference":
            self.vision_encoder = PatchEncoder(config)
            self.vggt_backbone = Fusion(config)
            self.action_head = MeanHead(config)
        else:
            self.aggregator = Aggregator(config.aggregator)
            self.fuse = Fuse(config)
            self.decoder = Decoder(config)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Every tensor, from this generator alone. Deviations by what goes in: a fixed 0.02, which large models begin
        with, is so little at small widths that attention stays even, and nothing is learned."""
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if name.endswith("bias"):
                    parameter.zero_()
                elif parameter.ndim == 1:  # norms
                    parameter.fill_(1.0)
                elif isinstance(module, nn.Embedding):
                    parameter.normal_(0.0, 1.0, generator=generator)
                elif parameter.ndim == 2 and parameter is not getattr(module, "source", None):
                    parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
                else:
                    parameter.normal_(0.0, 0.02, generator=generator)
        self._aggregator().initialise(generator)
        self.language_encoder.turn_on(next(self.parameters()).device)

    def compute_in(self, dtype: Literal["float32", "bfloat16"]) -> None:
        """Convert every weight, to act with."""
        self.to(getattr(torch, dtype))
        self.language_encoder.turn_on(next(self.parameters()).device)

    @property
    def _dtype(self) -> torch.dtype:
        return self.language_encoder.pos_embed.dtype

    def _aggregator(self) -> Aggregator:
        return self.vggt_backbone.vggt.aggregator if self.config.form == "reference" else self.aggregator

    def forward(self, batch: Mapping[str, Tensor], proprio_BS: Tensor | None = None) -> Tensor:
        """Normalised actions (B, T, A); in `ours` the gripper's entry is the logit of +1."""
        words_BLD, there_BL = self.language_encoder(batch)
        if self.config.form == "reference":
            seen_BPD, positions_P2 = self.vision_encoder(self._views(batch))
            return self.action_head(self.vggt_backbone(seen_BPD, words_BLD, positions_P2)).float()
        assert proprio_BS is not None
        state_BS = proprio_BS.to(self._dtype)
        memory_BND, there_BN = self.fuse(self.aggregator, self._views(batch), words_BLD, there_BL, state_BS)
        return self.decoder(memory_BND, there_BN).float()

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """`ours`: L1 on the arm, cross-entropy on the gripper, within the episode. The reference's own formula counts
        steps past its end."""
        if self.config.form == "reference":
            return reference_loss(self(batch), batch["actions"])
        proprio_BS = batch["proprio"]
        if self.training:
            proprio_BS = proprio_BS + self.config.proprio_noise * torch.randn_like(proprio_BS)
        predicted_BTA, target_BTA, valid_BT = self(batch, proprio_BS), batch["actions"], batch["valid"].float()
        arm_BT = (predicted_BTA - target_BTA)[..., :-1].abs().mean(-1)
        closed_BT = (target_BTA[..., -1] > 0).to(predicted_BTA.dtype)
        grip_BT = F.binary_cross_entropy_with_logits(predicted_BTA[..., -1], closed_BT, reduction="none")
        arm, grip = ((x_BT * valid_BT).sum() / valid_BT.sum() for x_BT in (arm_BT, grip_BT))
        return arm + self.config.gripper_weight * grip, {"arm_l1": arm.detach(), "gripper_nats": grip.detach()}

    @torch.no_grad()
    def sample_actions(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Normalised actions (B, T, A). `ours`: the gripper is +1 or -1, never between."""
        if self.config.form == "reference":
            return self(batch)
        predicted_BTA = self(batch, batch["proprio"])
        return torch.cat([predicted_BTA[..., :-1], torch.where(predicted_BTA[..., -1:] > 0, 1.0, -1.0)], dim=-1)

    def _views(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(B, S, 3, H, W), in the order of the cameras."""
        views = [batch[f"image.{name}"].permute(0, 3, 1, 2) for name in self.config.cameras]
        views = [x.float() / 255 if x.dtype == torch.uint8 else x for x in views]
        return torch.stack(views, dim=1).to(self._dtype)


# ---- the sentence, in both forms -------------------------------------------------------------------------------------


class LanguageEncoder(nn.Module):
    """Qwen's last states, projected, with a learned position."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        D, Q = config.width, config.language.width
        self.language_model = qwen(config.language)
        self.projector = nn.Sequential(
            nn.Linear(Q, D), nn.LayerNorm(D), nn.GELU(), nn.Linear(D, D), nn.LayerNorm(D)
        )  # fmt: skip
        self.pos_embed = nn.Parameter(torch.zeros(1, config.prompt_length, D))
        self.turn_on("cpu")

    def turn_on(self, device: torch.device | str) -> None:
        """Qwen's rotary angles are computed, not loaded: never on `meta`, and again after `to_empty`."""
        with torch.device(device):
            rotary: Any = self.language_model.rotary_emb
            self.language_model.rotary_emb = type(rotary)(self.language_model.config)

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Words (B, L, D), and which of them are there."""
        ids_BL = batch["prompt"]
        there_BL = batch["prompt_mask"].bool() if "prompt_mask" in batch else ids_BL > 0
        causal_LL = torch.ones(ids_BL.shape[1], ids_BL.shape[1], dtype=torch.bool, device=ids_BL.device).tril()
        may_B1LL = (there_BL[:, None, :] & causal_LL)[:, None]
        dtype = self.language_model.embed_tokens.weight.dtype
        mask = torch.zeros_like(may_B1LL, dtype=dtype).masked_fill(~may_B1LL, torch.finfo(dtype).min)
        states_BLQ = self.language_model(input_ids=ids_BL, attention_mask=mask, use_cache=False).last_hidden_state
        words_BLD = self.projector(states_BLQ.to(self.projector[0].weight.dtype))
        return words_BLD + self.pos_embed[:, : words_BLD.shape[1]], there_BL


def qwen(config: LanguageConfig) -> Any:
    """transformers' own, unchanged."""
    common: dict[str, Any] = {
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_value_heads,
        "rms_norm_eps": config.epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attn_implementation": "sdpa",
    }
    if config.kind == "qwen3":
        return Qwen3Model(Qwen3Config(head_dim=config.head_width, **common))
    if config.head_width * config.heads != config.width:
        raise ValueError(f"Qwen2's heads share its width: {config.width} is not {config.heads} x {config.head_width}")
    return Qwen2Model(Qwen2Config(**common))


# ---- ours ------------------------------------------------------------------------------------------------------------


class Fuse(nn.Module):
    """VGGT on one frame per view with the sentence as its guest; then everything that an action may look at."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        D, V = config.width, config.aggregator.width
        self.config = config
        self.words_in = nn.Sequential(nn.Linear(D, V), nn.LayerNorm(V))
        self.tokens_out = nn.Sequential(nn.Linear(2 * V, D), nn.LayerNorm(D))
        self.state_in = nn.Linear(config.proprio_width, D)
        self.source = nn.Parameter(torch.zeros(len(config.cameras) + 2, D))  # each view, words, state

    def forward(
        self, aggregator: Aggregator, images_BS3HW: Tensor, words_BLD: Tensor, there_BL: Tensor, proprio_BS: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, N, D), and which are there: S views, then words, then the state."""
        views_BSPV = aggregator.see(images_BS3HW)
        positions_P2 = aggregator.positions(*images_BS3HW.shape[-2:])
        B, S, P = views_BSPV.shape[:3]
        *_, (frame_BNV, all_BNV) = aggregator.layers(views_BSPV, positions_P2, self.words_in(words_BLD), there_BL)
        tokens_BND = self.tokens_out(torch.cat([frame_BNV, all_BNV], dim=-1))
        place_PD = sines(positions_P2.to(tokens_BND.device), tokens_BND.shape[-1]).to(tokens_BND.dtype)
        views_BND = tokens_BND[:, : S * P] + place_PD.repeat(S, 1) + self.source[:S].repeat_interleave(P, 0)
        words_BLD = tokens_BND[:, S * P :] + self.source[-2]
        state_B1D = (self.state_in(proprio_BS) + self.source[-1])[:, None]
        there_BN = torch.cat([there_BL.new_ones(B, S * P), there_BL, there_BL.new_ones(B, 1)], dim=1)
        return torch.cat([views_BND, words_BLD, state_B1D], dim=1), there_BN


class Look(nn.Module):
    """Attention of queries over something else, or over themselves."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, at_BND: Tensor, there_BN: Tensor | None = None) -> Tensor:
        query = self.q(x_BTD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.kv(at_BND).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if there_BN is None else there_BN[:, None, None, :]
        return self.proj(F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.each_other = Look(width, heads)
        self.outside = Look(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_BTD: Tensor, memory_BND: Tensor, there_BN: Tensor) -> Tensor:
        first, second, third = self.norms
        y_BTD = first(x_BTD)
        x_BTD = x_BTD + self.each_other(y_BTD, y_BTD)
        x_BTD = x_BTD + self.outside(second(x_BTD), memory_BND, there_BN)
        return x_BTD + self.mlp(third(x_BTD))


class Decoder(nn.Module):
    """One query per step of the chunk."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        D = config.width
        self.queries = nn.Parameter(torch.zeros(1, config.chunk, D))
        self.layers = nn.ModuleList(DecoderLayer(D, config.decoder_heads) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(D)
        self.act = nn.Linear(D, config.action_width)

    def forward(self, memory_BND: Tensor, there_BN: Tensor) -> Tensor:
        x_BTD = self.queries.expand(len(memory_BND), -1, -1)
        for layer in self.layers:
            x_BTD = layer(x_BTD, memory_BND, there_BN)
        return self.act(self.norm(x_BTD))


def sines(positions_N2: Tensor, width: int) -> Tensor:
    """Where a token stands, as (N, D): rotary angles say how far apart two tokens are, and nothing of where."""
    quarter = width // 4
    frequency = 100.0 ** (-torch.arange(quarter, device=positions_N2.device).float() / quarter)
    angle_N2f = positions_N2[..., None].float() * frequency
    code_Nd = torch.cat([angle_N2f.sin(), angle_N2f.cos()], dim=-1).flatten(1)
    return F.pad(code_Nd, (0, width - code_Nd.shape[-1]))


# ---- the reference ---------------------------------------------------------------------------------------------------


class PatchEncoder(nn.Module):
    """Its vision encoder without a pretrained tower (vggt_vla/models/vision_encoder.py)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        D = config.width
        self.side = config.image_size // config.patch_size
        self.pos_embed = nn.Parameter(torch.zeros(1, self.side**2, D))
        self.patch_embed = nn.Conv2d(3, D, config.patch_size, stride=config.patch_size)
        self.norm = nn.LayerNorm(D)

    def forward(self, images_BS3HW: Tensor) -> tuple[Tensor, Tensor]:
        """The patches of all views in one sequence, those of the second at the positions of the first."""
        B, S = images_BS3HW.shape[:2]
        x_BPD = self.patch_embed(images_BS3HW.flatten(0, 1)).flatten(2).transpose(1, 2) + self.pos_embed
        return self.norm(x_BPD).reshape(B, -1, x_BPD.shape[-1]), grid_positions(self.side, self.side).repeat(S, 1)


class Backbone(nn.Module):
    """Holds the name."""

    def __init__(self, config: AggregatorConfig) -> None:
        super().__init__()
        self.aggregator = Aggregator(config)


class Fusion(nn.Module):
    """Words look at patches, both go through VGGT's blocks as if they were one picture; padding is a word like any
    other, and all words stand where the last patch does (vggt_vla/models/vggt_adapter.py)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        D, V = config.width, config.aggregator.width
        self.vggt = Backbone(config.aggregator)
        self.action_queries = nn.Parameter(torch.zeros(1, config.queries, D))
        self.lang_adapter = nn.Sequential(nn.Linear(D, V), nn.LayerNorm(V), nn.GELU(), nn.Dropout(config.dropout))
        self.vision_adapter = nn.Sequential(nn.Linear(D, V), nn.LayerNorm(V)) if D != V else nn.Identity()
        self.cross_attn = nn.MultiheadAttention(V, ADAPTER_HEADS, dropout=config.dropout, batch_first=True)
        self.cross_attn_norm = nn.LayerNorm(V)
        self.feature_projector = nn.Sequential(
            nn.Linear(2 * V, V), nn.LayerNorm(V), nn.GELU(), nn.Dropout(config.dropout),
            nn.Linear(V, D), nn.LayerNorm(D),
        )  # fmt: skip

    def features(self, seen_BPD: Tensor, words_BLD: Tensor, positions_P2: Tensor) -> Tensor:
        """All tokens after VGGT (B, P + L, D)."""
        seen_BPV, words_BLV = self.vision_adapter(seen_BPD), self.lang_adapter(words_BLD)
        looked_BLV, _ = self.cross_attn(words_BLV, seen_BPV, seen_BPV, need_weights=False)
        tokens_BNV = torch.cat([seen_BPV, self.cross_attn_norm(looked_BLV + words_BLV)], dim=1)
        last_L2 = positions_P2[-1:].expand(words_BLD.shape[1], -1)
        pairs = self.vggt.aggregator.layers(tokens_BNV[:, None], torch.cat([positions_P2, last_L2]))
        *_, last = pairs
        return self.feature_projector(torch.cat(last, dim=-1))

    def forward(self, seen_BPD: Tensor, words_BLD: Tensor, positions_P2: Tensor) -> Tensor:
        """(B, queries, D): a tenth of the mean of all tokens is all that an action gets to know of them."""
        mean_B1D = self.features(seen_BPD, words_BLD, positions_P2).mean(1, keepdim=True)
        return self.action_queries + 0.1 * mean_B1D


class MeanHead(nn.Module):
    """vggt_vla/models/action_head.py, MLPActionHead; its mean and deviation of actions are in the pipeline here."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = [config.width] + [config.head_width] * config.head_layers
        for i in range(config.head_layers):
            layers += [nn.Linear(widths[i], widths[i + 1]), nn.LayerNorm(widths[i + 1]), nn.ReLU()]
            layers.append(nn.Dropout(config.dropout))
        layers.append(nn.Linear(widths[-1], config.chunk * config.action_width))
        self.mlp = nn.Sequential(*layers)
        self.shape, self.tanh = (config.chunk, config.action_width), config.tanh

    def forward(self, queries_BND: Tensor) -> Tensor:
        actions_BTA = self.mlp(queries_BND.mean(1)).unflatten(-1, self.shape)
        return actions_BTA.tanh() if self.tanh else actions_BTA


def reference_loss(predicted_BTA: Tensor, target_BTA: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Half mean square, half Huber, the gripper twice; and a little for changes from step to step of the arm."""
    how = REFERENCE_LOSS
    weight_A = torch.ones(target_BTA.shape[-1], device=target_BTA.device)
    weight_A[-1] = how["gripper"]
    square = ((predicted_BTA - target_BTA).square() * weight_A).mean()
    huber = (F.huber_loss(predicted_BTA, target_BTA, delta=how["huber_delta"], reduction="none") * weight_A).mean()
    arm_BTA = predicted_BTA[..., :-1]
    smooth = (arm_BTA[:, 1:] - arm_BTA[:, :-1]).abs().mean() if arm_BTA.shape[1] > 1 else predicted_BTA.new_zeros(())
    parts = {"mse": square.detach(), "huber": huber.detach(), "smooth": smooth.detach()}
    return how["mse"] * square + how["huber"] * huber + how["smooth"] * smooth, parts
