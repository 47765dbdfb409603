"""Photographs of a world of colours whose answers are known: read, named, mapped, in grids and by folds."""

from __future__ import annotations

import json

import colour_world as world
import pytest
import torch
from PIL import Image

from torchnle import LanguageAttribution
from torchnle.cli import evaluate as cli_evaluate
from torchnle.cli import main
from torchnle.data.palette import COLOURS
from torchnle.description import Description
from torchnle.evaluation.photographs import grids, measure, page, read_photographs, write_answers
from torchnle.evaluation.photographs.run import KINDS
from torchnle.evaluation.photographs.truth import location
from torchnle.evaluation.subject import attach


def test_locations_hold_the_middle_of_the_cell():
    for row in range(7):
        for column in range(7):
            point = ((column + 0.5) / 7, (row + 0.5) / 7)
            assert location(point, (7, 7)) == (row, column)
            assert location(point, (14, 14)) == (2 * row + 1, 2 * column + 1)
            r, c = location(point, (4, 9))
            assert r / 4 <= point[1] < (r + 1) / 4
            assert c / 9 <= point[0] < (c + 1) / 9


class Namer(world.ColourTranslator):
    """Says the name of a colour, surer where it is nearer; it is unsure of yellow."""

    def describe(self, rows, *, internal_batch_size=None):
        best = self.score(rows, world.NAMES).max(dim=1)
        return [
            Description(f"the {world.NAMES[i]}", 7.0, probability=1 / (1 - d), unsure=i == 3)
            for d, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight pictures, wider than high: one colour, and at the left a strip of white and of another colour."""
    folder = tmp_path_factory.mktemp("photographs")
    truth = {}
    for index in range(8):
        name, other = world.NAMES[index % 4], world.NAMES[(index + 1) % 4]
        picture = Image.new("RGB", (128, 64), COLOURS[name])
        picture.paste("white", (0, 0, 32, 32))
        picture.paste(COLOURS[other], (0, 32, 32, 64))
        picture.save(folder / f"photo{index}.png")
        truth[f"photo{index}"] = {
            "query": f"the {name}",
            "exact": [name],
            "general": [],
            "box": [0.25, 0, 1, 1],
            "place": [3, 5],
            "elsewhere": {"6,0": [other]} if index % 2 else {"0.03,0.97": [other]},
            "pointing": index != 0,
        }
    truth["missing"] = truth["photo0"]
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


@pytest.fixture(scope="module")
def found(folder):
    backbone = world.backbone()
    photographs = read_photographs(folder, folder / "truth.json")
    return measure(backbone, attach(backbone, Namer()), photographs, rounds=2)


def test_who_sees_colours_is_right_everywhere(found):
    summary = found["summary"]
    assert summary["photographs"] == 8
    assert summary["layer"] == "coarse"
    for kind in ("said", "said_at_place", "said_elsewhere"):
        right = summary["rates"][kind]
        assert (right["count"], right["right"], right["wrong"], right["right_unsure"]) == (8, 1, 0, 2), kind
    maps, grids = summary["maps"], summary["grids"]
    assert (maps["first"], maps["of"], maps["first_by_chance"]) == (8, 8, 2)  # of four colours
    assert (maps["in_box"], maps["pointed"]) == (7, 7)
    assert maps["in_box_by_chance"] == pytest.approx(7 * 0.75)
    assert grids["count"] == 4
    assert grids["said"]["right"] == grids["in_quarter"] == 1


def test_what_was_said_is_written_for_the_judge(found, folder, tmp_path):
    write_answers(tmp_path, found["said"])
    written = json.loads((tmp_path / "said_at_place.json").read_text())
    assert set(written) == {f"photo{index}" for index in range(8)}
    assert written["photo3"]["text"] == "the yellow"
    assert written["photo3"]["unsure"] is True
    assert written["photo3"]["score"] == written["photo3"]["description"]["probability"]
    assert written["photo3"]["score"] == pytest.approx(1, abs=1e-5)
    assert written["photo3"]["description"]["score"] == 7
    elsewhere = json.loads((tmp_path / "said_elsewhere.json").read_text())
    assert elsewhere["photo1 0.071,0.929"]["text"] == "the blue"
    for kind in ("classifier", "classifier_squeezed"):
        assert json.loads((tmp_path / f"{kind}.json").read_text())["photo0"]["text"] == "red"


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Pictures three times as wide as high: red in the middle third, and mostly blue as a whole."""
    folder = tmp_path_factory.mktemp("sides")
    truth = {}
    for index in range(4):
        picture = Image.new("RGB", (192, 64), COLOURS["blue"])
        picture.paste(COLOURS["red"], (64, 0, 128, 64))
        picture.save(folder / f"photo{index}.png")
        truth[f"photo{index}"] = {
            "query": "the red",
            "exact": ["red"],
            "box": [0.34, 0, 0.66, 1],
            "point": [0.05, 0.5],
            "elsewhere": {"0.5,0.5": ["red"]},
        }
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


def test_wholes_are_read_in_the_backbones_own_view_and_places_in_the_squeezed_picture(sides):
    backbone = world.backbone()
    found = measure(backbone, attach(backbone, Namer()), read_photographs(sides, sides / "truth.json"))
    texts_by_kind = {kind: {text.text for text in texts.values()} for kind, texts in found["said"].items()}
    assert texts_by_kind == {
        "classifier": {"red"},
        "classifier_squeezed": {"blue"},
        "said": {"the red"},
        "said_at_place": {"the blue"},
        "said_elsewhere": {"the red"},
    }
    assert found["summary"]["view"] == {"fit": "crop", "share": 1.0}
    assert found["summary"]["maps"]["in_box"] == 4
    assert found["summary"]["grids"]["photographs"] == 0  # squeezed, as in grids, none is named rightly


class Adaptable(LanguageAttribution):
    """Keeps what it was adapted to, and how many calls came before."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.adapted = []

    def adapt(self, images):
        once, again = torch.cat(list(images)), torch.cat(list(images))
        assert torch.equal(once, again)
        self.adapted.append((self.translator.calls, once))


class Counter(Namer):
    calls = 0

    def describe(self, rows, **options):
        self.calls += 1
        return super().describe(rows, **options)


def adaptable(backbone):
    return Adaptable(backbone.model, ["coarse"], Counter())


def inputs(backbone, photographs):
    return torch.stack([backbone.preprocess(photograph.open()) for photograph in photographs])


def test_each_fold_is_read_by_the_statistics_of_the_others(folder, found):
    backbone = world.backbone()
    photographs = read_photographs(folder, folder / "truth.json")
    lang = adaptable(backbone)
    folded = measure(backbone, lang, photographs, rounds=2, folds=3)
    assert len(lang.adapted) == 3
    for fold, (calls, images) in enumerate(lang.adapted):
        others = [photograph for i, photograph in enumerate(photographs) if i % 3 != fold]
        assert torch.equal(images, inputs(backbone, others))
        assert (calls > 0) == (fold > 0)
    assert (
        folded["summary"]["statistics"]
        == "of the photographs of the other folds, in each of 3 folds by index"
    )
    for kind in KINDS:  # what is read is the same: nothing here depends on statistics
        assert {n: s.text for n, s in folded["said"][kind].items()} == {
            n: s.text for n, s in found["said"][kind].items()
        }
    assert folded["summary"]["maps"] == pytest.approx(found["summary"]["maps"])
    assert folded["summary"]["grids"]["photographs"] == 8
    assert "statistics: of the photographs of the other folds" in page(folded["summary"])


def test_grids_hold_photographs_of_one_fold(folder, monkeypatch):
    together = []
    original = grids._together
    monkeypatch.setattr(
        grids, "_together", lambda group, side: (together.append(group), original(group, side))[1]
    )
    backbone = world.backbone()
    lang = adaptable(backbone)
    photographs = read_photographs(folder, folder / "truth.json")
    photographs = [photographs[i] for i in (0, 4, 1, 5, 2, 6, 3, 7)]  # each fold has all four colours
    found = measure(backbone, lang, photographs, rounds=1, folds=2)
    assert found["summary"]["grids"]["count"] == len(together) == 2
    assert sorted({photographs.index(p) % 2 for p in group} for group in together) == [{0}, {1}]


def test_a_folder_is_adapted_to_once_before_anything_is_read(folder, sides):
    backbone = world.backbone()
    lang = adaptable(backbone)
    photographs = read_photographs(folder, folder / "truth.json")
    summary = measure(backbone, lang, photographs, rounds=0, adapt_to=sides)["summary"]
    ((calls, images),) = lang.adapted
    assert calls == 0
    assert torch.equal(images, inputs(backbone, read_photographs(sides, sides / "truth.json")))
    assert summary["statistics"] == f"of 4 pictures of the folder {sides.name!r}"


class Fixed(LanguageAttribution):
    adapt = None


def test_without_adapt_folds_are_read_as_they_are_and_a_folder_is_refused(folder, sides):
    backbone = world.backbone()
    lang = Fixed(backbone.model, ["coarse"], Namer())
    photographs = read_photographs(folder, folder / "truth.json")
    summary = measure(backbone, lang, photographs, rounds=0, folds=2)["summary"]
    assert "cannot be adapted" in summary["statistics"]
    with pytest.raises(ValueError, match="has no `adapt`"):
        measure(backbone, lang, photographs, adapt_to=sides)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 0}, "folds=0"),
        ({"folds": 9}, "folds=9 of 8 photographs"),
        ({"folds": 2, "adapt_to": "pictures"}, "both given"),
        ({"adapt_to": "empty"}, "no pictures"),
    ],
)
def test_adaptations_that_make_no_sense_are_refused(folder, tmp_path, options, message):
    (tmp_path / "empty").mkdir()
    if "adapt_to" in options:
        options = {**options, "adapt_to": tmp_path / options["adapt_to"]}
    backbone = world.backbone()
    with pytest.raises(ValueError, match=message):
        measure(backbone, adaptable(backbone), read_photographs(folder, folder / "truth.json"), **options)


def test_the_command_adapts_by_folds_and_by_folder(folder, sides, monkeypatch, capsys):
    backbone = world.backbone()
    langs = [adaptable(backbone), adaptable(backbone)]
    subjects = iter([(backbone, lang) for lang in langs])
    monkeypatch.setattr(cli_evaluate, "subject", lambda options: next(subjects))
    command = ["evaluate", "photographs", str(folder), str(folder / "truth.json"), "--rounds", "0", "--json"]
    for how, statistics in (
        (["--folds", "2"], "in each of 2 folds"),
        (["--adapt", str(sides)], "of 4 pictures"),
    ):
        assert main([*command, *how]) == 0
        data = json.loads(capsys.readouterr().out)
        assert statistics in data["statistics"]
        assert str(sides) not in json.dumps(data)
    assert [len(lang.adapted) for lang in langs] == [2, 1]


def test_a_translators_name_does_not_steer_the_terminal(folder, monkeypatch, capsys):
    backbone = world.backbone()
    lang = attach(backbone, Namer())
    lang.translator.name = "org/\x1b[2Jname"
    monkeypatch.setattr(cli_evaluate, "subject", lambda options: (backbone, lang))
    assert main(["evaluate", "photographs", str(folder), str(folder / "truth.json"), "--count", "1"]) == 0
    assert r"# `org/\x1b[2Jname` on 1 photographs" in capsys.readouterr().out


def test_the_command_writes_figures_and_setting(folder, tmp_path, monkeypatch, capsys):
    backbone = world.backbone()
    monkeypatch.setattr(cli_evaluate, "subject", lambda options: (backbone, attach(backbone, Namer())))
    out = tmp_path / "out"
    command = ["evaluate", "photographs", str(folder), str(folder / "truth.json"), "--backbone", "colours"]
    assert main([*command, "--output", str(out), "--rounds", "1", "--count", "4"]) == 0
    assert {file.name for file in out.iterdir()} == {
        *(f"{name}.json" for name in (*KINDS, "summary")),
        "summary.md",
    }
    data = json.loads((out / "summary.json").read_text())
    assert data["photographs"] == 4
    assert {"machine", "python", "versions", "commit"} <= set(data["setting"])
    text = (out / "summary.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert "| the whole picture | 4 | 1.000 | 1.000 | 0 | 0 | 1 | - |" in text
    assert "| peak in the own quarter of a grid | 4.000 | 4 | 1.000 |" in text
    assert page(data).strip() == text.strip()


def test_truths_and_folders_that_lack_something_are_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="none of the 9"):
        read_photographs(tmp_path, folder / "truth.json")
    bad = tmp_path / "truth.json"
    bad.write_text(json.dumps({"photo0": {"query": "the red", "exact": ["red"]}}))
    with pytest.raises(ValueError, match=r"photo0.*box, place or point"):
        read_photographs(folder, bad)
