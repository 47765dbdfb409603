"""Recipes: read, refused, and run from the command line on a tiny model."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import accelerate
import pytest
import torch
from fakes import conv_net
from letter_encoder import LetterEncoder
from tiny_translators import saved_language_model, tiny_decoder

from torchnle import backbones
from torchnle.cli import main
from torchnle.data.recipe_tables import KINDS, data_table
from torchnle.errors import MissingDependencyError
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned import embeddings
from torchnle.methods.aligned.decoder.text_decoder import TextDecoder
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.devil.map_start import MapStart
from torchnle.methods.devil.training import run as runs
from torchnle.methods.devil.training import start_map
from torchnle.methods.devil.training.run import Run
from torchnle.settings import RECIPES
from torchnle.training.log import RunLog
from torchnle.translators.base import Translator

RECIPE = """
[vision]
model = "tiny"
layers = ["act", "pool:input"]

[language]
model = '{folder}/lm'
max_new_tokens = 5

[network]
prefix_length = 3
width = 8
depth = 1
heads = 2
feedforward = 16
standardise = true
start = "a cat"
dtype = "bfloat16"

[training]
steps = 4
batch_size = 4
learning_rate = 1e-2
warmup = 1
checkpoint_every = 2
validate_every = 2
log_every = 1

[loading]
cache = '{folder}/cache'

[[data]]
kind = "shapes"
length = 6
size = 32
stop = 2

[[data]]
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
    """A recipe file on a tiny backbone and a tiny language model in a folder."""
    preprocess = backbones.Preprocess(size=32, mean=127.0, std=128.0)
    names = ("cat", "dog", "car", "tree", "boat")
    tiny = backbones.Backbone(conv_net(), preprocess, names, "tiny")
    monkeypatch.setattr(runs.backbones, "load", lambda name, **_: tiny)
    saved_language_model(tmp_path / "lm")
    file = tmp_path / "tiny.toml"
    file.write_text(RECIPE.format(folder=tmp_path))
    monkeypatch.chdir(tmp_path)
    yield file
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def logged(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


class TestCommand:
    @pytest.mark.parametrize("command", [["train"], ["train", "devil"]])
    def test_it_trains_and_saves(self, recipe, capsys, command):
        assert main([*command, "--config", str(recipe), "--quiet"]) == 0
        assert capsys.readouterr().out == "translator: runs/tiny/translator\n"
        lines = logged(Path("runs/tiny"))
        assert [line["step"] for line in lines if "loss" in line] == [0, 1, 2, 3]
        assert [line["step"] for line in lines if "validation" in line] == [1, 3]
        assert set(lines[2]["validation"]["loss_by_layer"]) == {"act", "pool:input"}
        translator = Translator.from_pretrained("runs/tiny/translator")
        assert translator.backbone == "tiny"
        assert {p.dtype for p in translator.network.parameters()} == {torch.bfloat16}
        assert translator.network.layers == {"act": 4, "pool:input": 6}

    def test_settings_change_the_recipe(self, recipe):
        settings = [
            "training.steps=2",
            "output=elsewhere",
            "data.length=5",
            "validation=[]",
            "loading.cache=",
        ]
        changes = [word for setting in settings for word in ("--set", setting)]
        assert main(["train", "--config", str(recipe), "--quiet", *changes]) == 0
        assert [line["step"] for line in logged(Path("elsewhere"))] == [0, 1]
        assert not Path("cache").exists()

    def test_validation_by_cider(self, recipe):
        changes = ["--set", "model_selection.metric=cider", "--set", "model_selection.described=2", "--quiet"]
        assert main(["train", "--config", str(recipe), *changes]) == 0
        found = [line["validation"] for line in logged(Path("runs/tiny")) if "validation" in line]
        assert all(each["criterion"] == each["score"] >= 0 for each in found)

    def test_a_finished_run_is_not_done_again(self, recipe):
        for _ in range(2):
            assert main(["train", "--config", str(recipe), "--quiet"]) == 0
        assert len(logged(Path("runs/tiny"))) == 6

    def test_live_and_cached_features_train_the_same(self, recipe):
        live = ["--set", "loading.cache=", "--set", "output=live", "--quiet"]
        exact = ["--set", "loading.dtype=float32", "--set", "output=exact", "--quiet"]
        for changes in (live, exact):
            assert main(["train", "--config", str(recipe), *changes]) == 0
        losses = [
            [line["loss"] for line in logged(Path(name)) if "loss" in line] for name in ("live", "exact")
        ]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)

    def test_a_cache_of_another_model(self, recipe, capsys):
        assert main(["train", "--config", str(recipe), "--quiet"]) == 0
        with torch.no_grad():
            runs.backbones.load("tiny").model[0].weight.mul_(2)
        assert main(["train", "--config", str(recipe), "--set", "output=b"]) == 2
        assert "is of another model" in capsys.readouterr().err

    def test_unreadable_images_are_counted_and_named(self, recipe, tmp_path, capsys):
        folder = tmp_path / "own"
        folder.mkdir()
        for number in range(14):
            data_table({"kind": "shapes", "size": 32}, "data").open()[number].image.save(
                folder / f"{number}.png"
            )
        lines = [{"image": f"{number}.png", "caption": "a cat"} for number in range(14)]
        (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
        for number in range(12):
            (folder / f"{number}.png").write_bytes(b"broken")
        text = (
            recipe.read_text().split("[[data]]")[0]
            + f"[[data]]\nkind = 'file'\nfile = '{folder}/captions.jsonl'"
        )
        recipe.write_text(text.replace("cache =", "# cache ="))
        assert main(["train", "--config", str(recipe), "--quiet"]) == 0
        err = capsys.readouterr().err
        assert "12 images could not be read and were skipped:\n" in err
        assert "0.png is not an image" in err
        assert "... and 2 more" in err

    def test_pairs_of_classes_are_read_beside_the_data(self, recipe):
        layers = ["--quiet", "--set", "vision.layers=['act', 'norm']"]
        losses = []
        for count in (0, 20):
            changes = [*layers, "--set", f"classes.count={count}", "--set", f"output=run{count}"]
            assert main(["train", "--config", str(recipe), *changes]) == 0
            losses.append([line["loss"] for line in logged(Path(f"run{count}")) if "loss" in line])
        assert [len(each) for each in losses] == [4, 4]
        assert losses[0] != losses[1]

    def test_pairs_of_classes_need_names_and_the_layer(self, recipe, monkeypatch, capsys):
        few = ["--set", "vision.layers=['act']", "--set", "classes.count=2", "--set", "loading.cache="]
        assert main(["train", "--config", str(recipe), "--quiet", *few]) == 2
        assert "the head reads 'norm', which is not among the layers" in capsys.readouterr().err
        nameless = replace(runs.backbones.load("tiny"), class_names=())
        monkeypatch.setattr(runs.backbones, "load", lambda name, **_: nameless)
        assert main(["train", "--config", str(recipe), "--quiet", "--set", "classes.count=2"]) == 2
        assert "'tiny' has no class names" in capsys.readouterr().err

    def test_it_starts_from_a_map_that_is_fitted_and_kept(self, recipe, monkeypatch, capsys):
        lm = runs.LanguageModel.from_pretrained(str(recipe.parent / "lm"), dtype=torch.float32)
        tiny_decoder(lm).save_pretrained("decoder", dtype=None)
        monkeypatch.setattr(TextDecoder, "from_pretrained", lambda name: tiny_decoder(lm))
        monkeypatch.setattr(TextEncoder, "from_pretrained", lambda reference: LetterEncoder())
        monkeypatch.setattr(embeddings, "_WORTH_KEEPING", 10**9)  # the toy encoder is kept in no cache
        layers = ["--set", "vision.layers=['act', 'norm']", "--set", "map.classes=true", "--quiet"]
        assert main(["train", "--config", str(recipe), *layers]) == 0
        kept = MapTranslator.from_pretrained("runs/tiny/map")
        assert kept.class_names == runs.backbones.load("tiny").class_names
        trained = Translator.from_pretrained("runs/tiny/translator").network
        assert isinstance(trained, MapStart)
        assert trained.vocabulary.phrases == kept.vocabulary.phrases
        assert trained.change.output.weight.any()
        assert trained.map.reference == str(Path("runs/tiny/map").resolve())
        assert torch.equal(trained.prefix_network.leave.weight, tiny_decoder().network.leave.weight)
        by_name = ["--set", "map.reference=runs/tiny/map", "--set", "output=again"]
        monkeypatch.setattr(start_map, "fit_captions", None)  # neither of these fits again
        assert main(["train", "--config", str(recipe), *layers]) == 0
        assert main(["train", "--config", str(recipe), *layers, *by_name]) == 0
        assert not Path("again/map").exists()
        losses = [[x["loss"] for x in logged(Path(f)) if "loss" in x] for f in ("runs/tiny", "again")]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
        capsys.readouterr()
        assert main(["train", "--config", str(recipe), *layers, "--set", "map.images=3"]) == 2
        assert "the map in 'runs/tiny/map' was fitted by another recipe" in capsys.readouterr().err

    def test_a_loss_that_is_not_finite(self, recipe, capsys):
        changes = ["--set", "training.learning_rate=1e30", "--set", "training.warmup=0", "--quiet"]
        assert main(["train", "--config", str(recipe), *changes]) == 2
        assert "Training stopped before the weights were changed" in capsys.readouterr().err

    def test_without_a_recipe(self, capsys):
        assert main(["train"]) == 2
        assert "needs --config FILE" in capsys.readouterr().err


class TestRecipes:
    @pytest.mark.parametrize(
        "file",
        sorted(set(RECIPES.glob("*.toml")) - set(RECIPES.glob("*-texplain.toml"))),
        ids=lambda file: file.stem,
    )
    def test_every_recipe_of_the_repository_is_read(self, file):
        found = Run.read(file)
        assert found.output == Path("runs") / file.stem
        assert found.data

    def test_the_papers_run_is_the_defaults(self):
        """The recipe spells the defaults out, which are the paper's."""
        found = Run.read(RECIPES / "cc3m-resnet50-opt125m.toml")
        assert found.training == runs.Recipe()
        assert found.network == runs.Network()
        assert found.language == runs.Language("facebook/opt-125m")

    def test_gpt2_has_clipcaps_sizes(self):
        found = Run.read(RECIPES / "cc3m-clip-gpt2.toml").network
        assert (found.depth, found.heads, found.feedforward) == (8, 8, 1532)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("training.step=3", r"\[training\] has no key 'step'. Nearest: steps"),
            ("vison.model=x", r"has no key 'vison'. Nearest: vision"),
            ("data.lenght=3", r"\[data\] has no key 'lenght'. Nearest: length"),
            ("map.refrence=x", r"\[map\] has no key 'refrence'. Nearest: reference"),
            ("data.kind=shaped", r"\[data\] kind = 'shaped'. Nearest: shapes"),
            ("training.steps='3'", r"\[training\] steps = '3': it should be int"),
            ("training.learning_rate=nan", r"learning_rate = nan: it should be float"),
            ("training.clip=inf", r"clip = inf: it should be float"),
            ("training.steps=true", r"\[training\] steps = True"),
            ("training.precision=fp8", r"\[training\] precision = 'fp8': it should be Literal"),
            ("training.steps=-1", r"steps=-1, word_steps=\d+: pass 0 or more, together 1 or more"),
            ("training", "'training' sets nothing"),
        ],
    )
    def test_refused_with_the_nearest(self, change, message):
        with pytest.raises(ValueError, match=message):
            Run.read(RECIPES / "shapes.toml", [change])

    def test_files_that_are_no_recipes(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"the name of a shipped recipe: .*shapes\.toml"):
            Run.read(tmp_path / "none.toml")
        (tmp_path / "bad.toml").write_text("[training\n")
        with pytest.raises(ValueError, match=r"bad\.toml is not TOML"):
            Run.read(tmp_path / "bad.toml")
        (tmp_path / "half.toml").write_text("[language]\nmodel = 'x'\n")
        with pytest.raises(ValueError, match=r"half\.toml\] lacks vision, network, training, data"):
            Run.read(tmp_path / "half.toml")

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({"backgrounds": ["wood"]}, "backgrounds has 'wood'; known are plain"),
            ({"backgrounds": ["photos"]}, "say in which folder with photos"),
            ({"objects": [1]}, r"\[1\]: two numbers are needed"),
            ({"effects": {"blurr": 1}}, r"\[data.effects\] has no key 'blurr'. Nearest: blur"),
        ],
    )
    def test_scenes_that_cannot_be_made(self, table, message):
        with pytest.raises(ValueError, match=message):
            data_table({"kind": "shapes", **table}, "data").open()

    def test_captions_that_leave_the_place_out(self):
        tables = [
            {"kind": "shapes", "length": 4, "size": 64, "locations": locations} for locations in (True, False)
        ]
        told, bare = (list(data_table(table, "data").open()) for table in tables)
        for one, other in zip(told, bare, strict=True):
            assert one.caption == f"{other.caption} {one.location}"
            assert one.image.tobytes() == other.image.tobytes()

    def test_kinds_have_all_settings_of_what_they_open(self, tmp_path):
        effects = {"kind": "shapes", "length": 1, "effects": {"chance": 1.0}, "size": 64}
        scenes = data_table(effects, "data").open()
        assert scenes.effects.chance == 1.0
        assert data_table({**effects, "effects": True}, "data").open().effects.chance == 0.5
        assert set(KINDS) == {"file", "webdataset", "huggingface", "scenes", "shapes"}


class TestLog:
    def test_lines_that_will_be_written_again_are_removed(self, tmp_path):
        with RunLog(tmp_path, 9, progress=False) as log:
            for step in range(6):
                log({"step": step, "loss": 1.0, **({"unreadable": {step: "why"}} if step in (1, 5) else {})})
        with (tmp_path / "log.jsonl").open("a") as file:
            file.write('{"step": 6, "lo')
        with RunLog(tmp_path, 9, done=4, progress=False) as log:
            log({"step": 4, "loss": 2.0})
        assert [line["step"] for line in logged(tmp_path)] == [0, 1, 2, 3, 4]
        assert log.unreadable == {1: "why"}

    def test_tensorboard_gets_every_number(self, tmp_path, monkeypatch):
        written = []

        class Writer:
            def __init__(self, folder, purge_step):
                written.append((Path(folder).name, purge_step))

            def add_scalar(self, *scalar):
                written.append(scalar)

            def close(self):
                written.append("closed")

        module = type(sys)("torch.utils.tensorboard")
        module.SummaryWriter = Writer
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
        with RunLog(tmp_path, 9, done=3, tensorboard=True, progress=False) as log:
            log({"step": 3, "loss": 1.5})
            log({"step": 3, "validation": {"loss": 2.0, "loss_by_layer": {"a": 3.0}}})
        numbers = [("loss", 1.5, 3), ("validation/loss", 2.0, 3), ("validation/loss_by_layer/a", 3.0, 3)]
        assert written == [("tensorboard", 3), *numbers, "closed"]

    def test_without_tensorboard(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        with pytest.raises(MissingDependencyError, match=r"torchnle\[tensorboard\]"):
            RunLog(tmp_path, 9, tensorboard=True, progress=False)

    def test_the_bar_shows_step_and_loss(self, tmp_path, capsys):
        with RunLog(tmp_path, 9) as log:
            log({"step": 4, "loss": 1.25})
        assert "5/9" in capsys.readouterr().err
