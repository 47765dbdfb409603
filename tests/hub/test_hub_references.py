import pytest

from torchnle import hub
from torchnle.hub import references


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCHNLE_HOME", str(tmp_path / "home"))


def test_a_folder_and_a_file_are_themselves(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    assert hub.resolve(str(tmp_path)) == tmp_path
    assert hub.resolve(file) == file
    monkeypatch.chdir(tmp_path)
    assert hub.resolve("model.safetensors") == file
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.resolve("~/model.safetensors") == file


def test_a_local_folder_comes_before_the_hub(tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub.resolve("org/name") == tmp_path / "org" / "name"


def test_a_shipped_translator_is_found_by_name_and_nothing_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "_SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped" / "plain-words").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    assert hub.resolve("plain-words") == tmp_path / "shipped" / "plain-words"
    with pytest.raises(FileNotFoundError, match=r"none has this name \(plain-words\)"):
        hub.resolve("../secret")


@pytest.mark.parametrize("reference", ["", "   "])
def test_an_empty_reference_is_refused(reference):
    with pytest.raises(ValueError, match="reference is empty"):
        hub.resolve(reference)


@pytest.mark.parametrize(
    "reference", ["a/b/c", "./org/name", "org/name@", "org/name@-x", "-org/name", "x y/z"]
)
def test_what_cannot_be_a_hub_id_is_never_sent_to_the_hub(reference):
    with pytest.raises(FileNotFoundError, match="Hub: not asked, its ids look like 'org/name'"):
        hub.resolve(reference)


def test_offline_lists_what_was_tried_in_order(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        hub.resolve("org/name@v1", cache_dir=tmp_path, offline=True)
    lines = str(caught.value).splitlines()
    assert lines[0] == "'org/name@v1' could not be found. Tried, in order:"
    starts = [
        "  1. the path ",
        "  2. translators shipped",
        "  3. the Hugging Face Hub: not asked",
        "  4. the Hub's cache",
    ]
    assert [line[: len(start)] for line, start in zip(lines[1:5], starts, strict=True)] == starts
    assert str(tmp_path / "hub") in lines[4]


def test_the_home_folder_is_the_environments_or_the_cache(monkeypatch, tmp_path):
    assert references._default_home() == tmp_path / "home"
    monkeypatch.delenv("TORCHNLE_HOME")
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(references._default_home()) == "/somewhere/.cache/torchnle"
