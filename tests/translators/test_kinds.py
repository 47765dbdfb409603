"""Kinds: what a saved folder names its class by, and what it takes to be found."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from letter_encoder import LetterEncoder
from tiny_translators import Doubler, features, tiny_language_model, tiny_translator

from torchnle.language.clip_text import ClipText
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.text_decoder import TextDecoder
from torchnle.translators import kinds
from torchnle.translators.base import Translator
from torchnle.translators.prefix import PrefixTranslator
from torchnle.translators.prefix_network import PrefixNetwork
from torchnle.translators.pretrained import Pretrained
from torchnle.translators.rows import rows_of

SHIPPED = Path(kinds.__file__).parent / "shipped"
SAVED_BY_PATH = Path(__file__).parent / "saved_by_path"


def rename(folder, name):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": name}))


@pytest.fixture
def folder(tmp_path):
    return Doubler().save_pretrained(tmp_path / "doubler")


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_every_line_of_the_table_leads_to_a_class_of_that_kind(kind):
    found = kinds.find(kind, object)
    assert issubclass(found, Pretrained | PrefixNetwork)
    assert not inspect.isabstract(found)
    assert kinds.kind_of(found) == kind


def test_what_is_shipped_names_kinds():
    named = {}
    for folder in SHIPPED.iterdir():
        saved = json.loads((folder / "config.json").read_text())
        named[folder.name] = (saved["kind"], saved["config"].get("network"))
        assert not any(path in (folder / "README.md").read_text() for path in kinds.OLD_PATHS)
    assert named == {
        "aligned-efficientnet-lite0-scenes": ("map", None),
        "decoder-minilm-smollm2": ("text_decoder", None),
        "devil-efficientnet-lite0-scenes": ("prefix", "map_start"),
    }


class TestSavedByPath:
    """Folders that commit 85ae326 wrote, which named classes by module path."""

    @pytest.fixture(autouse=True)
    def models(self, monkeypatch):
        lm = tiny_language_model(reference="tiny")
        letters = LetterEncoder()
        letters.to = lambda device: letters
        monkeypatch.setattr(LanguageModel, "from_pretrained", lambda reference: lm)
        monkeypatch.setattr(TextEncoder, "from_pretrained", lambda reference: letters)
        monkeypatch.setattr(ClipText, "from_pretrained", lambda reference: letters)

    @pytest.mark.parametrize(
        ("name", "kind", "network"),
        [
            ("clip", "clip", None),
            ("text_decoder", "text_decoder", None),
            ("devil_network", "prefix", "devil_network"),
            ("texplain_network", "prefix", "texplain_network"),
        ],
    )
    def test_it_loads_and_is_saved_by_kind(self, tmp_path, name, kind, network):
        before = json.loads((SAVED_BY_PATH / name / "config.json").read_text())
        assert before["translator"] in kinds.OLD_PATHS
        loaded = Pretrained.from_pretrained(SAVED_BY_PATH / name)
        after = json.loads((loaded.save_pretrained(tmp_path / "again") / "config.json").read_text())
        assert (after["kind"], after["config"].get("network")) == (kind, network)
        again = Pretrained.from_pretrained(tmp_path / "again")
        for tensor, old in zip(again.state_dict().values(), loaded.state_dict().values(), strict=True):
            torch.testing.assert_close(tensor, old, atol=0, rtol=1e-2 if name == "text_decoder" else 0)

    def test_it_answers(self):
        loaded = Translator.from_pretrained(SAVED_BY_PATH / "devil_network")
        assert loaded.score(rows_of(features("layer4")), ["a cat"]).isfinite().all()

    def test_every_old_path_is_covered(self):
        text = "".join(path.read_text() for path in SAVED_BY_PATH.glob("*/config.json"))
        assert all(f'"{path}"' in text for path in kinds.OLD_PATHS)
        assert set(kinds.OLD_PATHS.values()) <= set(kinds.KINDS)

    def test_a_class_of_ones_own_is_found_by_its_path(self, folder):
        path = folder / "config.json"
        saved = json.loads(path.read_text())
        del saved["kind"]
        path.write_text(json.dumps({"translator": "tiny_translators.Doubler", **saved}))
        assert type(Translator.from_pretrained(folder)) is Doubler


MINE = '''
import torch
from torchnle import Description, Translator


class Mine(Translator, kind="mine"):
    """Scores a text by its length."""

    score_kind = "cosine"

    def __init__(self, width):
        super().__init__()
        self.register_buffer("direction", torch.ones(width))

    @property
    def config(self):
        return {"width": len(self.direction)}

    def score(self, rows, texts, *, prior=False, internal_batch_size=None):
        lengths = torch.tensor([float(len(text)) for text in texts])
        return torch.cat([group.tokens["layer"][:, 0] @ self.direction for group in rows])[:, None] / lengths

    def describe(self, rows, *, internal_batch_size=None):
        return [Description("mine", 0.0) for group in rows for _ in range(len(group))]
'''


class TestOnesOwn:
    def test_it_loads_once_imported_and_its_card_runs(self, tmp_path, monkeypatch):
        (tmp_path / "my_translators.py").write_text(MINE)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(kinds, "_registered", dict(kinds._registered))
        importlib.import_module("my_translators").Mine(6).save_pretrained(tmp_path / "saved")
        del sys.modules["my_translators"]
        card = (tmp_path / "saved" / "README.md").read_text()
        code = card.split("```python\n")[1].split("```")[0].replace("<this repository or folder>", "saved")
        for name, value in {
            "model": "torch.nn.Sequential(torch.nn.Conv2d(3, 6, 2))",
            "layers": "'0'",
            "images": "torch.rand(2, 3, 4, 4)",
        }.items():
            code = code.replace(f"{name} = ...", f"{name} = {value}")
        refused = "try: torchnle.Translator.from_pretrained('saved')\nexcept ValueError as e: print(e)"
        code = f"import torch, torchnle\n{refused}\n{code}\nprint(lang.describe(images))"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert "the kind 'mine' is not known" in first
        assert "text='mine'" in second

    def test_an_unknown_kind_says_what_to_import(self, folder):
        rename(folder, "theirs")
        with pytest.raises(ValueError, match=r"'theirs' is not known.*import the module.*kind='theirs'"):
            Translator.from_pretrained(folder)

    def test_a_class_without_a_kind_cannot_be_saved(self, tmp_path):
        class Nameless(Doubler):
            pass

        with pytest.raises(ValueError, match=r"Nameless has no kind.*kind=.nameless"):
            Nameless().save_pretrained(tmp_path / "x")
        assert list(tmp_path.iterdir()) == []

    def test_a_network_of_ones_own(self, tmp_path):
        class Linear(PrefixNetwork, kind="test-linear"):
            def __init__(self, width):
                super().__init__({"layer4": 8}, width, tokens_per_row=1)
                self.map = torch.nn.Linear(8, width)

            @property
            def config(self):
                return {"width": self.language_width}

            def forward(self, tokens):
                return self.map(tokens["layer4"])

        lm = tiny_language_model(reference="tiny")
        folder = PrefixTranslator(Linear(lm.width), lm).save_pretrained(tmp_path / "x")
        assert json.loads((folder / "config.json").read_text())["config"]["network"] == "test-linear"
        assert kinds.find("test-linear", PrefixNetwork) is Linear

    @pytest.mark.parametrize("kind", ["clip", "text_decoder", "devil_network"])
    def test_ours_are_not_shadowed(self, kind):
        with pytest.raises(ValueError, match=f"'{kind}' is torchnle's own"):
            type("Mine", (Doubler,), {}, kind=kind)
        assert kinds.find(kind, object).__module__.startswith("torchnle.")

    @pytest.mark.parametrize("kind", ["", "Mine", "my.module", "../x", "a b", 3])
    def test_a_kind_is_a_plain_name(self, kind):
        with pytest.raises(ValueError, match="a-z, 0-9"):
            type("Mine", (Doubler,), {}, kind=kind)

    def test_two_classes_do_not_share_a_kind(self):
        with pytest.raises(ValueError, match=r"'doubler' is that of tiny_translators:Doubler"):
            type("Other", (Doubler,), {}, kind="doubler")

    def test_a_class_may_be_defined_again(self):
        def define():
            class Again(Doubler, kind="test-again"):
                pass

            return Again

        first, second = define(), define()
        assert first is not second
        assert kinds.find("test-again", Translator) is second
        assert kinds.kind_of(first) == "test-again"


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "torchnle_evil.module.Class",
        "torchnle.translators.prefix.Nothing",
        "torchnle.translators.base.Translator",
        "antigravity:Class",
        "",
    ],
)
def test_nothing_else_is_imported(folder, name):
    rename(folder, name)
    before = set(sys.modules)
    with pytest.raises(ValueError, match="is not known"):
        Translator.from_pretrained(folder)
    assert set(sys.modules) == before


def test_another_class_than_the_one_asked_for(folder, tmp_path):
    lm = tiny_language_model(reference="tiny")
    prefix = tiny_translator(lm).save_pretrained(tmp_path / "prefix")
    with pytest.raises(ValueError, match=r"'prefix' .* is no Doubler"):
        Doubler.from_pretrained(prefix)
    with pytest.raises(ValueError, match=r"'doubler' .* is no PrefixTranslator"):
        PrefixTranslator.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"'doubler' .* is no TextDecoder"):
        TextDecoder.from_pretrained(folder)
