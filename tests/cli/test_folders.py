"""Folders on the command line: every command on photographs writes lines, goes on, skips what is broken."""

import csv
import json
import tarfile

import pytest
import torch
from fakes import conv_net
from letter_encoder import LetterEncoder
from PIL import Image
from tiny import tiny_lm
from zero_shot_world import NAMES, pictures

from torchnle import LanguageAttribution, backbones
from torchnle.attr.mixins import explain
from torchnle.backbones import Backbone, Preprocess
from torchnle.cli import main
from torchnle.cli.models import own_device

COMMANDS = {
    "describe": ["--locations"],
    "saliency": ["--text", "a bee"],
    "words": ["--top", "2"],
    "explain": ["--concepts", "1"],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Photographs, two of one name and one broken, and the embedded models replaced by tiny ones."""
    preprocess = Preprocess(size=8, mean=0.0, std=255.0)
    backbone = Backbone(conv_net(), preprocess, tuple(NAMES), "tiny")
    lang = LanguageAttribution.from_classifier(
        backbone.model, NAMES, example=pictures(2), encoder=LetterEncoder()
    )
    lang.preprocess = preprocess
    monkeypatch.setattr(backbones, "load", lambda *_, **__: backbone)
    monkeypatch.setattr(LanguageAttribution, "from_backbone", lambda *_, **__: lang)
    monkeypatch.setattr(explain, "as_language_model", lambda _: tiny_lm())
    root = tmp_path / "photos"
    for number, name in enumerate(("a/cat.png", "b/cat.png", "b/dog.png", "b/owl.png", "b/elk.png")):
        generator = torch.Generator().manual_seed(number)
        pixels = torch.randint(0, 256, (9, 12, 3), dtype=torch.uint8, generator=generator)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(root / name)
    (root / "b" / "dog.png").write_bytes(b"no picture")
    return root


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()[1:]]


@pytest.mark.parametrize("command", COMMANDS)
def test_lines_of_a_pattern(folder, tmp_path, capsys, command):
    file, table = tmp_path / "out.jsonl", tmp_path / "out.csv"
    given = [command, f"{folder}/**/*.png", *COMMANDS[command], "--batch-size", "2"]
    given += ["--lines", str(file), "--table", str(table)]
    assert main(given) == 0
    shown = capsys.readouterr()
    assert f"4 photographs in {file}, 1 skipped" in shown.out
    assert "skipped: " in shown.err
    assert "dog.png is not an image" in shown.err
    lines, whole = lines_of(file), file.read_bytes()
    assert [line["file"][-9:] for line in lines] == [
        "a/cat.png", "b/cat.png", "b/dog.png", "b/elk.png", "b/owl.png"
    ]  # fmt: skip
    with table.open(newline="", encoding="utf-8") as out:
        assert [row["file"] for row in csv.DictReader(out)] == [line["file"] for line in lines]
    parts = whole.splitlines(keepends=True)
    file.write_bytes(b"".join(parts[:4]) + parts[4][:9])  # the setting, a batch and a half, and a piece
    assert main(given) == 0
    assert f"2 of 5 lines were in {file} already" in capsys.readouterr().err
    assert file.read_bytes() == whole


@pytest.mark.parametrize("command", ["describe", "saliency", "words"])
def test_pictures_have_names_of_their_own(folder, tmp_path, command):
    out = tmp_path / "drawn"
    given = [command, str(folder / "a"), str(folder / "b"), *COMMANDS[command], "--output", str(out)]
    assert main([*given, "--lines", str(tmp_path / "out.jsonl")]) == 0
    drawn = [line["picture"] for line in lines_of(tmp_path / "out.jsonl") if "error" not in line]
    assert len(set(drawn)) == 4
    assert sorted(drawn) == sorted(str(path) for path in out.iterdir())
    assert {path.name.split(".")[0] for path in out.iterdir()} > {f"{n}_cat_{ENDING[command]}" for n in "ab"}


ENDING = {"describe": "words", "saliency": "saliency", "words": "dominant_words"}


def test_a_shard_and_a_list_without_lines(folder, tmp_path, capsys):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(folder / "a" / "cat.png", "cat.png")
        tar.add(folder / "b" / "dog.png", "dog.png")
    (tmp_path / "list.txt").write_text("photos/b/owl.png\n")
    assert main(["words", str(tmp_path / "a.tar"), str(tmp_path / "list.txt"), "--json"]) == 0
    shown = capsys.readouterr()
    assert [each["photo"] for each in json.loads(shown.out)] == [
        str(tmp_path / "a.tar/cat.png"),
        str(folder / "b" / "owl.png"),
    ]
    assert "a.tar/dog.png is not an image" in shown.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--table", "a.xlsx"], "ends in .csv or .parquet"),
        (["--output", "drawn"], "writes no pictures"),
        (["--batch-size", "0"], "batch_size=0"),
        (["--workers", "-1"], "workers=-1"),
    ],
)
def test_bad_options(folder, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    assert main(["describe", str(folder / "a"), "--lines", "a.jsonl", *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.jsonl").exists()


def test_a_table_needs_lines(folder, capsys):
    assert main(["describe", str(folder / "a"), "--table", "a.csv"]) == 2
    assert "--table" in capsys.readouterr().err


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [own_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda:3", "cuda:1"]
