"""What others chose (captions, texts, names of files) never steers the terminal of the command line."""

from __future__ import annotations

import io
import json
import logging
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fakes import LetterTranslator
from PIL import Image

from torchnle import LanguageAttribution, backbones, cli
from torchnle.cli import photos
from torchnle.cli import train as cli_train
from torchnle.cli.output import said_warnings, say
from torchnle.language.texts import visible

EVIL = "\x1b[2J\x1b]0;title\x07\x9b31mred\x7f\b\r\u202egnp.exe\udcff"
SEEN = r"\x1b[2J\x1b]0;title\x07\x9b31mred\x7f\x08\r\u202egnp.exe\udcff"
STEERING = {*map(chr, range(32)), *map(chr, range(127, 160)), "\u202e"} - {"\n", "\t"}


@pytest.fixture
def attached(monkeypatch):
    """The command line with a model and a translator of the test's own, which says what it is given."""

    def attach(text):
        class Saying(LetterTranslator):
            def describe(self, rows, **options):
                return [
                    type(each)(**(each.to_dict() | {"text": text}))
                    for each in super().describe(rows, **options)
                ]

        model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 4, stride=4))
        backbone = SimpleNamespace(
            preprocess=lambda image: torch.rand(3, 8, 8), view=lambda image: image, model=model, clip=None
        )
        monkeypatch.setattr(backbones, "load", lambda *_, **__: backbone)
        lang = LanguageAttribution(model, "0", Saying())
        lang.preprocess = backbone.preprocess
        monkeypatch.setattr(photos, "attach", lambda *_: lang)

    return attach


def outcome(capsys):
    written = capsys.readouterr()
    assert not STEERING & {*written.out, *written.err}
    return written


def test_every_steering_character_is_written_out():
    assert visible(EVIL) == SEEN
    assert not any(character in visible("".join(map(chr, range(0x3000)))) for character in STEERING)
    plain = "Ein Kätzchen, 猫, 🐈‍⬛ and שלום\n\tmore\r\n"
    assert visible(plain) == plain


def test_a_description(attached, capsys, tmp_path):
    attached(f"a cat{EVIL}")
    photo = tmp_path / "a\x1b[31m.png"
    Image.new("RGB", (8, 8)).save(photo)
    assert cli.main(["describe", str(photo), "--locations"]) == 0
    output = outcome(capsys).out
    assert f"a cat{SEEN}" in output
    assert r"a\x1b[31m.png" in output
    assert cli.main(["describe", str(photo), "--json"]) == 0
    assert json.loads(outcome(capsys).out)[0]["whole"]["text"] == f"a cat{EVIL}"


def test_a_query(attached, capsys, tmp_path):
    attached("a cat")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert cli.main(["saliency", str(tmp_path / "a.png"), "--text", f"a cat{EVIL[:-1]}"]) == 0
    assert f"a cat{SEEN[:-6]}" in outcome(capsys).out


def test_an_error_and_a_wrong_argument(capsys, tmp_path):
    (tmp_path / "\x1b[2Ja.png").write_bytes(b"no picture")
    assert cli.main(["describe", str(tmp_path / "\x1b[2Ja.png")]) == 2
    assert r"\x1b[2Ja.png" in outcome(capsys).err
    with pytest.raises(SystemExit):
        cli.main(["layers", "a", "--\x1b[2J"])
    assert r"--\x1b[2J" in outcome(capsys).err


def test_unreadable_pictures_of_a_training_run(monkeypatch, capsys):
    run = SimpleNamespace(output=Path("out\x1b[2J"))
    log = SimpleNamespace(unreadable={0: "\x1b[2Ja.png is not an image"})
    module = SimpleNamespace(Run=SimpleNamespace(read=lambda *_: run), train=lambda *_, **__: (None, log))
    monkeypatch.setitem(sys.modules, "torchnle.methods.devil.training.run", module)
    monkeypatch.setattr("torchnle.methods.devil.training.run", module, raising=False)
    assert cli.main(["train", "--config", "a.toml"]) == 0
    written = outcome(capsys)
    assert r"\x1b[2Ja.png is not an image" in written.err
    assert r"out\x1b[2J" in written.out
    assert cli_train._unreadable({}) == []


def test_a_warning_that_is_logged(capsys):
    listening, logging.getLogger().handlers = logging.getLogger().handlers, []
    try:
        with said_warnings():
            logging.getLogger("torchnle.data").warning("%s", "\x1b[2Ja.png")
    finally:
        logging.getLogger().handlers = listening
    assert outcome(capsys).err == "\\x1b[2Ja.png\n"
    assert not [each for each in logging.getLogger("torchnle").handlers if type(each).__name__ == "_Said"]


def test_a_password_in_an_error(monkeypatch, capsys):
    def fail(*_, **__):
        raise OSError("no route to https://bob:s3cret@host/a?token=s3cret")

    monkeypatch.setattr(backbones, "load", fail)
    assert cli.main(["layers", "a"]) == 2
    assert outcome(capsys).err == "torchnle: no route to https://***@host/a?***\n"


def test_a_terminal_that_knows_ascii_only(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    say("猫 \udcff")
    terminal.flush()
    assert terminal.buffer.getvalue() == b"\\u732b \\udcff\n"


def test_the_package_prints_nowhere_else():
    package = Path(cli.__file__).parents[1]
    found = [
        f"{file.name}: {line.strip()}"
        for file in package.rglob("*.py")
        if file.name != "output.py"
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"(?<!\w)print\(|sys\.stdout", line) and ">>>" not in line
    ]
    assert found == []


def test_the_package_runs_as_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["torchnle", "describe", "no-such-photo.png"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("torchnle", run_name="__main__")
    assert left.value.code == 2
    assert "no-such-photo.png" in outcome(capsys).err
