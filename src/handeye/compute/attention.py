"""Which attention a model computes with: what the device can do, tried in order, and proven on a short input.

Two things go wrong with attention in silence. Another backend reads the mask in another way, or not at all; and a model
that must look ahead (OpenVLA-OFT) looks backwards only, as it does on an ordinary transformers, and loses half of its
success (openvla-oft issues 12, 128, 135). So what is taken is compared with eager attention on two rows of which one
is padded, and a later token is changed to see whether the states of earlier ones move.

Shape letters: B rows, S tokens, D width.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from handeye.compute.config import Attention as Wanted
from handeye.errors import UserError

Name = Literal["flash", "sdpa", "eager"]

BACKENDS = {"flash": "flash_attention_2", "sdpa": "sdpa", "eager": "eager"}
"""Our name -> transformers', in the order in which they are tried."""

TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest difference from eager attention, relative to the norm of the states. Rounding alone, measured on 32 layers of
width 512, gives 6e-7, 2e-3 and 2e-2; a padded row whose mask is not read, where tokens look ahead, 0.5."""

LENGTHS = (9, 6)
"""Tokens of the two rows that it is proven on."""

FLASH_CAPABILITY = (8, 0)
"""Of the GPU: flash-attn 2 runs on Ampere and later (github.com/Dao-AILab/flash-attention, README)."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One backend, and what became of it."""

    name: Name
    taken: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a model computes its attention with."""

    taken: Name | None
    """None: the family has one attention of its own, and nothing to choose."""

    why: str
    tried: tuple[Candidate, ...] = ()
    error: float | None = None
    """Difference of the states from eager attention's, relative to their norm."""

    looks_ahead: bool | None = None
    """Seen, not assumed: whether changing a later token moved earlier states."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"{each.name} {'taken' if each.taken else 'not taken'} ({each.why})" for each in self.tried]
        return f"attention: {'; '.join(parts) or self.why}"


def choose(model: nn.Module, wanted: Wanted = "auto", device: str | torch.device = "cpu") -> Choice:
    """Set it, on a model that lies on `device` already. UserError where what is wanted cannot be had, or is wrong."""
    family = type(model).__module__.rpartition(".")[2]
    offered: tuple[str, ...] | None = getattr(model, "attentions", None)
    if offered is None:
        if wanted != "auto":
            raise UserError(
                f"{family} takes no --attention {wanted}.",
                why="it computes its attention in one way, which cannot be chosen",
                fix="leave it out, or use --attention auto",
            )
        return Choice(taken=None, why=f"{family} computes in one way and leaves nothing to choose")
    proof = _Proof(model, torch.device(device))
    tried: list[Candidate] = []
    taken: Name | None = None
    error = ahead = None
    for name in get_args(Name):
        if wanted not in ("auto", name):
            tried.append(Candidate(name=name, taken=False, why=f"{wanted} was asked for"))
        elif taken is not None:
            tried.append(Candidate(name=name, taken=False, why=f"{taken} is quicker"))
        else:
            obstacle = _obstacle(model, name, torch.device(device)) or proof.obstacle(name)
            tried.append(Candidate(name=name, taken=not obstacle, why=obstacle or proof.words))
            if not obstacle:
                taken, error, ahead = name, proof.error, proof.looks_ahead
    if taken is None:
        raise UserError(
            f"{family} cannot compute with --attention {wanted} here.",
            why="; ".join(f"{each.name}: {each.why}" for each in tried),
            fix="use --attention auto" if wanted != "auto" else "install the versions of constraints.txt",
        )
    proof.attend(taken)
    return Choice(taken=taken, why=proof.words, tried=tuple(tried), error=error, looks_ahead=ahead)


def _obstacle(model: Any, name: Name, device: torch.device) -> str:
    """Why the device, or the model, cannot do it; nothing if it can."""
    if BACKENDS[name] not in model.attentions:
        return "it cannot look ahead past padding, as this model does"
    if name != "flash":
        return ""
    if device.type != "cuda":
        return f"its kernels run on CUDA, this is {device.type}"
    if torch.cuda.get_device_capability(device) < FLASH_CAPABILITY:
        return f"{torch.cuda.get_device_name(device)} is older than Ampere"
    if find_spec("flash_attn") is None:
        return "the package flash-attn is not installed"
    if (dtype := model.language_model.lm_head.weight.dtype) not in (torch.float16, torch.bfloat16):
        return f"its kernels compute in half precision, the model in {str(dtype).removeprefix('torch.')}"
    return ""


class _Proof:
    """The same short input through one backend after the other."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model = model
        self.x_BSD, self.mask_BS = short_input(model, device)
        half = torch.is_autocast_enabled(device.type)
        computed_in = torch.get_autocast_dtype(device.type) if half else self.x_BSD.dtype
        self.tolerance = TOLERANCE.get(computed_in, TOLERANCE[torch.float32])
        self._eager: Tensor | None = None
        self.error = 0.0
        self.looks_ahead = False
        self.words = ""

    def attend(self, name: Name) -> None:
        self.model.attend_with(BACKENDS[name])

    def obstacle(self, name: Name) -> str:
        """Why it cannot be trusted; nothing if it can. Sets `error`, `looks_ahead` and `words`."""
        try:
            states_BSD = self._states(name, self.x_BSD)
            if self._eager is None:
                self._eager = states_BSD if name == "eager" else self._states("eager", self.x_BSD)
            moved_BS = self._moved(name, states_BSD)
        except (ImportError, RuntimeError, ValueError, NotImplementedError) as failure:
            return f"it does not run: {(str(failure) or type(failure).__name__).splitlines()[0]}"
        self.error = relative_error(states_BSD[self.mask_BS], self._eager[self.mask_BS])
        if not self.error <= self.tolerance:
            return f"its states differ from eager attention's by {self.error:.1e}, more than {self.tolerance:.0e}"
        wants = self.model.looks_ahead
        self.looks_ahead = bool(moved_BS.all()) if wants else bool(moved_BS.any())
        if self.looks_ahead != wants:
            return f"changing a later token {'does not move every' if wants else 'moves an'} earlier state"
        within = "" if name == "eager" else f"agrees with eager to {self.error:.1e}, "
        self.words = f"{within}{'looks ahead' if wants else 'looks backwards only'}"
        return ""

    def _states(self, name: Name, x_BSD: Tensor) -> Tensor:
        self.attend(name)
        with torch.no_grad():
            states_BSD: Tensor = self.model.read(x_BSD, self.mask_BS)
        return states_BSD.float()

    def _moved(self, name: Name, states_BSD: Tensor) -> Tensor:
        """Which states before a row's last token are others when that token is: bool, one per such token."""
        last_B = self.mask_BS.sum(1) - 1
        changed_BSD = self.x_BSD.clone()
        changed_BSD[torch.arange(len(last_B)), last_B] = -3 * self.x_BSD[:, 0]
        after_BSD = self._states(name, changed_BSD)
        earlier_BS = torch.arange(max(LENGTHS), device=last_B.device) < last_B[:, None]
        return (after_BSD != states_BSD).any(-1)[earlier_BS]


def short_input(model: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two rows of words, one padded: what the language model reads (B, S, D), and its mask (B, S)."""
    table = model.language_model.model.embed_tokens
    # Words of the upper half of the table but its end, where the added ones are.
    least, most = table.num_embeddings // 2, table.num_embeddings - 64
    words_BS = torch.randint(least, most, (2, max(LENGTHS)), generator=torch.Generator().manual_seed(0))
    mask_BS = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return table(words_BS.to(device)).detach(), mask_BS.to(device)


@torch.no_grad()
def short_states(model: Any, device: torch.device) -> Tensor | None:
    """The language model's states of the short input's words, float32 on the CPU. None: the family shows none."""
    if not hasattr(model, "attentions"):
        return None
    x_BSD, mask_BS = short_input(model, device)
    states_BSD: Tensor = model.read(x_BSD, mask_BS)
    return states_BSD[mask_BS].float().cpu()


def relative_error(found: Tensor, reference: Tensor) -> float:
    """Norm of the difference by the norm of the reference."""
    return float((found.float() - reference.float()).norm() / reference.float().norm())
