from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import pytest

from handeye.data.xvr.store import Store
from handeye.errors import UserError


def test_files_and_members_of_shards(folder: Path, made) -> None:
    store = Store(folder)
    for number in (1, 4, 5):
        assert store.read(f"images/img_{number}.png") == made["png"](number)
    assert store.decode("images/img_5.png").shape == (6, 8, 3)
    assert store.has("images/img_4.png") and not store.has("images/img_6.png")
    assert not (folder / "images/img_4.png").exists()  # nothing was unpacked
    with pytest.raises(UserError, match=r"no picture images/img_6\.png") as caught:
        store.read("images/img_6.png")
    assert "1 tar shards" in caught.value.why
    again = pickle.loads(pickle.dumps(store))
    assert again.read("images/img_4.png") == made["png"](4)


def test_the_folder_goes_before_the_shards(folder: Path, made) -> None:
    made["write_shard"](folder / "image_shards/images_001.tar", {"images/img_1.png": b"another"})
    store = Store(folder)
    assert store.read("images/img_1.png") == made["png"](1)
    assert store.twin("images/img_1.png") == b"another"
    assert store.twin("images/img_2.png") is None and store.twin("images/img_4.png") is None


def test_shards_may_leave_the_folder_out_of_their_names(tmp_path: Path, made) -> None:
    made["write_shard"](tmp_path / "a.tar", {"img_1.png": b"1", "./images/img_2.png": b"2"})
    store = Store(tmp_path)
    assert store.read("images/img_1.png") == b"1" and store.read("images/img_2.png") == b"2"
    assert not store.has("img_1.png")
    assert not Store(tmp_path / "none").has("images/img_1.png")


def test_which_of_two_is_meant_cannot_be_known(folder: Path, made) -> None:
    made["write_shard"](folder / "more.tar", {"images/img_5.png": b"1"})
    with pytest.raises(UserError, match=r"holds images/img_5\.png, and so does"):
        Store(folder).has("images/img_9.png")


def test_shards_that_are_no_good(folder: Path) -> None:
    shard = folder / "image_shards/images_000.tar"
    content = shard.read_bytes()
    for damaged, why in ((content[: len(content) // 20], "cannot be used"), (b"", "cannot be used")):
        shard.write_bytes(damaged)
        with pytest.raises(UserError, match=why) as caught:
            Store(folder).has("images/img_9.png")
        assert "images_000.tar" in caught.value.what
    shard.unlink()
    with tarfile.open(shard, "w:gz"):
        pass
    with pytest.raises(UserError, match=r"compressed \(gz\)"):
        Store(folder).has("images/img_9.png")


def test_links_that_lead_out(folder: Path, tmp_path: Path, made) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(made["png"](9))
    (folder / "images/img_1.png").unlink()
    (folder / "images/img_1.png").symlink_to(secret)
    with pytest.raises(UserError, match="leads out of the data set"):
        Store(folder).read("images/img_1.png")
    (folder / "loose.png").symlink_to(secret)
    with pytest.raises(UserError, match="leads out of the data set"):
        Store(folder).read("loose.png")
    (folder / "images/img_1.png").unlink()
    (folder / "images").rename(tmp_path / "disk")
    (folder / "images").symlink_to(tmp_path / "disk")  # the user's own arrangement
    assert Store(folder).read("images/img_2.png") == made["png"](2)


def test_a_picture_that_could_not_be_one(folder: Path, made) -> None:
    with (folder / "images/img_1.png").open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(UserError, match="100000000 bytes"):
        Store(folder).read("images/img_1.png")
    (folder / "images/img_2.png").write_bytes(made["png"](2, mode="RGBA"))
    assert Store(folder).decode("images/img_2.png").shape == (6, 8, 3)  # what alpha hid is shown, as the reference does
