from __future__ import annotations

import pytest

from handeye.data.fetch.repositories import REPOSITORIES, choose, select, surprise
from handeye.errors import UserError


def names(kind: str, *suites: str, repo: str = "") -> list[tuple[str, tuple[str, ...]]]:
    return [(repository.name, part) for repository, part in choose(kind, suites, repo)]


def test_each_suite_comes_from_the_first_set_that_has_it_by_itself() -> None:
    assert names("hdf5", "libero_goal", "libero_90") == [
        ("yifengzhu-hf/LIBERO-datasets", ("libero_goal", "libero_90")),
    ]
    assert names("lerobot", "libero_10", "libero_goal") == [
        ("lerobot/libero_goal_image", ("libero_goal",)),
        ("lerobot/libero_10_image", ("libero_10",)),
    ]
    four = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
    assert names("rlds", "all") == [("openvla/modified_libero_rlds", four)]
    assert names("hdf5", "all")[0][1] == (*four, "libero_90")
    assert [name for name, _ in names("lerobot", "all")] == [f"lerobot/{suite}_image" for suite in four]


def test_a_set_that_mixes_suites_comes_whole_or_not_at_all() -> None:
    four = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
    assert names("lerobot", "all", repo="lerobot/libero") == [("lerobot/libero", four)]
    assert names("lerobot", *reversed(four), repo="lerobot/libero")[0][0] == "lerobot/libero"
    with pytest.raises(UserError, match="cannot be had in part"):
        names("lerobot", "libero_goal", repo="HuggingFaceVLA/libero")


def test_names_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="no suite in the sources of rlds called 'libero_90'"):
        names("rlds", "libero_90")
    with pytest.raises(UserError, match="--source lerobot"):
        names("hdf5", "all", repo="lerobot/libero")
    assert names("hdf5", "libero_90", repo="me/mine") == [("me/mine", ("libero_90",))]


def test_files_of_a_suite() -> None:
    ((rlds, _),) = choose("rlds", ["libero_10"], "")
    folder = "libero_10_no_noops/1.0.0"
    shards = [f"{folder}/liber_o10-train.tfrecord-{number:05d}-of-00003" for number in range(3)]
    described = [f"{folder}/dataset_info.json", f"{folder}/features.json"]
    other = ["README.md", ".gitattributes", "libero_goal_no_noops/1.0.0/features.json"]
    assert select(rlds, "libero_10", [*other, *shards, *described]) == sorted([*shards, *described])
    with pytest.raises(UserError, match="00001-of-00003"):
        select(rlds, "libero_10", [shards[0], shards[2], *described])
    with pytest.raises(UserError, match=r"features\.json"):
        select(rlds, "libero_10", [*shards, described[0]])
    with pytest.raises(UserError, match="at its top are: libero_spatial"):
        select(choose("hdf5", ["libero_90"], "me/mine")[0][0], "libero_90", ["libero_spatial/a.hdf5"])


def test_a_number_of_files_that_is_not_the_known_one_is_told() -> None:
    ((hdf5, _),) = choose("hdf5", ["libero_goal"], "")
    ten = [f"libero_goal/{number}_demo.hdf5" for number in range(10)]
    assert surprise(hdf5, "libero_goal", ten) == ""
    assert "has 9 files" in surprise(hdf5, "libero_goal", ten[1:])
    assert surprise(choose("hdf5", ["libero_goal"], "me/mine")[0][0], "libero_goal", ten[1:]) == ""


def test_every_entry_says_where_it_is_from() -> None:
    assert len({repository.name for repository in REPOSITORIES}) == len(REPOSITORIES) >= 9
    for repository in REPOSITORIES:
        assert repository.source and repository.about and repository.suites
