"""What a policy's address may be, and the policy behind it. The one place that knows all kinds.

`expert`, `zero`, `noise`, `replay:DATASET`, `ws://HOST:PORT` and `wss://HOST:PORT`, `lerobot:PATH`, or a checkpoint's
folder. After the folder of a published checkpoint may come what its layout leaves open, as in
`DIR#statistics=NAME,cameras=agentview`. The last two need torch, which this side of the program never imports: who
resolves hands over how to load them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from handeye.errors import UserError
from handeye.policy.scripted import SCRIPTED
from handeye.types import Policy

EXPERT = "expert"
REPLAY = "replay:"
LEROBOT = "lerobot:"
SERVERS = ("ws://", "wss://")
KINDS = f"a checkpoint's folder, {EXPERT}, {', '.join(SCRIPTED)}, {REPLAY}DATASET, ws://HOST:PORT, {LEROBOT}PATH"


def resolve(address: str, *, heavy: Callable[[str], Policy], replan: int | Literal["chunk"] = "chunk") -> Policy | None:
    """The policy at an address, with its `specs`; None is the expert, who lives beside its simulator. `heavy` loads a
    checkpoint's folder or `lerobot:PATH`. `replan`: how many actions of each answer are executed, which `replay` must
    know. UserError where there is nothing."""
    if address == EXPERT:
        return None
    if address in SCRIPTED:
        return SCRIPTED[address]()
    if address.startswith(REPLAY):
        from handeye.policy.replay import Replay

        return Replay(address.removeprefix(REPLAY), replan=replan)
    if address.startswith(SERVERS):
        try:
            from handeye.policy.websocket import Remote
        except ImportError as error:
            raise UserError(
                "Policies behind a socket need two more packages.", why=str(error), fix="pip install 'handeye[serve]'"
            ) from None
        return Remote(address)
    if address.startswith(("http://", "https://")):
        raise UserError(
            f"{address} is a web address.",
            why="policies are served over websockets",
            fix=f"try ws{address.removeprefix('http')}",
        )
    if not address.startswith(LEROBOT) and "://" not in address and not Path(folder_and_options(address)[0]).exists():
        near = difflib.get_close_matches(address, [EXPERT, *SCRIPTED], n=1)
        raise UserError(
            f"There is no policy {address}." + (f" Did you mean '{near[0]}'?" if near else ""),
            why="no such folder, and no such name",
            fix=f"give {KINDS}",
        )
    return heavy(address)


def is_folder(address: str) -> bool:
    """Whether it names a checkpoint on this machine, or would if that were there."""
    others = (LEROBOT, REPLAY, *SERVERS)
    return address not in (EXPERT, *SCRIPTED) and not address.startswith(others)


def folder_and_options(address: str) -> tuple[str, dict[str, str]]:
    """`DIR#name=value,name=value` in its parts. A folder may have # in its own name, if it is there."""
    folder, mark, rest = address.rpartition("#")
    if not mark or Path(address).exists():
        return address, {}
    pairs = [each.partition("=") for each in rest.split(",")]
    if bad := [name for name, equals, _ in pairs if not name or not equals]:
        raise UserError(
            f"{address} cannot be read.",
            why=f"after # there should be name=value, found '{bad[0]}'",
            fix="write DIR#name=value,name=value",
        )
    names = [name for name, _, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{address} says {twice[0]} twice.", fix=f"say {twice[0]} once")
    return folder, {name: value for name, _, value in pairs}
