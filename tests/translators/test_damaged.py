"""Damaged and wrong files: each is refused with the name of the file, the entry, and what is allowed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from letter_encoder import LetterEncoder
from safetensors.torch import load_file, save_file
from tiny_translators import Doubler, tiny_language_model, tiny_translator

from torchnle.language.clip_text import ClipText
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.translators.config_values import Number, Positive, Reference, Size, check_config, loading
from torchnle.translators.pretrained import Pretrained

SAVED = Path(__file__).parent / "saved_by_path"
MAP = Path(__file__).parent / "saved_map"
KINDS = ["map", *sorted(folder.name for folder in SAVED.iterdir())]
WRONG = [None, True, "x", "", -1, 0, 1.5, 10**6, 10**30, [], ["x"], [None], {}, {"a": 1}, {"": {}}]
WRONG += [float("nan"), float("inf"), -1e308, "../../x"]


@pytest.fixture(autouse=True)
def models(monkeypatch):
    lm = tiny_language_model(reference="tiny")

    def load(model, *names):
        def from_pretrained(reference):
            if reference not in names:
                raise FileNotFoundError(f"{reference!r} could not be found")
            return model

        return from_pretrained

    monkeypatch.setattr(LanguageModel, "from_pretrained", load(lm, "tiny"))
    monkeypatch.setattr(TextEncoder, "from_pretrained", load(LetterEncoder(), "letters"))
    monkeypatch.setattr(ClipText, "from_pretrained", load(LetterEncoder(), "words"))


@pytest.fixture
def folder(tmp_path):
    return Doubler().save_pretrained(tmp_path / "doubler")


def entries(value, path=()):
    """The paths of all entries of plain values."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from entries(value[key], (*path, key))


def put(config, path, value):
    changed = json.loads(json.dumps(config))
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def refusal(folder):
    """The message with which a folder is refused, or None; any other error is raised."""
    try:
        Pretrained.from_pretrained(folder)
    except (ValueError, FileNotFoundError) as error:  # the latter for a reference to nothing
        return str(error)
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_values_are_refused_by_name_or_harmless(tmp_path, kind):
    """Every entry of every kind's configuration in turn is given 19 wrong values."""
    folder = shutil.copytree(MAP if kind == "map" else SAVED / kind, tmp_path / kind)
    saved = json.loads((folder / "config.json").read_text())
    refused = 0
    for path in entries(saved["config"]):
        for value in WRONG:
            (folder / "config.json").write_text(json.dumps(put(saved, ("config", *path), value)))
            message = refusal(folder)
            refused += message is not None
            # Named are the entry, the file and what it lacks, or the reference that leads to nothing.
            names = (str(path[-1]), str(folder), repr(value))
            assert message is None or any(name in message for name in names), (path, value, message)
    assert refused > 50


@pytest.mark.parametrize(
    ("kind", "path", "value", "allowed"),
    [
        ("text_decoder", ("width",), "many", "'width' is 'many'; it must be a whole number from 1 to 26"),
        ("text_decoder", ("hidden",), 10**12, "'hidden' is 1000000000000; .* from 1 to 26"),
        ("text_decoder", ("prefix_length",), -2, "'prefix_length' is -2; .* from 1 to 26"),
        ("text_decoder", ("prefix_length",), True, "'prefix_length' is True; .* from 1 to 26"),
        ("text_decoder", ("max_new_tokens",), 0, "'max_new_tokens' is 0; .* from 1 to 100000"),
        ("text_decoder", ("prompt",), None, "'prompt' is None; it must be a string"),
        ("text_decoder", ("language_model",), "a/../b", "'language_model' is 'a/../b'; .*'..'"),
        ("map", ("sure_above",), "x", "'sure_above' is 'x'; it must be a finite number"),
        ("map", ("sure_above",), float("nan"), "config.sure_above = nan"),
        ("map", ("phrases",), "cat", "'phrases' is 'cat'; it must be a list"),
        ("map", ("phrases", 1), 3, r"'phrases\[1\]' is 3; it must be a string"),
        ("map", ("maps",), [], r"'maps' is \[\]; it must be an object"),
        ("map", ("maps", "layer4", "width"), -1, "'width' is -1; .* from 1 to 26"),
        ("map", ("maps", "layer4", "regression"), ["x"], r"'regression' is \['x'\]; it must be a string"),
        ("map", ("maps", "layer4", "classes"), 10**9, "'classes' is 1000000000; .* from 0 to 26"),
        ("devil_network", ("network_config", "depth"), 10**4, "'depth' is 10000; .* from 1 to 200"),
        ("devil_network", ("network_config", "layers", "layer3"), "6", "'layers.layer3' is '6'; it must be"),
        ("devil_network", ("network_config", "standardise"), 1, "'standardise' is 1; it must be true or"),
        ("clip", ("bank",), 3, "'bank' is 3; it must be a list or null"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(tmp_path, kind, path, value, allowed):
    folder = shutil.copytree(MAP if kind == "map" else SAVED / kind, tmp_path / kind)
    saved = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(put(saved, ("config", *path), value)))
    with pytest.raises(ValueError, match=allowed) as caught:
        Pretrained.from_pretrained(folder)
    assert str(folder / "config.json") in str(caught.value)


def test_a_class_of_ones_own_is_checked_by_its_annotations():
    class Mine(Doubler):
        def __init__(self, width: Size, model: Reference, scale: Positive = 1.0, seed: int = 0): ...

    good = {"width": 9, "model": "org/name", "scale": 2, "seed": 2**60}
    check_config(good, Mine, "mine")
    for key, value in [("width", 10), ("model", "../x"), ("scale", -1), ("seed", 0.5)]:
        with pytest.raises(ValueError, match=rf"c\.json: mine: '{key}' is"), loading(Path("c.json"), 9):
            check_config(good | {key: value}, Mine, "mine")
    check_config(good | {"width": 10}, Mine, "mine")


def test_what_is_not_annotated_is_not_checked():
    check_config({"x": object(), "y": object()}, lambda x, y: None, "it")

    def unknown(x: "Nowhere", y: Number): ...

    check_config({"x": 1, "y": "y"}, unknown, "it")


# Tensors.


def spoil(folder, **tensors):
    path = folder / "model.safetensors"
    save_file(load_file(path) | tensors, path)


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nan_and_infinite_tensors_are_refused(folder, number, dtype):
    spoil(folder, weight=torch.tensor([0, number, 1], dtype=dtype))
    with pytest.raises(ValueError, match=r"NaN or infinite .*doubler/model\.safetensors: weight"):
        Doubler.from_pretrained(folder)


def test_float64_becomes_the_modules_own_dtype(folder):
    spoil(folder, weight=torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    loaded = Doubler.from_pretrained(folder)
    assert torch.equal(loaded.weight, torch.tensor([0.1, 0.2, 0.3]))
    assert loaded.weight.dtype == torch.float32


def test_float64_beyond_float32_is_refused(folder):
    spoil(folder, weight=torch.tensor([1e300, 0, 0], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"infinite .*weight"):
        Doubler.from_pretrained(folder)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_other_kinds_of_numbers_are_refused(folder, dtype):
    spoil(folder, weight=torch.zeros(3).to(dtype))
    with pytest.raises(ValueError, match=rf"model\.safetensors.*weight \(3,\) {dtype} instead of \(3,\)"):
        Doubler.from_pretrained(folder)


def test_what_would_not_load_is_not_saved(tmp_path):
    translator = Doubler()
    translator.weight.data[1] = torch.nan
    with pytest.raises(ValueError, match=r"x/model\.safetensors: weight"):
        translator.save_pretrained(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_loading_leaves_the_random_state_alone(tmp_path):
    lm = tiny_language_model(reference="tiny")
    folder = tiny_translator(lm).save_pretrained(tmp_path / "x")
    before = torch.get_rng_state()
    Pretrained.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)


# Files.


@pytest.mark.parametrize("keep", [0, 1, 7, 0.5, -1])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_cut_files_are_named_with_what_to_do(folder, name, keep):
    path = folder / name
    content = path.read_bytes().strip()
    path.write_bytes(content[: int(len(content) * keep) if 0 < keep < 1 else keep])
    with pytest.raises(ValueError, match=rf"doubler/{name}.*{path.stat().st_size} bytes.*Download it again"):
        Doubler.from_pretrained(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"{}" * 2, b"\0" * 50, b'{"a": 1e999}'])
def test_other_content_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"doubler/config\.json"):
        Doubler.from_pretrained(folder)


def test_every_flipped_byte_is_refused_or_loads(folder):
    """A flipped byte gives a ValueError, or another number; it never gives a raw error."""
    for name in ("config.json", "model.safetensors"):
        content = (folder / name).read_bytes()
        for index in range(len(content)):
            flipped = bytearray(content)
            flipped[index] ^= 0x41
            (folder / name).write_bytes(flipped)
            refusal(folder)
        (folder / name).write_bytes(content)
