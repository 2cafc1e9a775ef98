"""What is said over the socket: a question and its answer, in openpi's form for LIBERO and in our own. Writing and
reading stand side by side, so that the two cannot drift apart. Bytes are the business of `wire`.

openpi's form holds one observation. Its images are those of openpi's LIBERO client: the raw rendering turned by 180
degrees, which is upright but mirrored, brought to 224 x 224 (openpi examples/libero/main.py at 15a9616). Ours holds
several observations as they are, each with the seed of its noise, so a served policy gives the chunks of a local one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from handeye.conventions import image, libero
from handeye.conventions.image import Orientation
from handeye.conventions.spec import ProprioSpec, Specs
from handeye.errors import UserError
from handeye.types import ActionChunk, Observation

FORMAT = 1
"""Of our own form; a server declares it in its metadata, and another number is not spoken to."""

OPENPI_IMAGES = {"agentview": "observation/image", "wrist": "observation/wrist_image"}
"""Our name of a camera -> openpi's key."""

OPENPI_STATE, OPENPI_PROMPT = "observation/state", "prompt"
SEED = "seed"
"""Not openpi's: a client that knows of it says which noise it wants."""

OPENPI_SIZE = 224
"""Of the images in openpi's form (its LIBERO client's resize_size)."""

OPENPI_METHOD: image.Method = "bilinear"
"""Pillow's, the aspect ratio kept (openpi_client image_tools.py: resize_with_pad)."""

OPENPI_RENDERED = 256
"""What its client renders before it resizes (LIBERO_ENV_RESOLUTION)."""

MOST_PIXELS = 4096
"""Along one side of an image. More is a mistake or an attack."""

MOST_PROMPT = 10_000
"""Characters."""

MOST_STEPS = 10_000
"""Actions in a chunk."""


# ---- our own form ----------------------------------------------------------------------------------------------------


def question(observations: Sequence[Observation]) -> dict[str, Any]:
    asked = [
        {"images": dict(seen.images), "proprio": seen.proprio, "prompt": seen.prompt, SEED: seen.seed}
        for seen in observations
    ]
    return {"handeye": FORMAT, "observations": asked}


def read_question(asked: Mapping[Any, Any], specs: Specs, *, most: int) -> list[Observation]:
    """At most so many observations, exactly as the specs declare them. UserError names what is not."""
    listed = asked.get("observations")
    if asked.get("handeye") != FORMAT or not isinstance(listed, list) or not 0 < len(listed) <= most:
        raise _bad(
            "The question is not of a form that this server reads.",
            f"expected 'handeye': {FORMAT} and 'observations', a list of 1 to {most}",
        )
    return [_read_observation(one, specs) for one in listed]


def _read_observation(one: Any, specs: Specs) -> Observation:
    given = _mapping(one, "an observation")
    images = _mapping(given.get("images"), "'images'")
    size = (specs.image.height, specs.image.width)
    seen = {}
    for name in specs.image.cameras:
        picture = _picture(images.get(name), f"the image of the camera '{name}'")
        if picture.shape[:2] != size:
            found = "x".join(map(str, picture.shape[:2]))
            raise _bad(f"The image of '{name}' is {found}.", f"the policy sees {size[0]}x{size[1]}")
        seen[name] = picture
    return Observation(
        images=seen,
        proprio=_proprio(given.get("proprio"), specs.proprio, "'proprio'"),
        prompt=_prompt(given.get("prompt")),
        seed=_seed(given.get(SEED)),
    )


def answer(chunks: Sequence[ActionChunk]) -> dict[str, Any]:
    return {"chunks": [chunk.actions for chunk in chunks]}


def read_answer(answered: Any, specs: Specs, *, count: int) -> list[ActionChunk]:
    """UserError where it is no answer to `count` observations."""
    chunks = answered.get("chunks") if isinstance(answered, dict) else None
    if not isinstance(chunks, list) or len(chunks) != count:
        raise _foreign(f"expected {count} chunks, found {_shown(answered)}")
    return [_chunk(actions, specs.action.width) for actions in chunks]


# ---- openpi's form, for LIBERO ---------------------------------------------------------------------------------------


def openpi_question(seen: Observation) -> dict[str, Any]:
    """What openpi's LIBERO client sends: turned and resized images, the eight numbers in float64, the sentence."""
    pictures = {}
    for name, key in OPENPI_IMAGES.items():
        turned = image.convert(seen.images[name], source=Orientation.UPRIGHT, target=Orientation.TURNED_180)
        pictures[key] = image.fit(turned, height=OPENPI_SIZE, width=OPENPI_SIZE, method=OPENPI_METHOD)
    return {**pictures, OPENPI_STATE: seen.proprio.astype(np.float64), OPENPI_PROMPT: seen.prompt}


def read_openpi_question(asked: Mapping[Any, Any], specs: Specs, *, seed: int, exact: bool = False) -> Observation:
    """An observation as the policy's specs declare it: turned back, and resized unless `exact`, which refuses another
    size. `seed`: for clients that name none."""
    size, seen = (specs.image.height, specs.image.width), {}
    for name in specs.image.cameras:
        key = OPENPI_IMAGES[name]
        picture = _picture(_as_bytes(asked.get(key)), f"'{key}'")
        if picture.shape[:2] != size and exact:
            raise _bad(
                f"'{key}' is {picture.shape[0]}x{picture.shape[1]}.",
                f"the policy sees {size[0]}x{size[1]}, and the server was told to take nothing else",
            )
        sized = image.fit(picture, height=size[0], width=size[1], method=OPENPI_METHOD)
        seen[name] = image.convert(sized, source=Orientation.TURNED_180, target=specs.image.orientation)
    return Observation(
        images=seen,
        proprio=_proprio(asked.get(OPENPI_STATE), specs.proprio, f"'{OPENPI_STATE}'"),
        prompt=_prompt(asked.get(OPENPI_PROMPT)),
        seed=_seed(asked[SEED]) if SEED in asked else seed,
    )


def openpi_answer(chunk: ActionChunk) -> dict[str, Any]:
    return {"actions": chunk.actions}


def read_openpi_answer(answered: Any) -> ActionChunk:
    """LIBERO's seven numbers per step are executed as they are: openpi's LIBERO policies answer in its own convention,
    -1 opens (openpi examples/libero/main.py hands them to env.step unchanged)."""
    actions = answered.get("actions") if isinstance(answered, dict) else None
    if actions is None:
        raise _foreign(f"expected 'actions', found {_shown(answered)}")
    return _chunk(actions, libero.ACTION.width)


OPENPI_SPECS = libero.specs(camera_size=OPENPI_RENDERED)
"""What an openpi server for LIBERO means by its numbers. It declares nothing itself."""


def openpi_obstacle(specs: Specs) -> str | None:
    """Why openpi's LIBERO clients cannot use a policy with these specs; None: they can."""
    if unknown := [name for name in specs.image.cameras if name not in OPENPI_IMAGES]:
        return f"it looks through the camera '{unknown[0]}', which openpi's LIBERO clients do not have"
    if specs.proprio != libero.PROPRIO or specs.action != libero.ACTION:
        return "its proprioception or its actions are not LIBERO's"
    return None


def openpi_declaration(specs: Specs, *, exact: bool) -> dict[str, Any]:
    """For the server's metadata: key -> what is expected there."""
    if obstacle := openpi_obstacle(specs):
        return {"offered": False, "why": obstacle}
    size = {"height": specs.image.height, "width": specs.image.width}
    other = "refused" if exact else "resized with padding"
    pictures = {
        OPENPI_IMAGES[name]: {"camera": name, "orientation": "TURNED_180", **size, "other_sizes": other}
        for name in specs.image.cameras
    }
    return {
        "offered": True,
        "keys": {
            **pictures,
            OPENPI_STATE: specs.proprio.to_json(),
            OPENPI_PROMPT: "the task's sentence",
            SEED: "optional: an integer that decides the noise",
        },
        "actions": specs.action.to_json(),
    }


# ---- checks ----------------------------------------------------------------------------------------------------------


def _as_bytes(picture: Any) -> Any:
    """openpi's servers also take floats in [0, 1] and channels first, as LeRobot stores them
    (openpi policies/libero_policy.py:20-35); values are cut, not rounded."""
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        return picture
    if picture.dtype.kind == "f":
        if not (np.isfinite(picture).all() and picture.min(initial=0) >= 0 and picture.max(initial=0) <= 1):
            raise _bad("An image of floats has values outside 0 to 1.", "floats are a fraction of full light")
        picture = (255 * picture).astype(np.uint8)
    return np.moveaxis(picture, 0, -1) if picture.shape[0] == 3 else picture


def _picture(value: Any, what: str) -> np.ndarray:
    """uint8 (H, W, 3)."""
    if value is None:
        raise _bad(f"{what} is missing.", "the policy looks through that camera")
    sound = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[-1] == 3
    if not sound or not 0 < min(value.shape) <= max(value.shape) <= MOST_PIXELS:
        raise _bad(f"{what} is {_shown(value)}.", f"expected uint8 (H, W, 3), 1 to {MOST_PIXELS} pixels a side")
    return np.asarray(value)


def _proprio(value: Any, spec: ProprioSpec, what: str) -> np.ndarray:
    """float32 (S,)."""
    numbers = isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.shape == (spec.width,)
    if not numbers:
        raise _bad(f"{what} is {_shown(value)}.", f"expected {spec.width} numbers: {dict(spec.parts)}")
    with np.errstate(over="ignore"):
        vector = np.asarray(value, np.float32)
    if not np.isfinite(vector).all():
        raise _bad(f"{what} holds numbers that are not finite.", str(vector.tolist()))
    return vector


def _prompt(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MOST_PROMPT:
        raise _bad(f"'prompt' is {_shown(value)}.", f"expected text of 1 to {MOST_PROMPT} characters")
    return str(value)


def _seed(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**64:
        raise _bad(f"'seed' is {_shown(value)}.", "expected an integer from 0 to 2**64 - 1")
    return value


def _chunk(actions: Any, width: int) -> ActionChunk:
    sound = isinstance(actions, np.ndarray) and actions.dtype.kind in "fiu" and actions.ndim == 2
    if not sound or actions.shape[1] != width or not 0 < len(actions) <= MOST_STEPS:
        raise _foreign(f"expected actions of shape (steps, {width}), found {_shown(actions)}")
    return ActionChunk(actions=np.array(actions, np.float32))  # a copy that may be written to


def _mapping(value: Any, what: str) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        raise _bad(f"{what} is {_shown(value)}.", "expected a map")
    return value


_SHOWN: dict[type, Callable[[Any], str]] = {
    np.ndarray: lambda a: f"an array {a.dtype} {a.shape}",
    dict: lambda d: f"a map with the keys {', '.join(repr(k)[:40] for k in list(d)[:8]) or '(none)'}",
    list: lambda v: f"a list of {len(v)}",
    type(None): lambda _: "missing",
}


def _shown(value: Any) -> str:
    return _SHOWN.get(type(value), lambda v: repr(v)[:80])(value)


def _bad(what: str, why: str) -> UserError:
    return UserError(what, why=why, fix="the server's metadata says what it expects (docs/serving.md)")


def _foreign(why: str) -> UserError:
    return UserError(
        "The server's answer is not one that a LIBERO robot can execute.",
        why=why,
        fix="serve a policy for LIBERO there, or evaluate another address",
    )
