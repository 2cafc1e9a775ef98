"""What may be asked for, as flags know it. Nothing heavy: `--help` reads this."""

from __future__ import annotations

from typing import Literal

Attention = Literal["auto", "flash", "sdpa", "eager"]
Precision = Literal["auto", "bf16", "fp16", "fp32", "int8", "nf4"]
