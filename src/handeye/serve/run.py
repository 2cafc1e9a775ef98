"""`handeye serve`: a policy by its address, behind a socket, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import Any

from handeye.console import errors, say, warn
from handeye.errors import UserError
from handeye.policy.address import folder_and_options
from handeye.policy.formats import openpi_obstacle
from handeye.serve.config import TOKEN_VARIABLE, ServeConfig
from handeye.serve.server import Served, Server, describe, is_loopback


def run(config: ServeConfig) -> None:
    """Load, listen, say where, serve, finish what is under way."""
    from handeye.serve.load import load

    policy = load(config.policy, device=config.device, attention=config.attention, precision=config.precision)
    if policy is None:
        raise UserError(
            "The expert cannot be served.",
            why="it reads the simulator's state, which no client sends",
            fix="`handeye evaluate expert` runs it beside its simulator",
        )
    serve_policy(config, policy)


def serve_policy(config: ServeConfig, policy: Served) -> None:
    """Any policy that declares its specs, from any program. Returns after Ctrl-C or SIGTERM."""
    about = identity(config.policy, policy)
    server = Server(policy, config, describe(policy, config, about), log=_log)
    _caution(config)
    if about.get("partial"):
        warn(about["partial"])
    asyncio.run(_until_stopped(server, config, policy))


async def _until_stopped(server: Server, config: ServeConfig, policy: Served) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stop, number)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it has a line for every write to a client that is gone
    loop.set_exception_handler(lambda _, context: _log(f"asyncio: {context['message']}: {context.get('exception')!r}"))

    def ready(addresses: list[str]) -> None:
        say(f"serving {config.policy} at {', '.join(addresses)}")
        obstacle = openpi_obstacle(policy.specs)
        say(f"not for openpi's clients: {obstacle}" if obstacle else "for handeye's and openpi's clients; GET /healthz")

    await server.run(stop, ready)


def _stop(stop: asyncio.Event, number: int) -> None:
    """The second signal does what it does by default."""
    say(f"{signal.Signals(number).name}: finishing what is under way")
    stop.set()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(each)


def identity(address: str, policy: object) -> dict[str, Any]:
    """Which policy this is, without the machine's folders, and what it says of itself: a checkpoint, the digest of its
    manifest."""
    where, _ = folder_and_options(address)
    name = "/".join(Path(where).resolve().parts[-2:]) if Path(where).exists() else address
    return {"name": name, **getattr(policy, "identity", {})}


def _caution(config: ServeConfig) -> None:
    if is_loopback(config.host):
        return
    if config.token() is None:
        warn(f"whoever reaches {config.host} may ask this policy; ask for a token: --token-file or ${TOKEN_VARIABLE}")
    elif config.tls_cert is None:
        warn("the token travels in clear; encrypt with --tls-cert and --tls-key")


def _log(line: str) -> None:
    """Statistics and clients' errors, to the error stream."""
    errors.print(line, markup=False, soft_wrap=True)
