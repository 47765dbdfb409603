"""The commands on the embedded default: words of a photograph, and an audit with known groups."""

import json

import pytest
from PIL import Image

from torchnle.cli import main
from torchnle.data import plain_backgrounds, shapes
from torchnle.data.grouped_scenes import GroupedScenes

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Squares and stars, most of them on white and on black."""
    root = tmp_path_factory.mktemp("shapes")
    grounds = {
        name: [g for g in plain_backgrounds() if f" {name} " in g.location] for name in ("white", "black")
    }
    classes = {name: shapes(names=[name], colours=["red"]) for name in ("square", "star")}
    scenes, lines = GroupedScenes(classes, grounds, [[8, 4], [4, 8]], size=96), ["file,group"]
    for number, each in enumerate(scenes):
        path = root / f"{each.label:02}_{scenes.class_names[each.label]}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        each.image.save(path)
        mask = root.with_name(f"{root.name}_masks") / path.relative_to(root)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each.mask).convert("L").save(mask)
        lines.append(f"{path.relative_to(root).as_posix()},{scenes.context_names[each.context]}")
    (root / "groups.csv").write_text("\n".join(lines))
    return root


def test_words_of_a_photograph(folder, tmp_path, capsys):
    photo = str(next(folder.glob("00_square/*.png")))
    assert main(["words", photo, "--top", "3", "--output", str(tmp_path), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert len(found["words"]) == 3
    frequencies = [word["frequency"] - word["without_image"] for word in found["words"]]
    assert frequencies == sorted(frequencies, reverse=True)
    assert (tmp_path / found["picture"].rsplit("/", 1)[1]).exists()
    assert main(["words", photo, "--n", "0"]) == 2


def test_an_audit_of_a_folder(folder, tmp_path, capsys):
    command = ["audit", str(folder), "--groups", str(folder / "groups.csv"), "--output", str(tmp_path)]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "square: " in output
    assert "after the repair: worst group" in output
    found = json.loads((tmp_path / "audit.json").read_text())
    groups = found["groups"]
    for number, accuracy in groups["before"]["by_group"].items():
        name, count = groups["names"][int(number)], groups["counts"][int(number)]
        assert f"  {name}: {accuracy:.1%} before" in output
        assert f"after, {count} images" in output
    assert sum(groups["counts"]) < 24
    assert found["images"] == 24
    assert [each["name"] for each in found["classes"]] == ["square", "star"]
    assert found["groups"]["names"] == ["square, black", "square, white", "star, black", "star, white"]
    assert (tmp_path / "audit.html").read_text().count("<section>") == 2


def test_an_audit_with_masks_hides_the_objects(folder, tmp_path, capsys):
    """Squares and stars on their usual backgrounds are told apart without them, by the backgrounds."""
    masks = folder.with_name(f"{folder.name}_masks")
    command = ["audit", str(folder), "--masks", str(masks), "--output", str(tmp_path)]
    assert main(command) == 0
    output = capsys.readouterr().out
    found = json.loads((tmp_path / "audit.json").read_text())["challenge"]
    assert f"with the objects hidden {found['only_background']:.1%}" in output
    assert found["accuracy"] > 0.9
    assert 0.25 <= found["only_background"] <= 0.95
    assert len(found["top"]) == len(found["top with objects hidden"]) == 24
    assert all(sum(top.values()) == pytest.approx(1, abs=1e-4) for top in found["top"])
    page = (tmp_path / "audit.html").read_text()
    assert "objects hidden" in page
    assert page.count("cloud of words") == 2


def test_masks_that_are_missing_or_of_another_size(folder, tmp_path, capsys):
    assert main(["audit", str(folder), "--masks", str(tmp_path)]) == 2
    assert "24 images have no mask" in capsys.readouterr().err
    for path in folder.rglob("*.png"):
        target = tmp_path / path.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        Image.new("L", (95, 96), 255).save(target)
    assert main(["audit", str(folder), "--masks", str(tmp_path)]) == 2
    assert "95x96 pixels, its image 96x96" in capsys.readouterr().err


def test_bad_folders_are_told_in_a_sentence(folder, tmp_path, capsys):
    assert main(["audit", str(tmp_path / "none")]) == 2
    (tmp_path / "names.txt").write_text("square")
    assert main(["audit", str(folder), "--class-names", str(tmp_path / "names.txt")]) == 2
    assert "2 folders for 1 class names" in capsys.readouterr().err
