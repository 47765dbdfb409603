"""Checkpoints of one's own, in Python and on the command line."""

from __future__ import annotations

import json

import pytest
import torch
from letter_encoder import LetterEncoder
from PIL import Image
from safetensors.torch import save_file

from torchnle.backbones import timm as timm_models
from torchnle.backbones.checkpoint import load_checkpoint, read_class_names
from torchnle.cli import main
from torchnle.language.text_encoder import TextEncoder

NAMES = [f"thing {i}" for i in range(12)]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A small network of 12 classes, saved as people save them."""
    torch.manual_seed(0)
    model = timm_models.load("resnet10t", pretrained=False, num_classes=12).model
    folder = tmp_path_factory.mktemp("own")
    torch.save(model.state_dict(), folder / "own.pt")
    torch.save({f"module.{k}": v for k, v in model.state_dict().items()}, folder / "parallel.pth")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "own.safetensors")
    (folder / "names.txt").write_text("\ufeff" + "\n".join(NAMES) + "\n\n")
    (folder / "names.json").write_text(json.dumps({str(i): name for i, name in enumerate(NAMES)}))
    return model, folder


@pytest.mark.parametrize("file", ["own.pt", "parallel.pth", "own.safetensors"])
def test_it_answers_as_the_network_did(own, file):
    model, folder = own
    backbone = load_checkpoint(
        folder / file, "timm:resnet10t", NAMES, size=64, mean=[0.5] * 3, std=[0.25] * 3
    )
    assert (backbone.class_names, backbone.preprocess.size) == (tuple(NAMES), 64)
    white = Image.new("RGB", (80, 70), (255, 255, 255))
    torch.testing.assert_close(backbone.preprocess(white), torch.full((3, 64, 64), 2.0))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone.model(x), model(x))


def test_class_names_of_files(own):
    for name in ("names.txt", "names.json"):
        assert read_class_names(own[1] / name) == tuple(NAMES)


@pytest.mark.parametrize("content", ["", "[]", "[1, 2]", "7"])
def test_files_without_names(tmp_path, content):
    (tmp_path / "names.json").write_text(content or "[]")
    with pytest.raises(ValueError, match="holds no class names"):
        read_class_names(tmp_path / "names.json")


def test_missing_and_unexpected_weights_are_named(own, tmp_path):
    state = dict(own[0].state_dict())
    del state["fc.weight"]
    state["extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"missing: fc.weight; unexpected: extra.weight"):
        load_checkpoint(tmp_path / "bad.pt", "timm:resnet10t", NAMES)


@pytest.mark.parametrize("name", ["resnet10t", "timm:", "keras:resnet"])
def test_architectures_that_are_not_known(own, name):
    with pytest.raises(ValueError, match="timm:NAME or torchvision:NAME"):
        load_checkpoint(own[1] / "own.pt", name, NAMES)


class TestCommand:
    @pytest.fixture(autouse=True)
    def encoder(self, monkeypatch):
        letters = LetterEncoder()
        monkeypatch.setattr(TextEncoder, "from_pretrained", lambda *_, **__: letters)

    @pytest.fixture
    def given(self, own):
        folder = own[1]
        return [
            *("--checkpoint", str(folder / "own.pt"), "--arch", "timm:resnet10t"),
            *("--class-names", str(folder / "names.txt"), "--size", "64"),
        ]

    @pytest.fixture
    def photos(self, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        for index in range(3):
            Image.new("RGB", (40, 30), (80 * index, 90, 200)).save(folder / f"{index}.png")
        (folder / "broken.jpg").write_bytes(b"\xff\xd8 no")
        (folder / "notes.txt").write_text("no picture")
        return folder

    def test_a_folder_in_words(self, given, photos, capsys):
        assert main(["describe", str(photos), *given, "--json"]) == 0
        out, err = capsys.readouterr()
        assert [line["photo"] for line in json.loads(out)] == [str(photos / f"{i}.png") for i in range(3)]
        assert "broken.jpg" in err

    def test_lines_in_batches(self, given, photos, tmp_path, capsys):
        lines = tmp_path / "out" / "words.jsonl"
        for _ in range(2):
            assert main(["describe", str(photos), *given, "--lines", str(lines), "--batch-size", "2"]) == 0
            assert "3 photographs in" in capsys.readouterr().out
        head, *rest = [json.loads(line) for line in lines.read_text().splitlines()]
        assert head["files"] == len(rest) == 4
        assert [("error" in line) for line in rest] == [False, False, False, True]

    def test_maps_of_ones_own_model(self, given, photos, tmp_path):
        command = [
            "saliency",
            str(photos / "0.png"),
            *given,
            "--text",
            "thing 3",
            "--output",
            str(tmp_path / "p"),
        ]
        assert main(command) == 0
        assert (tmp_path / "p" / "0_saliency.png").is_file()

    def test_bad_options(self, given, photos, capsys):
        for wrong, message in (
            (["--checkpoint", "a.pt"], "--checkpoint needs --arch"),
            ([*given, "--device", "cuda:99"], "--device cuda:99"),
            ([*given, "--lines", "a.jsonl", "--output", "b"], "--lines writes no pictures"),
        ):
            assert main(["describe", str(photos / "0.png"), *wrong]) == 2
            assert message in capsys.readouterr().err
