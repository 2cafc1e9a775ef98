"""Any policy by its address, in this process. Heavy libraries are imported when an address needs them."""

from __future__ import annotations

from typing import Any, Literal

from handeye.compute.config import Attention, Precision
from handeye.errors import UserError
from handeye.policy import address as addresses


def load(
    address: str,
    *,
    device: str = "auto",
    rows: int | None = None,
    replan: int | Literal["chunk"] = "chunk",
    attention: Attention = "auto",
    precision: Precision = "auto",
) -> Any:
    """See handeye.policy.address.resolve. `device`: of what runs on torch; `auto` is the first GPU, if there is one.
    `rows`, `attention`, `precision`: of a checkpoint, see handeye.serve.local and handeye.compute."""

    def heavy(where: str) -> Any:
        from handeye.compute.device import device_of

        chosen = device_of(device)
        if where.startswith(addresses.LEROBOT):
            from handeye.serve.lerobot import LeRobotPolicy

            return LeRobotPolicy(where.removeprefix(addresses.LEROBOT), device=chosen)
        from handeye.serve.local import load_policy

        return load_policy(where, device=chosen, rows=rows, attention=attention, precision=precision)

    checkpoint = addresses.is_folder(address)
    for flag, value in (("attention", attention), ("precision", precision)):
        if value != "auto" and not checkpoint:
            raise UserError(
                f"--{flag} {value} is for a checkpoint's folder.",
                why=f"{address} computes elsewhere, or not with weights",
                fix="leave it out",
            )

    return addresses.resolve(address, heavy=heavy, replan=replan)
