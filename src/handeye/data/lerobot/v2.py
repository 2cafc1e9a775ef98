"""LeRobot versions 2.0 and 2.1 on the disk: a parquet file per episode, a video per episode and camera, JSON lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as pq

from handeye.data.lerobot.assembly import CHUNK, Assembly, plain, synced, write_json, write_lines
from handeye.data.lerobot.info import FPS, place
from handeye.data.lerobot.statistics import Stats, together
from handeye.data.lerobot.tables import AT_ONCE
from handeye.records import write_bytes

DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def assemble(whole: Assembly) -> dict[str, Any]:
    """Everything but meta/info.json, which is returned."""
    start = 0
    listed: list[dict[str, Any]] = []
    collected: list[dict[str, Stats]] = []
    for number, part in enumerate(whole.parts):
        names = {"episode_chunk": number // CHUNK, "episode_index": number}
        table, stats = whole.episode(number, start)
        path = place(whole.out, DATA, **names)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=AT_ONCE)
        synced(path)
        for key in part.sizes:
            write_bytes(place(whole.out, VIDEO, video_key=key, **names), part.member(key))
        listed.append({"episode_index": number, "tasks": [part.sentence], "length": part.length})
        collected.append(stats)
        start += part.length
    meta = whole.out / "meta"
    write_lines(meta / "tasks.jsonl", [{"task_index": n, "task": sentence} for sentence, n in whole.tasks.items()])
    write_lines(meta / "episodes.jsonl", listed)
    if whole.version == "v2.1":
        lines = [{"episode_index": number, "stats": plain(stats)} for number, stats in enumerate(collected)]
        write_lines(meta / "episodes_stats.jsonl", lines)
    else:
        write_json(meta / "stats.json", plain(_of_the_set(collected)))
    films = whole.images != "png"
    return {
        "codebase_version": whole.version,
        "robot_type": "panda",
        "total_episodes": len(whole.parts),
        "total_frames": whole.frames,
        "total_tasks": len(whole.tasks),
        "total_videos": len(whole.parts) * len(whole.keys.cameras) * films,
        "total_chunks": 1 + (len(whole.parts) - 1) // CHUNK,
        "chunks_size": CHUNK,
        "fps": FPS,
        "splits": {"train": f"0:{len(whole.parts)}"},
        "data_path": DATA,
        "video_path": VIDEO if films else None,
        "features": whole.features(),
    }


def _of_the_set(collected: list[dict[str, Stats]]) -> dict[str, Stats]:
    """Version 2.0 keeps one entry for all episodes, without counts; in double precision, as JSON has it."""
    double = [
        {key: {name: np.asarray(value, np.float64) for name, value in of_key.items()} for key, of_key in stats.items()}
        for stats in collected
    ]
    for key, of_key in (merged := together(double)).items():
        of_key.pop("count")
        for name in ("min", "max"):  # whole numbers stay whole
            of_key[name] = of_key[name].astype(collected[0][key][name].dtype)
    return merged
