"""Where people work, and what their GPUs can: figures of the makers' data sheets, dense, without sparsity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Machine:
    """`cores` and `memory` are what such a machine usually has; the others are the GPU's own."""

    about: str
    gib: float
    """Of the GPU, as nvidia-smi says it. 0: there is none."""

    tflops: float
    """Half precision with single-precision sums."""

    single: float
    """TFLOPS in single precision."""

    bandwidth: float
    """GB/s."""

    bfloat16: bool
    cores: int
    memory: float
    source: str


MACHINES: Mapping[str, Machine] = {
    "colab-t4": Machine(
        about="Tesla T4 in a notebook", gib=15.0, tflops=65.0, single=8.1, bandwidth=320.0,
        bfloat16=False, cores=2, memory=12.7,
        source="NVIDIA T4 data sheet; Colab's free machine",
    ),
    "sciserver-40gb": Machine(
        about="A100 40 GB, shared", gib=40.0, tflops=312.0, single=19.5, bandwidth=1555.0,
        bfloat16=True, cores=8, memory=64.0,
        source="NVIDIA A100 data sheet; cores and memory assumed",
    ),
    "rtx4090": Machine(
        about="RTX 4090 24 GB", gib=24.0, tflops=165.0, single=82.6, bandwidth=1008.0,
        bfloat16=True, cores=8, memory=32.0,
        source="NVIDIA Ada architecture paper, RTX 4090; cores and memory assumed",
    ),
    "vast-l40s": Machine(
        about="L40S 48 GB, rented", gib=45.0, tflops=362.0, single=91.6, bandwidth=864.0,
        bfloat16=True, cores=16, memory=64.0,
        source="NVIDIA L40S data sheet; cores and memory assumed",
    ),
    "a100": Machine(
        about="A100 80 GB", gib=80.0, tflops=312.0, single=19.5, bandwidth=2039.0,
        bfloat16=True, cores=16, memory=128.0,
        source="NVIDIA A100 data sheet; cores and memory assumed",
    ),
    "cpu": Machine(
        about="no GPU, two cores", gib=0.0, tflops=0.1, single=0.1, bandwidth=20.0,
        bfloat16=False, cores=2, memory=16.0,
        source="0.1 TFLOPS and 20 GB/s assumed for two cores",
    ),
}  # fmt: skip
