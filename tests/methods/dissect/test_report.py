"""Pages: bounded, escaped, self-contained; the blind rating page and what it adds up to."""

import json
import re
from html import escape
from html.parser import HTMLParser
from typing import get_args
from urllib.parse import unquote

import pytest
import torch
from colour_world import scenes
from PIL import Image
from test_dissect import run

from torchnle.cli import main
from torchnle.cli.main import build_parser
from torchnle.methods.dissect.exemplars.exemplar import Exemplar
from torchnle.methods.dissect.labels import Dissection, Origin, UnitLabel
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.report.legend import SCORES
from torchnle.methods.dissect.report.pages import masked, write_report
from torchnle.methods.dissect.report.picture_names import PictureNames
from torchnle.methods.dissect.report.rating import aggregate, write_rating_page
from torchnle.types import Labeller


class Balanced(HTMLParser):
    """Fails where a tag is closed that is not the last one opened."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in ("img", "input", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(file):
    parser = Balanced()
    parser.feed(file.read_text())
    assert not parser.open
    return parser.seen


def test_report_is_bounded_complete_and_asks_for_nothing(tmp_path):
    found = run()
    files = write_report(found, tmp_path, units=2, exemplars=3, side=32)
    assert [file.name for file in files] == [
        "index.html",
        "units-0-1.html",
        "units-2-3.html",
        "units-4-4.html",
    ]
    for file in files:
        assert file.stat().st_size < 20_000
        for tag, attributes in parsed(file):
            for address in (attributes.get("src"), attributes.get("href")):
                assert address is None or address.startswith(("data:", "#", "units-", "index.html")), (
                    tag,
                    address,
                )
    pictures = [a for tag, a in parsed(files[1]) if tag == "img"]
    assert len(pictures) == 6
    index = files[0].read_text()
    assert all(label.text in index for label in found[:4])
    assert "1 dead" in index
    assert index.count("image ") >= 4 * 3  # the pictures' names, to search by
    found_by = re.findall(r'href="index.html#find=([^"]*)"', files[1].read_text())
    assert len(found_by) == 6
    assert all(unquote(name) in index for name in found_by)
    links = re.findall(r'href="(units-[^"#]*)#(u\d+)"', index)
    assert len(links) == 5
    assert all(f'id="{anchor}"' in (tmp_path / name).read_text() for name, anchor in links)


@pytest.mark.parametrize("method", ["Describe-and-Dissect", "linear"])
def test_every_page_has_a_legend_and_says_where_its_labels_come_from(tmp_path, method):
    origin = Origin("own.pt <12>", "a map", method, 30)
    files = write_report(Dissection("layer", [UnitLabel(0, "a car", 0.5)], origin=origin), tmp_path)
    assert len(files) == 2
    for file in files:
        page = file.read_text()
        parsed(file)
        for fact in (
            "own.pt &lt;12&gt;",
            "a map",
            f"labels by: <b>{method}</b>",
            "probing images: <b>30</b>",
        ):
            assert fact in page
        assert escape(SCORES[method]) in page
        assert all(f"<dt>{name}</dt>" in page for name in ("score", "correlation", "exemplars"))
    assert "<th>correlation</th>" in files[1].read_text()


def test_the_legend_knows_every_method():
    chosen = {"Describe-and-Dissect", "Describe-and-Dissect, chosen by images of the candidates"}
    assert set(SCORES) == {*get_args(Labeller), *chosen}


def test_pictures_of_one_name_in_two_folders_are_told_apart(tmp_path):
    for number, scene in enumerate(scenes(8)[:]):
        (tmp_path / f"class {number % 2}").mkdir(exist_ok=True)
        scene.image.save(tmp_path / f"class {number % 2}" / f"{number // 2}.png")
    labels = [UnitLabel(0, "a", 0.5, images=(0, 4)), UnitLabel(1, "b", 0.5, images=(1,))]
    names = PictureNames(Dissection("layer", labels, images=ProbingSet(tmp_path, None)))
    assert [names(number) for number in (0, 4, 1)] == ["class 0/0.png", "class 1/0.png", "class 0/1.png"]
    alone = [UnitLabel(0, "a", 0.5, images=(0, 1))]
    assert PictureNames(Dissection("layer", alone, images=ProbingSet(tmp_path, None)))(1) == "1.png"


def test_labels_know_their_origin():
    found = run()
    assert (found.origin.model, found.origin.images) == ("Sequential", len(found.images))
    assert found.origin.translator == found.to_dict()["origin"]["translator"] != ""


def test_labels_are_escaped(tmp_path):
    nasty = "<script>alert('x')</script>"
    files = write_report(
        Dissection(nasty, [UnitLabel(0, nasty, 0.5, note=nasty, candidates=((nasty, 0.1),))]), tmp_path
    )
    for file in files:
        assert "<script>alert" not in file.read_text()
        parsed(file)
    with pytest.raises(ValueError, match="positive"):
        write_report(Dissection("layer", []), tmp_path, units=0)


def test_masked_exemplars_are_dark_where_the_unit_is_silent():
    shown = masked(Exemplar(0, 1.0, Image.new("RGB", (8, 8), (200, 200, 200)), torch.tensor([[1.0, 0.0]])))
    assert shown.getpixel((0, 4)) == (200, 200, 200)
    assert shown.getpixel((7, 4)) == (70, 70, 70)


def test_rating_page_is_blind_and_its_answers_are_counted(tmp_path):
    found = run()
    labels = {"ours": ["a red square", "a green square"], "theirs": ["a shape", "a thing"]}
    page, key_file = write_rating_page(found, labels, [0, 1], tmp_path, exemplars=2, seed=3)
    text, key = page.read_text(), json.loads(key_file.read_text())
    assert "ours" not in text
    assert all(label in text for texts in labels.values() for label in texts)
    assert {unit: sorted(order) for unit, order in key.items()} == {
        "0": ["ours", "theirs"],
        "1": ["ours", "theirs"],
    }
    parsed(page)

    def sheet(ours, theirs, best):
        return {
            unit: {
                **{str(order.index(m)): v for m, v in (("ours", ours), ("theirs", theirs))},
                "best": order.index(best),
            }
            for unit, order in key.items()
        }

    valid, contradictory, unfinished = sheet(5, 3, "ours"), sheet(2, 4, "ours"), {"0": {"0": 4}}
    ratings, share = aggregate([valid, sheet(3, 4, "theirs"), contradictory, unfinished], key)
    assert share == pytest.approx(4 / 7)
    assert ratings["ours"].rating == pytest.approx(4.0)
    assert ratings["ours"].best == pytest.approx(0.5)
    assert ratings["theirs"].answers == 4
    with pytest.raises(ValueError, match="none of 2 answers"):
        aggregate([contradictory], key)
    with pytest.raises(ValueError, match="two or more"):
        write_rating_page(found, {"ours": ["a", "b"]}, [0, 1], tmp_path)


def test_command_writes_a_report(tmp_path, monkeypatch, capsys):
    from colour_world import backbone, scenes
    from test_dissect import World

    for number, scene in enumerate(scenes(16)[:]):
        scene.image.save(tmp_path / f"{number}.png")
    monkeypatch.setattr("torchnle.backbones.load", lambda name: backbone())
    monkeypatch.setattr(
        "torchnle.methods.dissect.source_of_words.Translator.from_pretrained", lambda reference: World()
    )
    command = ["dissect", "colours", "--layer", "coarse", "--probe", str(tmp_path), "--translator", "world"]
    assert (
        main(
            [*command, "--exemplars", "4", "--output", str(tmp_path / "out"), "--cache", str(tmp_path / "c")]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert printed.count("unit ") >= 3
    written = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert len(written["units"]) == 3
    assert (tmp_path / "out" / "index.html").is_file()
    assert main([*command, "--exemplars", "4", "--find-picture", str(tmp_path / "3.png"), "--json"]) == 0
    assert {label["unit"] for label in json.loads(capsys.readouterr().out)} == {0, 1, 2}
    assert main([*command, "--exemplars", "4", "--by", "masked exemplars", "--units", "1"]) == 0
    assert capsys.readouterr().out.startswith("unit 1: ")
    offered = build_parser()._subparsers._group_actions[0].choices["dissect"]._option_string_actions["--by"]
    assert get_args(Labeller) == offered.choices
    assert main([*command, "--exemplars", "99"]) == 2
    assert "fewer than the k=99" in capsys.readouterr().err
    assert main([*command[:4], "--probe", str(tmp_path / "nowhere"), *command[6:]]) == 2
