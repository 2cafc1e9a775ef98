"""Every format that is read, as what is damaged: how a sound one is made, which of its files are damaged and how, and
how it is read to the last byte."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from damage import sets
from damage.changes import Change, either, in_bytes, in_hdf5, in_json, in_png, in_record, in_tar, in_text, in_zip
from handeye.data import pictures
from handeye.data.source import open_source
from handeye.data.statistics import Statistics, from_norm_stats
from handeye.data.verify.findings import exit_code
from handeye.data.xvr.questions import open_questions
from handeye.data.xvr.verify import verify as verify_questions
from handeye.errors import UserError
from handeye.records import read_json
from handeye.sim import init_states
from handeye.transfer.archives import unpack


@dataclass(frozen=True, kw_only=True)
class Kind:
    make: Callable[[Path], None]
    """Writes a sound set: the folder that is named, or the file."""

    read: Callable[[Path], object]
    """All of it. What it may raise is UserError."""

    changes: Mapping[str, Change]
    """End of a file's name -> what happens to such files."""

    weight: int = 1
    """How many of a run's cases it gets, in proportion."""


def demonstrations(root: Path) -> None:
    """What anybody may ask of a set."""
    source = open_source(root)
    for ref in source.episodes:
        episode = source.load(ref)
        if len(episode) != ref.length or {len(frames) for frames in episode.images.values()} != {ref.length}:
            raise AssertionError(f"{ref.id} should have {ref.length} steps, and has {len(episode)}")
        source.load(ref, images=False)
        source.frames(ref, [ref.length - 1, 0])
        source.stored_vectors(ref)


def questions(root: Path) -> None:
    """Read and verified: the two must agree on whether it is sound."""
    try:
        for split in open_questions(root).values():
            for question in split:
                for picture in question.pictures:
                    split.store.decode(picture)
        refused = None
    except UserError as error:
        refused = error
    found = exit_code(verify_questions(root))
    if refused is not None:
        if found == 0:
            raise AssertionError(f"verified as sound, and read as: {refused}")
        raise refused


def archive(path: Path) -> None:
    """Nothing is written outside, and nothing is left of a refused one."""
    with tempfile.TemporaryDirectory(prefix="unpacked-") as name:
        target = Path(name) / "deep" / "target"
        target.parent.mkdir()
        refused = None
        try:
            unpack(path, target)
        except UserError as error:
            refused = error
        outside = [found for found in Path(name).rglob("*") if target not in (found, *found.parents)]
        if outside != [target.parent] or (refused and target.exists()):
            raise AssertionError(f"left behind: {outside}, {target.exists()}")
        if refused:
            raise refused


def tensors(path: Path) -> None:
    from handeye.checkpoints.files import read_tensors

    for tensor in read_tensors([path]).values():
        tensor.float().sum().item()


def torch_file(path: Path) -> None:
    from handeye.checkpoints.files import read_pt

    read_pt(path)


def statistics(path: Path) -> None:
    entries = read_json(path, what="dataset statistics")
    for entry in entries.values() if isinstance(entries, dict) else [entries]:
        found = Statistics.from_json(entry)
        for vectors in (found.action, found.proprio):
            vectors.normalizer("mean_std"), vectors.normalizer("bounds"), vectors.normalizer("quantiles")


def norm_stats(path: Path) -> None:
    found = from_norm_stats(read_json(path, what="openpi's norm_stats.json"))
    found.action.normalizer("quantiles")


def picture(path: Path) -> None:
    content = path.read_bytes()
    pictures.header(content, str(path))
    pictures.decode(content, str(path))


def states(path: Path) -> None:
    init_states.read(path)


def kept_states(path: Path) -> None:
    init_states.load(path)


_HDF5 = {".hdf5": either(in_bytes, in_hdf5, in_hdf5)}
_LEROBOT = {".parquet": in_bytes, ".mp4": in_bytes, ".jsonl": in_text, ".json": in_text}
_RLDS = {"dataset_info.json": in_text, "features.json": in_text, "": in_bytes}

KINDS: Mapping[str, Kind] = {
    "hdf5-raw": Kind(make=partial(sets.published, raw=True), read=demonstrations, changes=_HDF5, weight=5),
    "hdf5-regenerated": Kind(make=partial(sets.published, raw=False), read=demonstrations, changes=_HDF5, weight=3),
    "hdf5-ours": Kind(make=sets.ours, read=demonstrations, changes=_HDF5, weight=5),
    "hdf5-gzip": Kind(
        make=partial(sets.published, raw=True, compression="gzip"), read=demonstrations, changes=_HDF5, weight=3
    ),
    "hdf5-latest": Kind(
        make=partial(sets.published, raw=True, libver="latest", compression="gzip"), read=demonstrations, changes=_HDF5
    ),
    "rlds": Kind(make=partial(sets.converted, to="rlds"), read=demonstrations, changes=_RLDS, weight=2),
    "rlds-right-checksums": Kind(
        make=partial(sets.converted, to="rlds"),
        read=demonstrations,
        changes={".json": in_json, "": in_record},
        weight=3,
    ),
    **{
        f"lerobot-{version}-{images}": Kind(
            make=partial(sets.converted, to="lerobot", lerobot_version=version, lerobot_images=images),
            read=demonstrations,
            changes=_LEROBOT,
            weight=2,
        )
        for version, images in (
            ("v2.0", "png"), ("v2.1", "png"), ("v2.1", "av1"), ("v3.0", "png"), ("v3.0", "av1"), ("v3.0", "h264"),
        )
    },
    "xvr": Kind(
        make=sets.xvr,
        read=questions,
        changes={".jsonl": in_text, ".png": either(in_bytes, in_png), ".tar": either(in_bytes, in_tar)},
        weight=3,
    ),
    "zip": Kind(make=sets.zipped, read=archive, changes={"": either(in_bytes, in_bytes, in_zip)}),
    "tar": Kind(make=sets.tar, read=archive, changes={"": either(in_bytes, in_tar)}),
    **{
        f"tar.{packing}": Kind(make=partial(sets.tar, mode=f"w:{packing}"), read=archive, changes={"": in_bytes})
        for packing in ("gz", "bz2", "xz")
    },
    "init-plain": Kind(make=partial(sets.initial_states, layout="plain"), read=states, changes={"": in_bytes}),
    "init-legacy": Kind(make=partial(sets.initial_states, layout="legacy"), read=states, changes={"": in_bytes}),
    "init-zip": Kind(
        make=partial(sets.initial_states, layout="zip"), read=states, changes={"": either(in_bytes, in_zip)}
    ),
    "init-npz": Kind(
        make=partial(sets.initial_states, layout="npz"), read=kept_states, changes={"": either(in_bytes, in_zip)}
    ),
    "safetensors": Kind(make=sets.safetensors, read=tensors, changes={"": in_bytes}),
    "pt": Kind(make=sets.torch_file, read=torch_file, changes={"": either(in_bytes, in_zip)}, weight=2),
    "statistics": Kind(make=sets.statistics, read=statistics, changes={"": in_text}),
    "norm-stats": Kind(make=sets.norm_stats, read=norm_stats, changes={"": in_text}),
    "jpeg": Kind(make=partial(sets.picture, codec="jpeg"), read=picture, changes={"": in_bytes}),
    "png": Kind(make=partial(sets.picture, codec="png"), read=picture, changes={"": either(in_bytes, in_png)}),
}  # fmt: skip
