"""Files, folders, globs, lists and shards of pictures, and several of these, are listed."""

import pickle
import tarfile

import numpy as np
import pytest

from torchnle import images
from torchnle.attr.dataset.picture_list import PictureList


@pytest.fixture
def shard(folder):
    file = folder.parent / "train-000.tar"
    with tarfile.open(file, "w") as tar:
        for name in ("03.png", "04.png", "00.png"):
            tar.add(folder / name, name)
        (folder / "03.txt").write_text("a caption")
        tar.add(folder / "03.txt", "03.txt")
    return file


def test_a_folder_a_glob_and_a_list_are_the_same(folder, tmp_path):
    (tmp_path / "all.txt").write_text("".join(f"photos/{n:02}.png\n\n" for n in range(11)))
    expected = [str(folder / f"{n:02}.png") for n in range(11)]
    for given in (folder, str(folder), f"{folder}/*.png", f"{tmp_path}/**/*.*", tmp_path / "all.txt"):
        assert list(PictureList(given).names()) == expected
    assert list(PictureList([folder / "01.png", tmp_path / "all.txt"]).names()) == [expected[1], *expected]


def test_members_of_a_shard_are_opened_by_their_bytes(folder, shard):
    pictures = PictureList([folder / "05.png", shard, folder / "06.png"])
    inside = [f"{shard}/{name}" for name in ("03.png", "04.png", "00.png")]
    assert list(pictures.names()) == [str(folder / "05.png"), *inside, str(folder / "06.png")]
    for number, file in ((0, "05.png"), (1, "03.png"), (3, "00.png"), (4, "06.png")):
        opened = pickle.loads(pickle.dumps(pictures)).open(number)
        assert np.array_equal(np.asarray(opened), np.asarray(images.open_image(folder / file)))
    with pytest.raises(ValueError, match=r"train-000\.tar/04\.png is not an image"):
        pictures.open(2)


def test_shards_by_patterns(shard):
    second = shard.with_name("train-001.tar")
    second.write_bytes(shard.read_bytes())
    expected = [*PictureList(shard).names(), *PictureList(second).names()]
    assert list(PictureList(str(shard.with_name("train-*.tar"))).names()) == expected
    pytest.importorskip("webdataset")
    assert list(PictureList(str(shard.with_name("train-{000..001}.tar"))).names()) == expected


def test_strange_names_come_back(folder):
    for name in ("a\udcff.png", "日本.png", "a [1].png"):
        (folder / name).write_bytes((folder / "00.png").read_bytes())
        pictures = PictureList([folder / name])
        assert pictures.name(0) == str(folder / name)
        assert pictures.open(0).size == (12, 9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("none.png", "none.png is not there"),
        ("none/*.png", "matches no file"),
        ("empty", "holds no pictures"),
        ("classes", r"Pass a pattern for those in its folders: 'classes/\*\*/\*\.png'"),
        ("empty.txt", "is empty"),
        ("no.tar", "not a whole, uncompressed tar"),
        ("https://a.b/c.tar", "is an address; download"),
        ("texts.tar", r"texts\.tar holds no pictures"),
    ],
)
def test_nothing_there_is_told(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "classes" / "cat").mkdir(parents=True)
    (tmp_path / "classes" / "cat" / "1.png").touch()
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "no.tar").write_text("no tar" * 200)
    with tarfile.open(tmp_path / "texts.tar", "w") as tar:
        tar.add("empty.txt")
    with pytest.raises(ValueError, match=message):
        PictureList(given)


def test_no_paths_are_refused(lang):
    with pytest.raises(TypeError, match="among the files is a int"):
        PictureList(["a.png", 3])


def test_a_shard_that_went_away_is_told(shard):
    pictures = PictureList(shard)
    shard.unlink()
    with pytest.raises(ValueError, match=r"03\.png cannot be read"):
        pictures.open(0)
