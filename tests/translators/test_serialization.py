import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_translators import Doubler, features, saved_language_model, tiny_translator

from torchnle.translators import serialization
from torchnle.translators.base import Translator
from torchnle.translators.prefix import PrefixTranslator
from torchnle.translators.rows import rows_of
from torchnle.version import __version__

FILES = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture
def folder(tmp_path):
    """A saved Doubler."""
    return Doubler().save_pretrained(tmp_path / "doubler")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return saved_language_model(tmp_path_factory.mktemp("models") / "lm")


@pytest.fixture
def prefix_folder(tmp_path, language_model):
    """A saved PrefixTranslator."""
    return tiny_translator(language_model).save_pretrained(tmp_path / "prefix")


def edit(folder, **changes):
    """Change entries of config.json, given as path__to__entry=value; None takes an entry out."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name, value in changes.items():
        *parents, last = name.split("__")
        entry = config
        for parent in parents:
            entry = entry[parent]
        entry[last] = value
        if value is None:
            del entry[last]
    path.write_text(json.dumps(config))


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_round_trip_to_bits(prefix_folder, language_model):
    saved = tiny_translator(language_model)
    loaded = Translator.from_pretrained(prefix_folder)
    assert type(loaded) is PrefixTranslator
    assert loaded.config == saved.config
    assert loaded.name == str(prefix_folder)
    assert not loaded.training
    before, after = saved.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    texts = ["a cat", "grass"]
    loaded.language_model = language_model  # the reference loads in the machine's fastest dtype
    assert torch.equal(
        loaded.score(rows_of(features("layer4")), texts), saved.score(rows_of(features("layer4")), texts)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtypes_are_kept(tmp_path, dtype):
    saved = Doubler().to(dtype)
    loaded = Doubler.from_pretrained(saved.save_pretrained(tmp_path / "x"))
    assert loaded.weight.dtype == dtype
    assert loaded.steps.dtype == torch.int64
    assert torch.equal(loaded.weight, saved.weight)


def test_what_is_in_the_folder(prefix_folder, language_model):
    assert sorted(path.name for path in prefix_folder.iterdir()) == FILES
    tensors = load_file(prefix_folder / "model.safetensors")
    assert set(tensors) == set(tiny_translator(language_model).state_dict())
    config = json.loads((prefix_folder / "config.json").read_text())
    assert (config["kind"], config["config"]["network"]) == ("prefix", "devil_network")
    assert config["torchnle_version"] == __version__
    assert config["config"]["language_model"] == language_model.reference


def test_saving_leaves_nothing_beside_the_folder(folder):
    Doubler().save_pretrained(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["doubler"]


def test_who_reads_the_configuration_reads_the_weights(folder):
    assert len({(folder / name).stat().st_mode for name in FILES}) == 1


def test_the_card_is_kept(folder):
    translator = Doubler.from_pretrained(folder)
    translator.card = {"license": "mit", "top-1": 0.5}
    again = Doubler.from_pretrained(translator.save_pretrained(folder))
    assert again.card == {"license": "mit", "top-1": 0.5}


def test_a_device_moves_the_language_model_too(prefix_folder):
    loaded = Translator.from_pretrained(prefix_folder, device="meta")
    assert loaded.device == loaded.language_model.device == torch.device("meta")


# What is refused on reading.


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"holds no {name}.*README"):
        Doubler.from_pretrained(folder)


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        Doubler.from_pretrained(tmp_path / "nothing")


class Bomb:
    def __reduce__(self):
        return open, ("exploded", "w")


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_in_place_of_the_weights(folder, how, monkeypatch):
    monkeypatch.chdir(folder)
    with (folder / "model.safetensors").open("wb") as file:
        pickle.dump(Bomb(), file) if how == "pickle" else torch.save(Bomb(), file)
    with pytest.raises(ValueError, match=r"not a whole safetensors file.*Pickled weights are never read"):
        Doubler.from_pretrained(folder)
    assert not (folder / "exploded").exists()


def test_only_pickled_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors.*pytorch_model\.bin"):
        Doubler.from_pretrained(folder)


def test_truncated_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        Doubler.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("weight"), "missing: weight"),
        (lambda t: t.update(wings=torch.zeros(2)), "unknown: wings"),
        (lambda t: t.update(weight=torch.zeros(4)), r"shape or kind: weight \(4,\) instead of \(3,\)"),
        (lambda t: t.update(weight=torch.zeros(3).long()), r"weight \(3,\) torch.int64 instead of \(3,\)"),
        (lambda t: t.update(steps=torch.tensor(7.0)), r"steps \(\) instead of \(\) torch.int64"),
        (lambda t: (t.pop("steps"), t.update(a=t["weight"].clone())), "missing: steps; unknown: a"),
    ],
)
def test_tensors_that_do_not_fit(folder, change, message):
    edit_tensors(folder, change)
    with pytest.raises(ValueError, match=message):
        Doubler.from_pretrained(folder)


@pytest.mark.parametrize("text", ["{", "[]", "null", '"a"', "\udce9"])
def test_a_config_that_is_none(folder, text):
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"config\.json.* (is not JSON|is not one of torchnle's)"):
        Doubler.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surprise": 1}, "it holds .*'surprise'"),
        ({"card": None}, "it holds .*and should hold .*'card'"),
        ({"config": [1]}, r"config\.json: 'config' is \[1\]; it must be an object"),
        ({"kind": 3}, r"config\.json: 'kind' is 3; it must be a string"),
        ({"config__wings": 2}, r"unknown key\(s\) \['wings'\]; known are \['width', 'note'\]"),
        ({"torchnle_version": None}, "names no version"),
        ({"torchnle_version": 3}, "names no version"),
        ({"torchnle_version": "new"}, "names no version"),
        ({"torchnle_version": "99.0.0"}, "saved by torchnle 99.0.0.*pip install -U torchnle"),
    ],
)
def test_a_config_that_does_not_fit(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ValueError, match=message):
        Doubler.from_pretrained(folder)


def test_a_newer_minor_version_warns(folder):
    edit(folder, torchnle_version="0.99.0")
    with pytest.warns(UserWarning, match="saved by torchnle 0.99.0, this is"):
        Doubler.from_pretrained(folder)


def test_an_older_version_is_read_in_silence(folder, recwarn):
    edit(folder, torchnle_version="0.0.9")
    Doubler.from_pretrained(folder)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config__wings": 2}, r"configuration of PrefixTranslator has the unknown key\(s\) \['wings'\]"),
        ({"config__network_config__wings": 2}, r"of DeViLNetwork has the unknown key\(s\) \['wings'\]"),
        ({"config__network_config__layers": None}, r"of DeViLNetwork lacks the key\(s\) \['layers'\]"),
        ({"config__language_model": None}, r"lacks the key\(s\) \['language_model'\]"),
        ({"config__language_model": "../../secret"}, r"'language_model' is '\.\./\.\./secret'"),
        ({"config__network": "torch.nn.Linear"}, "'torch.nn.Linear' is not known"),
        ({"config__network": "prefix"}, "is no PrefixNetwork"),
        ({"config__network_config__depth": 1}, "unknown: network.encoder.layers.1"),
    ],
)
def test_a_prefix_config_that_does_not_fit(prefix_folder, changes, message):
    edit(prefix_folder, **changes)
    with pytest.raises(ValueError, match=message):
        Translator.from_pretrained(prefix_folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_out_of_the_folder(folder, tmp_path, name):
    shutil.move(folder / name, tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out of its folder"):
        Doubler.from_pretrained(folder)


def test_links_into_the_blobs_of_the_hubs_cache(folder, tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "c0ffee", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in FILES:
        shutil.move(folder / name, blobs / name[::-1])
        (snapshot / name).symlink_to(blobs / name[::-1])
    assert Doubler.from_pretrained(snapshot).width == 3


def test_a_revision_needs_a_repository(folder):
    for reference in (folder, "org/name@v1"):
        with pytest.raises(ValueError, match="revision='v2' does not go with"):
            Doubler.from_pretrained(reference, revision="v2")


# What is refused on writing.


def test_a_saved_translator_is_replaced(folder):
    Doubler(width=5).save_pretrained(folder)
    assert Doubler.from_pretrained(folder).width == 5


def test_an_empty_folder_is_filled(tmp_path):
    assert Doubler().save_pretrained(tmp_path) == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


@pytest.mark.parametrize("name", ["photo.png", "config.json"])
def test_other_folders_are_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(FileExistsError, match=f"something else than a saved translator.*{name}"):
        Doubler().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_translator_with_company_is_not_overwritten(folder):
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        Doubler().save_pretrained(folder)


def test_a_file_is_not_overwritten(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="is a file"):
        Doubler().save_pretrained(tmp_path / "file")


def test_a_failed_write_leaves_the_old_translator(folder, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(serialization.safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        Doubler(width=9).save_pretrained(folder)
    assert Doubler.from_pretrained(folder).width == 3
    assert [path.name for path in folder.parent.iterdir()] == ["doubler"]


def test_a_failed_move_leaves_the_old_translator(folder, monkeypatch):
    rename = serialization.Path.rename

    def fail(self, target):
        if self.name == "new":
            raise OSError("busy")
        return rename(self, target)

    monkeypatch.setattr(serialization.Path, "rename", fail)
    with pytest.raises(OSError, match="busy"):
        Doubler(width=9).save_pretrained(folder)
    assert Doubler.from_pretrained(folder).width == 3


@pytest.mark.parametrize("value", [torch.tensor(1), float("nan"), {1, 2}])
@pytest.mark.parametrize("where", ["card", "config"])
def test_values_that_json_does_not_know(tmp_path, value, where):
    translator = Doubler(note=value) if where == "config" else Doubler()
    translator.card = {"fact": value} if where == "card" else {}
    with pytest.raises(ValueError, match="must be plain values"):
        translator.save_pretrained(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_language_model_without_a_reference(tmp_path):
    with pytest.raises(ValueError, match="the language model has no reference"):
        tiny_translator().save_pretrained(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_local_language_model_is_named_by_its_full_path(language_model, tmp_path, monkeypatch):
    shutil.copytree(language_model.reference, tmp_path / "lm")
    monkeypatch.chdir(tmp_path)
    lm = type(language_model).from_pretrained("./lm")
    assert tiny_translator(lm).config["language_model"] == str(tmp_path / "lm")
