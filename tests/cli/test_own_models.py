"""A checkpoint of one's own in every command that takes a model: described, dissected and audited."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from letter_encoder import LetterEncoder
from PIL import Image

from torchnle import images
from torchnle.backbones import timm as timm_models
from torchnle.cli import main
from torchnle.cli.audit import command
from torchnle.cli.main import build_parser
from torchnle.heads import classifier_head
from torchnle.language.text_encoder import TextEncoder

NAMES = ["amber", "indigo", "olive"]
COLOURS = [(230, 170, 20), (60, 20, 150), (110, 120, 30)]
COMMANDS = {
    "describe": ["a.png"],
    "saliency": ["a.png", "--text", "a"],
    "words": ["a.png"],
    "explain": ["a.png"],
    "explore": ["a.png"],
    "dissect": ["--layer", "x", "--probe", "y"],
    "audit": ["FOLDER"],
}
OPTIONS = ["--checkpoint", "o.pt", "--arch", "timm:resnet18", "--class-names", "n.txt", "--size", "64"]
OPTIONS += ["--mean", "0.5,0.5,0.5", "--std", "0.2,0.2,0.2", "--device", "cpu"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A network of three classes, and a folder per class, in another order than the outputs."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("own")
    model = timm_models.load("resnet10t", pretrained=False, num_classes=3).model
    torch.save(model.state_dict(), root / "own.pt")
    (root / "names.txt").write_text("\n".join(reversed(NAMES)))
    for name, colour in zip(NAMES, COLOURS, strict=True):
        (root / "data" / name.title()).mkdir(parents=True)
        for number in range(6):
            shade = tuple(min(255, value + 5 * number) for value in colour)
            Image.new("RGB", (40, 32), shade).save(root / "data" / name.title() / f"{number}.png")
    return root


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    letters = LetterEncoder()
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda *_, **__: letters)


@pytest.fixture
def given(own):
    names = ["--class-names", str(own / "names.txt")]
    return ["--checkpoint", str(own / "own.pt"), "--arch", "timm:resnet10t", "--size", "64", *names]


@pytest.fixture
def opened(monkeypatch):
    """The pictures that were opened."""
    seen, opening = [], images.open_image
    monkeypatch.setattr(
        images, "open_image", lambda path, *a, **k: seen.append(path) or opening(path, *a, **k)
    )
    return seen


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_same_options(command):
    found = vars(build_parser().parse_args([command, *COMMANDS[command], *OPTIONS]))
    assert (str(found["checkpoint"]), found["arch"]) == ("o.pt", "timm:resnet18")
    assert (str(found["class_names"]), found["size"]) == ("n.txt", 64)
    assert (found["mean"], found["std"]) == ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def test_units_of_ones_own_network(own, given, tmp_path, capsys):
    command = ["dissect", *given, "--layer", "layer4", "--probe", str(own / "data"), "--units", "0", "5"]
    assert main([*command, "--exemplars", "3", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("unit 0: ")
    found = json.loads((tmp_path / "labels.json").read_text())
    assert [label["unit"] for label in found["units"]] == [0, 5]
    assert all(label["dead"] or len(label["images"]) <= 3 for label in found["units"])


def test_an_audit_of_ones_own_network(own, given, tmp_path, capsys):
    options = ["--context", "a wall", "--context", "the sky", "--output", str(tmp_path), "--json"]
    assert main(["audit", str(own / "data"), *given, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found["classes"]] == list(reversed(NAMES))
    assert {word["word"] for each in found["classes"] for word in each["context words"]} == {
        "a wall",
        "the sky",
    }
    assert found["accuracy"] == pytest.approx(answers_right(own))
    assert "own.pt (timm:resnet10t) is audited" in (tmp_path / "audit.html").read_text()


def answers_right(own):
    """The share of right answers, by the network alone."""
    model = timm_models.load("resnet10t", pretrained=False, num_classes=3).model
    model.load_state_dict(torch.load(own / "own.pt", weights_only=True))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    right = []
    for label, name in enumerate(reversed(NAMES)):
        for file in sorted((own / "data" / name.title()).iterdir()):
            pixel = torch.tensor(Image.open(file).getpixel((0, 0))).view(3, 1, 1) / 255
            x = ((pixel - mean) / std).expand(3, 64, 64)
            right.append(model.eval()(x[None]).argmax().item() == label)
    return sum(right) / len(right)


def test_known_groups_are_measured_by_the_networks_own_answers():
    labels = torch.arange(64) % 2
    predicted = torch.where(torch.arange(64) % 8 == 0, 1 - labels, labels)
    found = SimpleNamespace(
        labels=labels,
        predicted=predicted,
        class_words=SimpleNamespace(class_names=("a", "b")),
        shortcuts=SimpleNamespace(context_class=(torch.arange(64) // 2) % 2),
    )
    each = [SimpleNamespace(context=int(number % 4 > 1)) for number in range(64)]
    listed = SimpleNamespace(images=each, context_names=("x", "y"))
    rows = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    held = torch.rand(64, generator=torch.Generator().manual_seed(0)) < 0.5
    shares = command._by_group(rows, listed, found, trained=True)
    right = (predicted == labels)[held].float().mean().item()
    assert shares["before"]["average"] == pytest.approx(right)
    assert shares["before"] != command._by_group(rows, listed, found, trained=False)["before"]
    assert shares["names"] == ["a, x", "a, y", "b, x", "b, y"]


@pytest.mark.parametrize("name", ["describe", "dissect", "audit"])
def test_names_are_counted_before_a_picture_is_read(own, given, tmp_path, opened, capsys, name):
    (tmp_path / "two.txt").write_text("amber\nindigo")
    where = [str(own / "data" / "Amber") if name == "describe" else str(own / "data")]
    if name == "dissect":
        where = ["--layer", "layer4", "--probe", *where]
    assert main([name, *where, *given, "--class-names", str(tmp_path / "two.txt")]) == 2
    told = "3 folders for 2 class names; without a folder: none; without a class: olive"
    assert (told if name == "audit" else "2 class names were given") in capsys.readouterr().err
    assert opened == []


def test_the_head_is_checked_at_the_given_size(own, given, monkeypatch, capsys):
    sizes, checked = [], classifier_head.find_head

    def find_head(model, example, *more):
        sizes.append(tuple(example.shape[2:]))
        return checked(model, example, *more)

    monkeypatch.setattr("torchnle.attr.construction.classifier.find_head", find_head)
    photo = str(own / "data" / "Amber" / "0.png")
    assert main(["describe", photo, *given]) == 0
    assert sizes == [(64, 64)]
    assert "2x2 locations" in capsys.readouterr().out


def test_folders_of_other_names_are_taken_in_their_order(own, given, tmp_path, caplog, monkeypatch):
    (tmp_path / "names.txt").write_text("b\na\nc")
    command = ["audit", str(own / "data"), *given, "--class-names", str(tmp_path / "names.txt"), "--json"]
    with caplog.at_level(logging.WARNING, logger="torchnle"):
        assert main([*command, "--context", "a wall", "--context", "the sky"]) == 0
    assert "'amber' = 'b', 'indigo' = 'a', 'olive' = 'c'" in caplog.text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["dissect", "--layer", "layer4", "--probe", "y"], "either a MODEL by name, or --checkpoint"),
        (["dissect", "m", "--layer", "l", "--probe", "y", "--checkpoint", "o.pt"], "and not both"),
        (["describe", "DATA/Amber", "--size", "64"], "--size without --checkpoint"),
        (["audit", "DATA", "--arch", "timm:resnet18"], "--arch without --checkpoint"),
        (["audit", "DATA", "--class-names", "amber"], "no file amber of class names"),
        (["audit", "DATA", "--checkpoint", "o.pt"], "--checkpoint needs --arch"),
    ],
)
def test_what_does_not_go_together(own, command, message, capsys):
    assert main([word.replace("DATA", str(own / "data")) for word in command]) == 2
    assert message in capsys.readouterr().err


def test_names_may_be_given_to_a_model_by_name(own, tmp_path, monkeypatch, capsys):
    def load(name):
        return timm_models.load("resnet10t", pretrained=False, num_classes=3)

    monkeypatch.setattr("torchnle.backbones.load", load)
    photo = str(own / "data" / "Amber" / "0.png")
    assert main(["describe", photo, "--class-names", str(own / "names.txt")]) == 0
    assert "3 classes" in capsys.readouterr().out
