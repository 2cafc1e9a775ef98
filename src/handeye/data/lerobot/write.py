"""LeRobot sets as the lerobot library writes them (0.3.3 for versions 2, 0.4.4 for version 3), without the library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from handeye.data.lerobot import v2, v3
from handeye.data.lerobot.assembly import Assembly, durable, write_json
from handeye.data.lerobot.keys import STYLES, ImageKind, KeyStyle, Version
from handeye.data.lerobot.part import encode, look
from handeye.data.source import Format
from handeye.errors import UserError
from handeye.records import write_bytes
from handeye.types import Episode


@dataclass(frozen=True, kw_only=True)
class LeRobotWriter:
    """One set of all episodes, in order. Pictures are turned by 180 degrees and fps is 10, as in every published copy
    of LIBERO."""

    version: Version = "v3.0"
    """v2.1 is what openpi reads, v3.0 what lerobot 0.4 and later do."""

    images: ImageKind = "png"
    keys: KeyStyle = "lerobot"

    data_mb: int = 100
    video_mb: int = 200
    """Version 3: a file is closed before it grows beyond this; an episode is never cut. The library's own limits."""

    @property
    def format(self) -> Format:
        return "lerobot"

    @property
    def drops(self) -> tuple[str, ...]:
        return (
            "simulator states",
            "joints",
            "success",
            "digits of vectors beyond float32",
            *((f"exact pixels ({self.images})",) if self.images != "png" else ()),
            "where an episode comes from, and the names of its task and suite (its sentence stays)",
        )

    def encode(self, episode: Episode, part: Path) -> None:
        settings = {"version": self.version, "images": self.images, "keys": self.keys}
        write_bytes(part, encode(episode, keys=STYLES[self.keys], images=self.images, settings=settings))

    def assemble(self, parts: Sequence[Path], out: Path) -> None:
        if not parts:
            raise ValueError("a LeRobot set has at least one episode")
        looked = [look(path) for path in parts]
        for part in looked:
            if part.settings != looked[0].settings:
                raise UserError(
                    "The episodes do not fit into one LeRobot set.",
                    why=f"{dict(looked[0].settings)} in one, {dict(part.settings)} in another",
                    fix="convert those of each kind into a set of their own",
                )
        whole = Assembly(
            out=out,
            version=self.version,
            images=self.images,
            keys=STYLES[self.keys],
            size=(looked[0].settings["height"], looked[0].settings["width"]),
            parts=looked,
            tasks={sentence: number for number, sentence in enumerate(dict.fromkeys(part.sentence for part in looked))},
        )
        with durable(out):
            if self.version == "v3.0":
                info = v3.assemble(whole, data_mb=self.data_mb, video_mb=self.video_mb)
            else:
                info = v2.assemble(whole)
            write_json(out / "meta" / "info.json", info)  # last: a folder with it is complete
