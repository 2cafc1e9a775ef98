"""Python, packages and why each bound exists, packages that cannot live together, and what shadows what."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

import handeye
from handeye.doctor import probes
from handeye.doctor.findings import Finding, of

TOPIC = "environment"
ok, warn, fail = of(TOPIC)

WHY = {
    "mujoco": "from 3.3.3 the floor is drawn darker (OpenVLA on LIBERO-Object: 88 % -> 68 %), from 3.4.0 a stored "
    "scene settles differently (LIBERO-Spatial task 5: 98 % -> 12 %); below 3.2.3 nothing was compared",
    "torch": "older ones build no model on `meta`, take no tensors by assignment, and read pickles without restriction",
    "transformers": "before 4.51 there is no Qwen3, and programs that fall back load Qwen2; attention masks were "
    "compared from 5.24 on, and 6 may change them",
    "numpy": "2.0 promotes types differently, and other versions give other last bits",
    "tokenizers": "other versions may split a sentence into other tokens",
    "sentencepiece": "Gemma's token ids",
    "av": "from 18 on colours are converted in one thread: the same pixels on every machine",
    "simplejpeg": "libjpeg-turbo's fast DCT, the pixels that OpenVLA was trained on",
    "pillow": "its resampling is what policies were trained with",
    "h5py": "LIBERO's files",
    "pyarrow": "LeRobot's files",
    "safetensors": "weights without code",
    "google-crc32c": "checksums of RLDS records",
    "websockets": "openpi's protocol",
    "msgpack": "openpi's protocol",
    "scipy": "exact tests and intervals",
}
"""Package -> what another version does to a result."""

EXTRAS = {"sim", "data", "train", "report", "serve", "remote", ""}
"""What most users need. The others (orbax, ray, dev) are missed when they are used."""

COMPILED = (
    "numpy",
    "scipy",
    "h5py",
    "pyarrow",
    "av",
    "simplejpeg",
    "PIL",
    "mujoco",
    "safetensors",
    "tokenizers",
    "transformers",
)
"""Modules whose compiled parts must fit the others'; asked for in one process."""

PARTS = {
    "torchvision": "transformers imports it where it is installed",
    "torchaudio": "transformers imports it too",
    "flash_attn": "it must be built for this very torch",
    "bitsandbytes": "it must be built for this CUDA",
}
"""Not needed here, and broken as soon as torch changes."""

EVERYBODYS = {"tests", "test", "docs", "examples", "scripts", "benchmarks", "src", "_distutils_hack", "__pycache__"}
"""Top-level names that many packages leave behind by mistake."""


def check() -> Iterator[Finding]:
    yield _python()
    yield from _bounds()
    yield from _constraints()
    yield from _imports()
    yield _native()
    yield from _clashes()
    yield from _shadows()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    where = f"{version} in {sys.prefix}"
    if sys.prefix == sys.base_prefix:
        return warn(
            "Python",
            f"{where}, no environment of its own",
            "other programs' packages change its results",
            "python3 -m venv .venv && . .venv/bin/activate",
        )
    return ok("Python", where)


# ---- versions --------------------------------------------------------------------------------------------------------


def _bounds() -> Iterator[Finding]:
    """Of the installed handeye's own metadata."""
    try:
        wanted = metadata.requires("handeye") or []
    except metadata.PackageNotFoundError:
        yield warn(
            "packages",
            "handeye itself is not installed, only found on the path",
            "its bounds are not known",
            "pip install -c constraints.txt -e '.[all]'",
        )
        return
    good = 0
    for line in wanted:
        found = re.match(r"([A-Za-z0-9_.-]+)\s*(?:\[[^]]*\])?\s*([^;]*)(?:;.*extra\s*==\s*['\"](\w+)['\"])?", line)
        if found is None or found[1] == "handeye" or (found[3] or "") not in EXTRAS:
            continue
        name, bound, extra = found[1], found[2].strip(), found[3] or ""
        installed = _version(name)
        if installed is None:
            yield warn(name, "not installed", f"`handeye` without its part '{extra}' does less", _install(extra))
        elif not satisfies(installed, bound):
            yield fail(
                name,
                f"{installed}, wanted {bound}",
                WHY.get(name.lower(), "it was never tried"),
                f"pip install '{name}{bound}'",
            )
        else:
            good += 1
    yield ok("packages", f"{good} within their bounds")


def _install(extra: str) -> str:
    return f"pip install 'handeye[{extra}]'" if extra else "pip install handeye"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def satisfies(version: str, bound: str) -> bool:
    """Of release numbers alone: `>=5.24,<6`. A bound in another form is not judged."""
    have = _numbers(version)
    for part in filter(None, (each.strip() for each in bound.split(","))):
        match = re.fullmatch(r"(>=|<=|==|!=|<|>)\s*([0-9.]+)", part)
        if match is None:
            continue
        want, width = _numbers(match[2]), max(len(have), len(_numbers(match[2])))
        a, b = (tuple(n + (0,) * (width - len(n))) for n in (have, want))
        if not {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, "<": a < b, ">": a > b}[match[1]]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[0-9.]*", version)[0].strip(".").split(".") if part)  # type: ignore[index]


def _constraints() -> Iterator[Finding]:
    """The exact versions that the tests run with, where this is a checkout of the sources."""
    path = Path(handeye.__file__).parents[2] / "constraints.txt"
    if not path.is_file():
        return
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", path.read_text(), re.M))
    others = {
        name: have for name in pins if (have := _version(name)) is not None and _plain(have) != _plain(pins[name])
    }
    if not others:
        yield ok("constraints", f"{len(pins)} pins, every installed one met")
        return
    said = ", ".join(f"{name} {have} (tests: {pins[name]})" for name, have in sorted(others.items()))
    means = next((WHY[name] for name in others if name in WHY), "the tests ran with other versions")
    yield warn("constraints", said, means, "pip install -c constraints.txt -e '.[all]'")


def _plain(version: str) -> str:
    return version.partition("+")[0]


# ---- what imports, what clashes, what shadows ------------------------------------------------------------------------


def _imports() -> Iterator[Finding]:
    """A wheel that was built against another one fails when it is imported, not when it is installed."""
    there = [name for name in (*COMPILED, *PARTS) if util.find_spec(name) is not None]
    try:
        answers = probes.ask("imports", *there)
    except probes.UnansweredError as why:
        yield fail("compiled packages", str(why), "importing them ends the process", "make setup in a fresh .venv")
        return
    bad = {name: said for name, said in answers.items() if said}
    for name, said in bad.items():
        if name in PARTS:
            yield warn(name, said, f"{PARTS[name]}: loading a model may fail with this error", f"pip uninstall {name}")
        else:
            yield fail(name, said, "whatever needs it ends with this error", f"pip install --force-reinstall {name}")
    if not any(name in COMPILED for name in bad):
        yield ok("compiled packages", f"{len(there) - len(bad)} import together")


NATIVE = ("handeye.sim._step", "handeye.conventions._resize")
"""Parts in C. NumPy and Pillow compute the same bits without them."""


def _native() -> Finding:
    missing = [name for name in NATIVE if util.find_spec(name) is None]
    if missing:
        return warn(
            "parts in C",
            f"not compiled: {', '.join(missing)}",
            "the same numbers, several times slower",
            "apt-get install gcc python3-dev, then pip install -e . again",
        )
    return ok("parts in C", "compiled")


def _clashes() -> Iterator[Finding]:
    """Two packages that bring the same module: the later one wrote over the earlier one's files."""
    bad = 0
    for module, owners in sorted(metadata.packages_distributions().items()):
        names = sorted(set(owners))
        if len(names) < 2 or module in EVERYBODYS or module.startswith(("_", "nvidia", "google")):
            continue
        try:
            spec = util.find_spec(module)
        except (ImportError, ValueError, AttributeError):
            continue
        if spec is None or spec.origin is None:  # a namespace, which may have many owners
            continue
        bad += 1
        means = "which one is imported depends on the order of installation"
        if module == "libero":
            means = "LIBERO, LIBERO-plus and LIBERO-PRO are all called `libero` and share one configuration file"
        yield warn(
            f"module {module}",
            f"brought by {' and '.join(names)}",
            means,
            f"pip uninstall {names[0]}, then reinstall the one that you want",
        )
    if not bad:
        yield ok("one owner each", "no two packages bring the same module")


def _shadows() -> Iterator[Finding]:
    """What is imported must be what is installed."""
    here = Path(handeye.__file__).resolve().parent
    declared = _editable()
    if declared is not None and not here.is_relative_to(declared):
        yield fail(
            "handeye",
            f"imported from {here}, installed from {declared}",
            "changes in one are not seen in the other",
            f"pip install -e {declared}, or leave that folder",
        )
    else:
        yield ok("handeye", f"{handeye.__version__} from {here}")
    for name in ("torch", "numpy", "mujoco", "transformers"):
        spec = util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        try:
            root = Path(str(metadata.distribution(name).locate_file(""))).resolve()
        except metadata.PackageNotFoundError:
            yield fail(
                name,
                f"{spec.origin} belongs to no installed package",
                "a file of this name hides the library",
                "rename it, or take its folder out of PYTHONPATH",
            )
            continue
        if not Path(spec.origin).resolve().is_relative_to(root):
            yield fail(
                name,
                f"{spec.origin} hides the one in {root}",
                "another library than the installed one is used",
                "rename it, or take its folder out of PYTHONPATH",
            )


def _editable() -> Path | None:
    try:
        text = metadata.distribution("handeye").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    url = json.loads(text).get("url", "") if text else ""
    return Path(url.removeprefix("file://")).resolve() if url.startswith("file://") else None
