"""A recipe of TExplain from its file to a saved translator that describes and gives words."""

import json
from pathlib import Path

import accelerate
import pytest
import torch
from fakes import conv_net
from tiny_bert import tiny_decoder
from tiny_translators import saved_language_model

from torchnle import LanguageAttribution, backbones
from torchnle.cli.main import main
from torchnle.methods.texplain.training import run as runs
from torchnle.methods.texplain.training.run import Run
from torchnle.translators.base import Translator

RECIPE = """
[vision]
model = "tiny"
layers = ["act"]

[language]
model = '{folder}/lm'
max_new_tokens = 5

[network]
hidden = 6
dtype = "bfloat16"

[training]
steps = 4
batch_size = 4
learning_rate = 1e-2
warmup = 1
checkpoint_every = 2
validate_every = 2
log_every = 1

[finetuning]
steps = 3
batch_size = 4
learning_rate = 1e-3
warmup = 1
validate_every = 3
log_every = 1

[loading]
cache = '{folder}/cache'

[[data]]
kind = "shapes"
length = 6
size = 32

[[finetuning_data]]
kind = "shapes"
length = 6
size = 32
seed = 1

[[validation]]
kind = "shapes"
length = 3
size = 32
seed = 2
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    preprocess = backbones.Preprocess(size=5, mean=127.0, std=128.0)
    tiny = backbones.Backbone(conv_net(), preprocess, ("cat", "dog", "car", "tree", "boat"), "tiny")
    monkeypatch.setattr(runs.backbones, "load", lambda name, **_: tiny)
    saved_language_model(tmp_path / "lm")
    file = tmp_path / "tiny.toml"
    file.write_text(RECIPE.format(folder=tmp_path))
    monkeypatch.chdir(tmp_path)
    yield file
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def test_the_command_trains_both_stages_and_what_it_saves_describes(recipe, capsys):
    assert main(["train", "texplain", "--config", str(recipe), "--quiet"]) == 0
    assert capsys.readouterr().out == "translator: runs/tiny/translator\n"
    lines = [json.loads(line) for line in Path("runs/tiny/log.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines if "loss" in line] == [
        *((1, step) for step in range(4)),
        *((2, step) for step in range(4, 7)),
    ]
    assert [line["step"] for line in lines if "validation" in line] == [1, 3, 6]
    translator = Translator.from_pretrained("runs/tiny/translator")
    assert {p.dtype for p in translator.network.parameters()} == {torch.bfloat16}
    net = conv_net()
    lang = LanguageAttribution(net, "act", translator)
    x = torch.rand(2, 3, 5, 5)
    assert len(lang.describe(x)) == 2
    assert translator.tokens_per_row == lang.read(x)[0].every_token.shape[1]
    assert len(lang.words(x, n=5, split=lambda text: tuple(text.split()))) == 2


def test_a_decoder_with_cross_attention_and_the_mean_over_locations(recipe, tmp_path):
    decoder = tiny_decoder()
    decoder.model.save_pretrained(tmp_path / "bert")
    decoder.tokenizer.save_pretrained(tmp_path / "bert")
    changes = [
        f"language.model={tmp_path / 'bert'}",
        "network.decoder=cross-attention",
        "network.pooled=true",
        "network.mode=flat",
        "network.prefix_length=2",
        "network.dtype=float32",
    ]
    translator, _ = runs.train(Run.read(recipe, changes), progress=False)
    assert translator.tokens_per_row == 1
    saved = Translator.from_pretrained("runs/tiny/translator")
    rows = LanguageAttribution(conv_net(), "act", saved).describe(torch.rand(1, 3, 5, 5))
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("vision.layers=['act', 'pool:input']", "reads one layer"),
        ("finetuning_data=[]", "a second stage"),
        ("data=[]", "no data"),
        ("data.stop=2", "start and stop"),
        ("network.pool=true", "pooled"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(recipe, change, message):
    with pytest.raises(ValueError, match=message):
        Run.read(recipe, [change])


def test_a_prompt_is_not_for_cross_attention(recipe):
    changes = ["network.decoder=cross-attention", "language.prompt=Again:"]
    with pytest.raises(ValueError, match="prompt and stop"):
        runs.train(Run.read(recipe, changes), progress=False)


def test_the_shipped_recipe_is_read():
    found = Run.read("scenes-texplain.toml")
    assert found.finetuning is not None
    assert found.network.pooled
