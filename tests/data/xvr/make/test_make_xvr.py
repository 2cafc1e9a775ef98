"""Made questions are true: every kind's answer is computed again from the written files, by other means than the maker
used (pixels of the marks, triangulation, likeness of pictures), and the pictures are drawn again by another camera."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from PIL import Image

from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.xvr.chance import KINDS, chance
from handeye.data.xvr.make.config import MakeXvrConfig
from handeye.data.xvr.make.kinds import MAKERS
from handeye.data.xvr.make.marks import COLOURS
from handeye.data.xvr.make.run import questions, run
from handeye.data.xvr.make.stage import Stage
from handeye.data.xvr.question import Question
from handeye.data.xvr.questions import Questions, open_questions
from handeye.data.xvr.verify import verify
from handeye.errors import UserError
from handeye.sim import tabletop
from handeye.sim.config import SimConfig
from handeye.types import EpisodeId

SIZE = 192
TABLE = 0.9
ROOM = {"train": 16, "valid": 8, "eval": 8}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(MakeXvrConfig(out=tmp_path_factory.mktemp("made") / "xvr", size=SIZE, pieces=400, **ROOM))


def of_task(root: Path, task: str) -> list[tuple[Question, list[np.ndarray]]]:
    found = []
    for split in open_questions(root).values():
        for question in split:
            if question.task == task:
                pictures = [split.store.decode(path).astype(int) for path in question.pictures]
                found.append((question, pictures))
    assert len(found) == 4
    return found


class Camera:
    """A pinhole, from what a line says of it."""

    def __init__(self, info: dict[str, Any]) -> None:
        camera = info["camera"]
        self.position, self.forward = np.array(camera["position"]), np.array(camera["forward"])
        down = -np.array(camera["up"])
        self.rotation = np.stack([np.cross(down, self.forward), down, self.forward])  # rows: x right, y down, z ahead
        self.focal = SIZE / (2 * np.tan(np.radians(camera["fovy"]) / 2))

    def pixel(self, point: np.ndarray) -> np.ndarray:
        x, y, z = self.rotation @ (point - self.position)
        return np.array([x, y]) / z * self.focal + SIZE / 2

    def ray(self, pixel: np.ndarray) -> np.ndarray:
        x, y = (np.asarray(pixel) - SIZE / 2) / self.focal
        ray = self.rotation.T @ np.array([x, y, 1.0])
        return ray / np.linalg.norm(ray)

    def on_table(self, pixel: np.ndarray) -> np.ndarray:
        ray = self.ray(pixel)
        return self.position + ray * (TABLE - self.position[2]) / ray[2]


def cameras(question: Question) -> list[Camera]:
    return [Camera(info) for info in question.extra["image_info"]]


def dot(picture: np.ndarray, colour: str) -> np.ndarray:
    """Where the picture has pixels of exactly this colour."""
    rows, columns = np.nonzero((picture == COLOURS[colour]).all(-1))
    assert len(rows) > 5, colour
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


def meet(rays: list[tuple[Camera, np.ndarray]]) -> tuple[np.ndarray, float]:
    """The point nearest to all lines of sight, and its largest distance from one."""
    normals = [np.eye(3) - np.outer(ray := camera.ray(at), ray) for camera, at in rays]
    point = np.linalg.solve(sum(normals), sum(n @ c.position for n, (c, _) in zip(normals, rays, strict=True)))
    return point, max(float(np.linalg.norm(n @ (point - c.position))) for n, (c, _) in zip(normals, rays, strict=True))


def point(question: Question, pictures: list[np.ndarray]) -> str:
    views = cameras(question)
    found, error = meet([(view, dot(picture, "orange")) for view, picture in zip(views[:2], pictures[:2], strict=True)])
    assert error < 0.01
    distances = {
        colour: np.linalg.norm(dot(pictures[2], colour) - views[2].pixel(found)) for colour in question.options
    }
    assert min(distances.values()) < 3 and sorted(distances.values())[1] > 0.05 * SIZE
    return min(distances, key=distances.__getitem__)


def directional(question: Question, pictures: list[np.ndarray]) -> str:
    def way(view: Camera, mark: dict[str, Any]) -> np.ndarray:
        return view.on_table(mark["tip"]) - view.on_table(mark["pixel"])

    first, second = cameras(question)
    (reference,), marks = (info["marks"] for info in question.extra["image_info"])
    for picture, mark in [(pictures[0], reference), *((pictures[1], mark) for mark in marks)]:
        x, y = np.round(0.45 * np.array(mark["pixel"]) + 0.55 * np.array(mark["tip"])).astype(int)
        near = picture[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3)
        assert (near == COLOURS[mark["colour"]]).all(1).any(), "the arrow is where its line says"
    wanted = way(first, reference)
    angles = {}
    for mark in marks:
        found = way(second, mark)
        cosine = np.dot(wanted, found) / np.linalg.norm(wanted) / np.linalg.norm(found)
        angles[mark["colour"]] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    assert sorted(round(angle / 90) for angle in angles.values()) == [0, 1, 1, 2]
    return min(angles, key=angles.__getitem__)


def spatial(question: Question, pictures: list[np.ndarray]) -> str:
    rays = [(view, dot(picture, "orange")) for view, picture in zip(cameras(question), pictures, strict=True)]
    errors = [meet(rays[:odd] + rays[odd + 1 :])[1] for odd in range(len(rays))]
    assert min(errors) < 0.01 and sorted(errors)[1] > 2 * min(errors)
    return str(int(np.argmin(errors)) + 1)


def temporal(question: Question, pictures: list[np.ndarray]) -> str:
    """By the moments that the pictures are drawn again from, below."""
    times = [round(info["state"][0], 6) for info in question.extra["image_info"]]
    hands = [hand(info) for info in question.extra["image_info"]]
    (odd,) = [n for n, time in enumerate(times) if times.count(time) == 1]
    assert min(np.linalg.norm(hands[odd] - other) for n, other in enumerate(hands) if n != odd) > 0.1
    return str(odd + 1)


def viewpoint(question: Question, pictures: list[np.ndarray]) -> str:
    above, other = cameras(question)
    seen = above.pixel(other.position)
    distances = {
        mark["colour"]: np.linalg.norm(np.array(mark["pixel"]) - seen)
        for mark in question.extra["image_info"][0]["marks"]
        if mark["kind"] == "dot"
    }
    for mark in question.extra["image_info"][0]["marks"]:
        x, y = np.array(mark["pixel"]).astype(int)
        assert (pictures[0][y, x] == COLOURS[mark["colour"]]).all()
    assert min(distances.values()) < 1 and sorted(distances.values())[1] > 15
    return min(distances, key=distances.__getitem__)


def directional_view(question: Question, pictures: list[np.ndarray]) -> str:
    here, *others = cameras(question)
    to_the_right = [(here.rotation @ (other.position - here.position))[0] for other in others]
    assert to_the_right[0] * to_the_right[1] < 0
    left = "your left" in question.prompt()
    return str(2 + int(np.argmin(to_the_right) if left else np.argmax(to_the_right)))


def cross_scenario(question: Question, pictures: list[np.ndarray]) -> str:
    """The same camera shows the same room: more equal pixels than any other pair."""
    asked = int(re.search(r"camera of Image (\d)", question.prompt())[1]) - 1
    alike = [(np.abs(pictures[asked] - other).max(-1) < 12).mean() for other in pictures[3:]]
    assert sorted(alike)[-1] > sorted(alike)[-2] + 0.05
    return str(4 + int(np.argmax(alike)))


def language(question: Question, pictures: list[np.ndarray]) -> str:
    """The robot stands at x = -0.66 and faces +x, so y is its left."""
    said = re.search(r"from a place (.*?)\?", question.prompt())[1]
    places = [camera.position for camera in cameras(question)]
    holds: dict[str, Callable[[np.ndarray], bool]] = {
        "on the robot's left": lambda p: p[1] > 0.2,
        "on the robot's right": lambda p: p[1] < -0.2,
        "opposite the robot": lambda p: p[0] > 2 * abs(p[1]),
        "beside the robot": lambda p: p[0] < abs(p[1]) / 2,
    }
    true = [holds[said](place) for place in places]
    assert sum(true) == 1
    return str(1 + true.index(True))


AGAIN: dict[str, Callable[[Question, list[np.ndarray]], str]] = {
    "task9": point, "task10": directional, "task6": spatial, "task1": temporal, "task_viewpoint": viewpoint,
    "task3": directional_view, "task2": cross_scenario, "task_language_conditioned": language,
}  # fmt: skip


@pytest.mark.parametrize("task", AGAIN)
def test_answers_are_true(root: Path, task: str) -> None:
    for question, pictures in of_task(root, task):
        assert AGAIN[task](question, pictures) == question.answer, question.id
        assert question.answer in question.options and question.answer_format == "single_choice"


def test_all_eight_kinds(root: Path) -> None:
    assert list(AGAIN) == list(MAKERS) and len(KINDS) == 8
    rates = chance(open_questions(root)["train"].entries)
    expected = [one.random / 100 for one in KINDS]
    for (task, kind), wanted in zip(MAKERS.items(), expected, strict=True):
        assert rates[task].random == pytest.approx(wanted, abs=0.03), (task, kind)  # Spatial: 4 or 5 pictures


# ---- the pictures ----------------------------------------------------------------------------------------------------


def played(info: dict[str, Any]):
    episode = EpisodeId(**info["episode"])
    env = tabletop.make(tabletop.tasks()[episode.task], SimConfig(cameras=()))
    env.reset(episode)
    env.restore(np.array(info["state"]))
    return env


def hand(info: dict[str, Any]) -> np.ndarray:
    return played(info).proprio()[:3]


@pytest.mark.parametrize("task", ["task1", "task2", "task6"])
def test_pictures_show_what_their_lines_say(root: Path, task: str) -> None:
    """Drawn again in a new environment, by a fixed camera of the model that is put where the line says."""
    question, pictures = of_task(root, task)[0]
    for info, picture in zip(question.extra["image_info"], pictures, strict=True):
        env, camera = played(info), Camera(info)
        model = env.model
        fixed = model.camera("frontview").id
        before = model.cam_pos[fixed].copy(), model.cam_quat[fixed].copy(), model.cam_fovy[fixed].copy()
        axes = np.stack([camera.rotation[0], -camera.rotation[1], -camera.rotation[2]], axis=1)
        model.cam_pos[fixed], model.cam_fovy[fixed] = camera.position, info["camera"]["fovy"]
        mujoco.mju_mat2Quat(model.cam_quat[fixed], axes.flatten())
        mujoco.mj_forward(model, env.data)
        option = mujoco.MjvOption()
        option.geomgroup[0] = 0
        with mujoco.Renderer(model, SIZE, SIZE) as renderer:
            renderer.update_scene(env.data, "frontview", option)
            again = renderer.render().astype(int)
        model.cam_pos[fixed], model.cam_quat[fixed], model.cam_fovy[fixed] = before
        differing = (np.abs(again - picture).max(-1) > 24).mean()
        marks = 0.02 * len(info["marks"])
        assert differing < 0.005 + marks


# ---- the files -------------------------------------------------------------------------------------------------------


def test_verified_as_any_xvr(root: Path) -> None:
    findings = verify(root)
    assert {finding.verdict for finding in findings} <= {"ok", "note"}
    assert {name: len(split) for name, split in open_questions(root).items()} == {
        "train": 16, "valid": 8, "xvr_eval": 8,
    }  # fmt: skip
    tokenize = Vocabulary.of(root / "tokenizer.model").load()
    longest = max(len(tokenize(question.prompt())) for question in Questions(root / "train.jsonl"))
    assert longest < 200


def test_the_same_again_and_another_seed(root: Path) -> None:
    """Whatever else was made before."""
    split = Questions(root / "valid.jsonl")
    with Stage(SIZE) as stage:
        again = dict(questions(stage, "valid", 8, seed=0))
        (_, other) = next(questions(stage, "valid", 8, seed=1))
    assert list(again) == [entry.id for entry in split.entries]
    for question in split:
        asked = again[question.id]
        assert asked.answer == question.answer and question.prompt().endswith(asked.question)
        for shot, path in zip(asked.shots, question.pictures, strict=True):
            assert np.array_equal(shot.picture, split.store.decode(path))
    assert not np.array_equal(other.shots[0].picture, split.store.decode(split[0].pictures[0]))


def test_scenes_of_one_file_are_in_no_other(root: Path) -> None:
    scenes = {
        name: {tuple(info["episode"].items()) for question in split for info in question.extra["image_info"]}
        for name, split in open_questions(root).items()
    }
    assert not scenes["train"] & scenes["xvr_eval"] and not scenes["train"] & scenes["valid"]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        MakeXvrConfig(out=tmp_path)
    with pytest.raises(UserError, match="--valid 3"):
        MakeXvrConfig(out=tmp_path / "x", valid=3)
    with pytest.raises(UserError, match="--size 32"):
        MakeXvrConfig(out=tmp_path / "x", size=32)


def test_a_picture_is_rgb_of_the_size_asked_for(root: Path) -> None:
    with Image.open(next((root / "images").glob("*.png"))) as image:
        assert image.size == (SIZE, SIZE) and image.mode == "RGB"
