"""Maps, words and explanations of folders are those of one picture at a time; tables hold the same."""

import csv
import json
from functools import partial

import pytest
import torch
from tiny import tiny_lm

from torchnle.attr.dataset import (
    describe_dataset,
    explain_dataset,
    saliency_dataset,
    to_frame,
    words_dataset,
    write_table,
)
from torchnle.attr.mixins import explain
from torchnle.language.english.content_words import words_and_kinds

TEXTS = ["a bee", "the sea"]


@pytest.fixture(autouse=True)
def small_language_model(monkeypatch):
    monkeypatch.setattr(explain, "as_language_model", lambda _: tiny_lm())


def one_by_one(folder):
    return [file for file in sorted(folder.glob("*.png")) if file.name != "04.png"]


@pytest.mark.parametrize("workers", [0, 2])
def test_maps(lang, folder, workers):
    drawn = {}
    how = {"workers": workers, "draw": lambda number, maps: drawn.update({number: maps}) or {}}
    lines = saliency_dataset(lang, folder, TEXTS, batch_size=4, **how)
    found = {line["file"]: line for line in lines}
    assert "04.png" in found.pop(str(folder / "04.png"))["error"]
    for file in one_by_one(folder):
        (maps,) = lang.saliency(file, TEXTS, interpolate_mode=None)
        for text, values, entry in zip(TEXTS, maps, found[str(file)]["texts"], strict=True):
            assert entry["text"] == text
            torch.testing.assert_close(torch.tensor(entry["map"]), values)
            assert values[tuple(entry["peak"])] == values.max()
    assert sorted(drawn) == [0, 1, 2, 3, *range(5, 11)]


def test_words(lang, folder):
    found = {line["file"]: line for line in words_dataset(lang, folder, count=3, batch_size=4)}
    assert "error" in found.pop(str(folder / "04.png"))
    for file in one_by_one(folder):
        words = lang.words(file).top(3)
        assert [word["text"] for word in found[str(file)]["words"]] == [word.text for word in words]
        assert found[str(file)]["words"][0]["frequency"] == pytest.approx(words[0].frequency, abs=1e-5)


def test_words_counted_otherwise_are_another_setting(lang, folder, tmp_path):
    journal = tmp_path / "words.jsonl"
    (first, *_) = words_dataset(lang, folder, split=words_and_kinds, journal=journal)
    plain = {word.text for word in lang.words(first["file"]).top(10)}
    assert {word["text"] for word in first["words"]} - plain
    with pytest.raises(ValueError, match="of another setting"):
        list(words_dataset(lang, folder, journal=journal))


def test_explanations(lang, folder):
    files = one_by_one(folder)[:3]
    bank = ["a bee", "the sea", "grass"]
    lines = list(explain_dataset(lang, files, bank=bank, count=2, batch_size=2))
    for file, line in zip(files, lines, strict=True):
        (why,), (shown,) = lang.explain(file), lang.concepts(file, bank, count=2)
        assert line["said"] == str(why)
        assert line["prediction"] == why.to_dict()["prediction"]
        assert [text for text, _ in line["concepts"]] == [text for text, _ in shown.found]


@pytest.mark.parametrize(
    "make",
    [
        partial(saliency_dataset, texts=TEXTS),
        partial(words_dataset, count=2),
        partial(explain_dataset, bank=["a bee", "grass"], count=1),
        partial(describe_dataset, where="all"),
    ],
)
def test_each_resumes_to_the_same_bytes_and_refuses_another_setting(lang, folder, tmp_path, make):
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    lines = list(make(lang, folder, journal=whole, batch_size=4))
    text = whole.read_bytes()
    assert lines == [json.loads(line) for line in text.splitlines()[1:]]
    for share in (0.3, 0.8):
        part.write_bytes(text[: int(share * len(text))])
        assert list(make(lang, folder, journal=part, batch_size=4)) == lines
        assert part.read_bytes() == text
    with pytest.raises(ValueError, match="of another setting"):
        list(make(lang, folder, journal=part, batch_size=5))
    with pytest.raises(ValueError, match="of another setting"):
        list(saliency_dataset(lang, folder, "another text", journal=part, batch_size=4))


def test_bad_input(lang, folder):
    for make, message in (
        (partial(saliency_dataset, texts=[]), "text"),
        (partial(words_dataset, count=0), "count=0"),
        (partial(explain_dataset, target="an owl"), "an owl"),
        (partial(describe_dataset, process=2, processes=2), "process=2 of processes=2"),
        (partial(describe_dataset, where="some"), "where='some'"),
    ):
        with pytest.raises(ValueError, match=message):
            list(make(lang, folder))


def test_a_table_holds_the_lines(lang, folder, tmp_path):
    lines = list(describe_dataset(lang, folder))
    write_table(iter(lines), tmp_path / "words.csv")
    with (tmp_path / "words.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [line["file"] for line in lines]
    for row, line in zip(rows, lines, strict=True):
        assert row["error"] == line.get("error", "")
        assert row["text"] == line.get("text", "")
        assert "error" in line or json.loads(row["phrases"]) == line["phrases"]
    with pytest.raises(ValueError, match=r"ends in \.csv or \.parquet"):
        write_table(lines, tmp_path / "words.xlsx")


def test_a_table_whose_first_pictures_are_broken(tmp_path):
    write_table([{"file": "a", "error": "no"}, {"file": "b", "text": "c"}], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "file,text,error\na,,no\nb,c,\n"
    write_table([], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "file,error\n"


def test_a_parquet_file_holds_the_lines(lang, folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    lines = list(describe_dataset(lang, folder, where="all"))
    write_table(lines, tmp_path / "words.parquet")
    rows = parquet.read_table(tmp_path / "words.parquet").to_pylist()
    assert [row["text"] for row in rows] == [line.get("text") for line in lines]
    assert [row["unsure"] for row in rows] == [line.get("unsure") for line in lines]
    assert json.loads(rows[0]["locations"]) == lines[0]["locations"]


def test_a_frame_holds_the_lines(lang, folder):
    pytest.importorskip("pandas")
    frame = describe_dataset(lang, folder).to_frame()
    lines = list(describe_dataset(lang, folder))
    assert list(frame["file"]) == [line["file"] for line in lines]
    assert frame["error"].notna().sum() == 1
    assert to_frame(lines).equals(frame)


def test_without_the_packages_their_extra_is_named(monkeypatch):
    for module in ("pandas", "pyarrow"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'torchnle\[tables\]'"):
        to_frame([])
    with pytest.raises(ImportError, match=r"pip install 'torchnle\[tables\]'"):
        write_table([], "a.parquet")
