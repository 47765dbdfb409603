"""Pictures and files as inputs, and descriptions of whole folders."""

from __future__ import annotations

import copy
import json
import os
import signal
from itertools import islice

import pytest
import torch
from fakes import LetterTranslator, conv_net
from PIL import Image
from zero_shot_world import classifier, pictures

from torchnle import LanguageAttribution
from torchnle.attr.dataset import describe_dataset
from torchnle.backbones import Backbone, Preprocess

PREPROCESS = Preprocess(size=8, mean=127.0, std=64.0)


def picture(seed: int, size: tuple[int, int] = (12, 9)) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=generator)
    return Image.fromarray(pixels.numpy())


@pytest.fixture
def lang():
    backbone = Backbone.of(conv_net(), PREPROCESS, [f"class {i}" for i in range(5)])
    return LanguageAttribution.from_backbone(backbone, "layer", LetterTranslator())


@pytest.fixture
def folder(tmp_path):
    for number in range(7):
        picture(number).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    return tmp_path


class TestPictures:
    def test_images_and_files_are_their_tensors(self, lang, tmp_path):
        picture(1).save(tmp_path / "a.png")
        x = torch.stack([PREPROCESS(picture(1)), PREPROCESS(picture(2))])
        given = [tmp_path / "a.png", picture(2)]
        assert lang.describe(given) == lang.describe(x)
        assert lang.describe(str(tmp_path / "a.png")) == lang.describe(x[:1])
        assert lang.describe(picture(2), where=(0, 1)) == lang.describe(x[1:], where=(0, 1))
        torch.testing.assert_close(lang.saliency(given, ["sky"]), lang.saliency(x, ["sky"]))
        torch.testing.assert_close(lang.attribute(given, target="sky"), lang.attribute(x, target="sky"))
        assert lang.top_locations(given, "sky").found == lang.top_locations(x, "sky").found

    def test_a_bare_model_takes_tensors(self):
        lang = LanguageAttribution(conv_net(), "layer", LetterTranslator())
        with pytest.raises(TypeError, match=r"inputs are a Image; .*from_backbone"):
            lang.describe(picture(1))

    @pytest.mark.parametrize("given", [7, [1, 2], [torch.rand(3, 8, 8)], {"x": 1}])
    def test_anything_else_is_refused(self, lang, given):
        with pytest.raises(TypeError, match=r"inputs are a .*; pass a tensor \(N, C, H, W\)"):
            lang.describe(given)

    def test_nothing_is_refused(self, lang):
        with pytest.raises(ValueError, match="no pictures"):
            lang.describe([])

    def test_any_transform_makes_a_backbone(self):
        def transform(image):
            return PREPROCESS(image).double()

        backbone = Backbone.of(conv_net().train(), transform)
        assert not backbone.model.training
        assert backbone.preprocess(picture(1)).dtype == torch.float32
        torch.testing.assert_close(backbone.preprocess(picture(1)), PREPROCESS(picture(1)))
        assert backbone.view(picture(1)).size == (8, 8)

    @pytest.mark.parametrize(
        ("transform", "message"), [(3, "pass a function"), (lambda image: 1.0, "gave float")]
    )
    def test_no_transform_is_refused(self, transform, message):
        with pytest.raises(TypeError, match=message):
            Backbone.of(conv_net(), transform)


class TestFolders:
    @pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
    def test_lines_are_descriptions_one_by_one(self, lang, folder, batch_size):
        files = sorted(folder.glob("*.png"))
        lines = list(describe_dataset(lang, files, batch_size=batch_size, where="all"))
        assert [line["file"] for line in lines] == [str(file) for file in files]
        assert "3.png" in lines[3]["error"]
        for file, line in zip(files, lines, strict=True):
            if "error" not in line:
                (word,), (grid,) = lang.describe(file), lang.describe(file, where="all")
                assert line["text"] == word.text
                assert line["score"] == pytest.approx(word.score, abs=1e-5)
                assert [cell["text"] for cell in line["locations"]] == [cell.text for cell in grid]

    def test_processes_that_decode_change_nothing(self, lang, folder):
        files = sorted(folder.glob("*.png"))
        assert list(describe_dataset(lang, files, batch_size=2, workers=2)) == list(
            describe_dataset(lang, files, batch_size=2)
        )

    @pytest.mark.parametrize("cut", range(0, 1400, 100))
    def test_a_run_that_was_cut_off_anywhere_goes_on_to_the_same_bytes(self, lang, folder, tmp_path, cut):
        files, whole = sorted(folder.glob("*.png")), tmp_path / "whole.jsonl"
        lines = list(describe_dataset(lang, files, batch_size=3, journal=whole))
        part = tmp_path / "part.jsonl"
        part.write_bytes(whole.read_bytes()[:cut])
        assert list(describe_dataset(lang, files, batch_size=3, journal=part)) == lines
        assert part.read_bytes() == whole.read_bytes()

    def test_what_is_done_is_not_done_again(self, lang, folder, tmp_path):
        files, journal = sorted(folder.glob("*.png")), tmp_path / "a.jsonl"
        lines = list(describe_dataset(lang, files, batch_size=3, journal=journal))
        lang.read = lambda *_, **__: pytest.fail("read again")
        assert list(describe_dataset(lang, files, batch_size=3, journal=journal)) == lines

    def test_a_run_killed_at_any_moment_goes_on(self, lang, folder, tmp_path):
        files, whole, part = sorted(folder.glob("*.png")), tmp_path / "w.jsonl", tmp_path / "p.jsonl"
        lines = list(describe_dataset(lang, files, batch_size=2, journal=whole))
        for kept in (0, 1, 3, 5):
            child = os.fork()
            if child == 0:
                list(islice(describe_dataset(lang, files, batch_size=2, journal=part), kept))
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
        assert list(describe_dataset(lang, files, batch_size=2, journal=part)) == lines
        assert part.read_bytes() == whole.read_bytes()

    def test_another_runs_journal_is_refused(self, lang, folder, tmp_path):
        files, journal = sorted(folder.glob("*.png")), tmp_path / "a.jsonl"
        list(describe_dataset(lang, files, batch_size=3, journal=journal))
        before = journal.read_bytes()
        for other in ({"batch_size": 2}, {"where": "all"}):
            with pytest.raises(ValueError, match=r"a\.jsonl holds descriptions of another setting"):
                list(describe_dataset(lang, files, journal=journal, **{"batch_size": 3, **other}))
        with pytest.raises(ValueError, match=r"a\.jsonl holds descriptions of other files"):
            list(describe_dataset(lang, files[1:] + files[:1], batch_size=3, journal=journal))
        assert journal.read_bytes() == before

    def test_a_journal_of_another_model_or_translator_is_refused(self, folder, tmp_path):
        files, journal = sorted(folder.glob("*.png")), tmp_path / "a.jsonl"
        lang = classifier()
        lang.preprocess = PREPROCESS
        lines = list(describe_dataset(lang, files, journal=journal))
        assert list(describe_dataset(lang, files, journal=journal)) == lines
        changed = copy.deepcopy(lang)
        with torch.no_grad():
            next(changed.forward_func.parameters()).add_(1)
        more = copy.deepcopy(lang)
        more.translator.sure_above = 0.9
        adapted = copy.deepcopy(lang).adapt([pictures(5, seed=7)])
        for other in (changed, more, adapted):
            with pytest.raises(ValueError, match=r"a\.jsonl holds descriptions of another setting"):
                list(describe_dataset(other, files, journal=journal))

    def test_bad_input(self, lang, folder):
        bare = LanguageAttribution(conv_net(), "layer", LetterTranslator())
        two = LanguageAttribution.from_backbone(
            Backbone.of(conv_net(), PREPROCESS), ["layer", "norm"], LetterTranslator()
        )
        for wrong, options, message in (
            (bare, {}, "knows no preprocessing"),
            (two, {}, "one layer"),
            (lang, {"batch_size": 0}, "batch_size=0"),
        ):
            with pytest.raises(ValueError, match=message):
                list(describe_dataset(wrong, [folder / "0.png"], **options))
        assert list(describe_dataset(lang, [])) == []
        json.dumps(list(describe_dataset(lang, [folder / "0.png"])))
