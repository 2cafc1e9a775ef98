"""Which class writes a format, and which flags are its business."""

from __future__ import annotations

from handeye.data.config import ConvertConfig
from handeye.data.source import Writer


def make_writer(config: ConvertConfig) -> Writer:
    if config.to == "hdf5":
        from handeye.data.hdf5.writer import Hdf5Writer

        return Hdf5Writer(packed=config.hdf5_images == "gzip")
    if config.to == "rlds":
        from handeye.data.rlds.write import RldsWriter

        return RldsWriter(name=config.name or config.target.name)
    from handeye.data.lerobot.write import LeRobotWriter

    return LeRobotWriter(version=config.lerobot_version, images=config.lerobot_images, keys=config.lerobot_keys)
