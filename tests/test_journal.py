"""A journal resumes, cuts off what a kill left, and says which line is damaged."""

import json

import pytest

from torchnle import images
from torchnle.data import captions, image_folders
from torchnle.journal import Journal, LineJournal

SETTING = {"seed": 0, "size": (2, 3)}


@pytest.fixture
def file(tmp_path):
    found = tmp_path / "new" / "lines.jsonl"
    LineJournal(found, SETTING).append([{"n": n} for n in range(5)])
    return found


def test_lines_come_back(file):
    assert LineJournal(file, SETTING).lines == [{"n": n} for n in range(5)]
    assert file.read_text().splitlines()[0] == json.dumps(SETTING)


@pytest.mark.parametrize("lost", range(1, 9))
def test_a_line_cut_by_a_kill_is_dropped(file, lost):
    file.write_bytes(file.read_bytes()[:-lost])
    again = LineJournal(file, SETTING)
    assert again.lines == [{"n": n} for n in range(4)]
    again.append([{"n": 4}])
    assert LineJournal(file, SETTING).lines == [{"n": n} for n in range(5)]


def test_the_rest_is_cut_off(file):
    journal = LineJournal(file, SETTING)
    journal.keep(2)
    assert journal.lines == LineJournal(file, SETTING).lines == [{"n": 0}, {"n": 1}]


def test_another_run_at_work_is_not_cut_off(file):
    journal = LineJournal(file, SETTING)
    LineJournal(file, SETTING).append([{"n": 5}])
    with pytest.raises(ValueError, match="another run"):
        journal.keep(2)
    assert len(LineJournal(file, SETTING).lines) == 6


def test_another_setting_is_refused_and_nothing_is_written(file):
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"lines\.jsonl holds words of another setting.*Remove the file"):
        LineJournal(file, {"seed": 1}, "words")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'["b", \n', "line 3, is damaged"), (b"\xff\xfe\n", "not UTF-8"), (b"[1]\n", "line 3, is no part")],
)
def test_damage_is_said_by_line(tmp_path, content, message):
    file = tmp_path / "parts.jsonl"
    Journal(file, SETTING).get("a", lambda: 1)
    file.write_bytes(file.read_bytes() + content)
    with pytest.raises(ValueError, match=message):
        Journal(file, SETTING)


def test_nothing_is_stored_without_a_file():
    journal = Journal()
    assert journal.get("a", lambda: 1) == journal.get("a", lambda: 2) == 1
    LineJournal(None, {}).append([1])


@pytest.mark.parametrize("ending", sorted(images.SUFFIXES))
def test_one_list_of_endings(tmp_path, ending):
    """A picture is found by all readers of folders or by none."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "y.png").write_bytes(b"")
    picture = tmp_path / "a" / f"x{ending.upper()}"
    picture.write_bytes(b"")
    assert images.list_folder(tmp_path / "a") == [picture]
    assert image_folders.load_class_folders(tmp_path).images[0].path == picture
    assert captions.images.SUFFIXES is images.SUFFIXES
