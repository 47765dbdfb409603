"""A run is not gone on with on other data, with another prompt, or another model."""

from __future__ import annotations

import json
import multiprocessing

import pytest
import torch
from PIL import Image
from tiny import make_lm, make_model, make_tokenizer
from torch import nn

from torchnle.data.captions import CaptionedImage, CaptionList
from torchnle.journal import Journal
from torchnle.language.model import LanguageModel
from torchnle.methods.devil import devil_translator
from torchnle.training import prefix
from torchnle.training.feature_cache import CachedFeatures, cached
from torchnle.training.recipe import Recipe
from torchnle.training.supply import LiveFeatures

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0)}
RECIPE = {"batch_size": 2, "warmup": 1, "checkpoint_every": 1, "layer_dropout": 0.0, "moments_of": 4}


def pixels(image):
    return torch.tensor(list(image.getdata()), dtype=torch.float32).T.reshape(3, 8, 8) / 255


def source(word="cat"):
    return CaptionList(
        [CaptionedImage(Image.new("RGB", (8, 8), c), (f"a {n} {word}",)) for n, c in COLOURS.items()]
    )


def live(word="cat", seed=0):
    torch.manual_seed(seed)
    return LiveFeatures(nn.Sequential(nn.Conv2d(3, 6, 4, 4)), ["0"], source(word), pixels)


def trained(folder, *, steps=4, supply=None, lm=None, prompt=""):
    lm = lm or make_lm()
    torch.manual_seed(0)
    sizes = {"prefix_length": 2, "width": 8, "depth": 1, "heads": 2, "feedforward": 8}
    translator = devil_translator({"0": 6}, lm, **sizes, prompt=prompt)
    recipe = Recipe(steps=steps, **RECIPE)
    return prefix.train(translator, supply or live(), recipe, folder)


@pytest.fixture
def begun(tmp_path):
    trained(tmp_path)
    return tmp_path


def test_the_same_run_is_found_done(begun):
    trained(begun)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"supply": lambda: live("dog")}, "data"),
        ({"supply": lambda: live(seed=1)}, "model"),
        ({"prompt": lambda: "the"}, "prompt"),
        ({"lm": lambda: make_lm(seed=1)}, "language model"),
        ({"lm": lambda: LanguageModel(make_model("gpt2"), make_tokenizer(bos=False))}, None),
    ],
)
def test_another_run_is_refused_by_what_differs(begun, change, named):
    before = (begun / "last.pt").read_bytes()
    given = {name: make() for name, make in change.items()}
    if named is None:
        trained(begun, **given)  # the same words and weights
        return
    with pytest.raises(ValueError, match=named):
        trained(begun, **given)
    assert (begun / "last.pt").read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04cut", b"\x80\x02}q\x00.", "half", "list", "keys"])
def test_a_damaged_checkpoint_is_named(begun, damage):
    file = begun / "last.pt"
    if damage == "half":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif isinstance(damage, str):
        torch.save([1] if damage == "list" else {"done": 1}, file)
    else:
        file.write_bytes(damage)
    with pytest.raises(ValueError, match=r"last\.pt.*another folder"):
        trained(begun)


class TestJournal:
    @pytest.mark.parametrize("line", ["{", "[1]", '"a"', "[1, 2]", "null"])
    def test_a_bad_line_is_named(self, tmp_path, line):
        file = tmp_path / "parts.jsonl"
        Journal(file, {"seed": 0}).get("a", lambda: 1)
        file.write_text(file.read_text() + line + "\n")
        with pytest.raises(ValueError, match=r"parts\.jsonl, line 3"):
            Journal(file, {"seed": 0})

    def test_bytes_that_are_no_text(self, tmp_path):
        file = tmp_path / "parts.jsonl"
        file.write_bytes(b"\xff\xfe\x00\n")
        with pytest.raises(ValueError, match="not UTF-8"):
            Journal(file, {})

    def test_several_writers_leave_whole_lines(self, tmp_path):
        file, context = tmp_path / "parts.jsonl", multiprocessing.get_context("fork")
        writers = [context.Process(target=_write, args=(file, number)) for number in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(lines) == 1 + 4 * 20


def _write(file, number):
    journal = Journal(file, {})
    for part in range(20):
        journal.get(f"{number} {part}", lambda: "x" * 5000)


class TestCache:
    def test_two_builders_at_once_make_one_cache(self, tmp_path):
        context = multiprocessing.get_context("fork")
        for round_ in range(5):
            folder = tmp_path / str(round_)
            builders = [context.Process(target=cached, args=(folder, live())) for _ in range(2)]
            for builder in builders:
                builder.start()
            for builder in builders:
                builder.join()
            assert [builder.exitcode for builder in builders] == [0, 0]
            assert len(CachedFeatures(folder)) == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == list("01234")

    @pytest.mark.parametrize("name", ["layer0.bin", "captions.jsonl", "cache.json", "manifest.json"])
    @pytest.mark.parametrize("how", ["cut", "flipped", "gone"])
    def test_damage_is_named(self, tmp_path, name, how):
        file = tmp_path / "cache" / name
        cached(tmp_path / "cache", live())
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.unlink()
        if how != "gone":
            file.write_bytes(bytes(raw if how == "flipped" else raw[:-3]))
        with pytest.raises(ValueError, match=r"damaged|holds no finished"):
            CachedFeatures(tmp_path / "cache")

    def test_an_edited_shape_is_noticed(self, tmp_path):
        cached(tmp_path / "cache", live())
        file = tmp_path / "cache" / "cache.json"
        file.write_text(file.read_text().replace("[4, 6]", "[6, 4]"))
        with pytest.raises(ValueError, match=r"cache\.json"):
            CachedFeatures(tmp_path / "cache")
