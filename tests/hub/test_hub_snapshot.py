import json

import pytest

from torchnle import hub as torchnle_hub

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CONFIG = b'{"model_type": "tiny"}'


@pytest.fixture
def resolve(hub, tmp_path):
    def call(reference, **options):
        return torchnle_hub.resolve(reference, cache_dir=tmp_path / "cache", **options)

    return call


@pytest.fixture
def model(hub, tiny_safetensors):
    hub.repos["org/name"] = {
        "main": {
            "config.json": CONFIG,
            "model.safetensors": tiny_safetensors,
            "run_me.py": b"raise SystemExit",
        },
        "v1": {"config.json": b"{}", "model.safetensors": tiny_safetensors},
    }
    return hub


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_main_branch_without_its_code(model, resolve):
    folder = resolve("org/name")
    assert files(folder) == {"config.json", "model.safetensors"}
    assert (folder / "config.json").read_bytes() == CONFIG
    assert torchnle_hub.load_state_dict(folder)["w"].tolist() == [1.0, 2.0]
    assert not any("run_me.py" in path for path in model.requests)


def test_a_tag_and_a_commit_are_revisions(model, resolve):
    assert (resolve("org/name@v1") / "config.json").read_bytes() == b"{}"
    commit, _ = model.find("org/name", "v1")
    assert (resolve(f"org/name@{commit}") / "config.json").read_bytes() == b"{}"


def test_a_branch_that_moved_is_noticed(model, resolve):
    before = resolve("org/name")
    model.repos["org/name"]["main"]["config.json"] = b'{"new": 1}'
    after = resolve("org/name")
    assert after != before
    assert (after / "config.json").read_bytes() == b'{"new": 1}'


def test_pickles_are_taken_only_where_there_are_no_safetensors(hub, resolve, tiny_safetensors):
    hub.repos["org/both"] = {"main": {"model.safetensors": tiny_safetensors, "pytorch_model.bin": b"x"}}
    hub.repos["org/old"] = {"main": {"config.json": CONFIG, "pytorch_model.bin": b"x"}}
    assert files(resolve("org/both")) == {"model.safetensors"}
    assert files(resolve("org/old")) == {"config.json", "pytorch_model.bin"}


def test_the_second_call_downloads_nothing(model, resolve):
    folder = resolve("org/name")
    model.requests.clear()
    assert resolve("org/name") == folder
    assert not any("/resolve/" in path for path in model.requests)


def test_offline_uses_the_cache_and_asks_nobody(model, resolve, monkeypatch):
    folder = resolve("org/name")
    model.requests.clear()
    assert resolve("org/name", offline=True) == folder
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve("org/name") == folder
    assert model.requests == []


def test_without_a_cache_folder_the_clients_own_cache_is_shared(model, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "shared"))
    monkeypatch.setenv("TORCHNLE_HOME", str(tmp_path / "home"))
    assert torchnle_hub.resolve("org/name").is_relative_to(tmp_path / "shared" / "models--org--name")
    with pytest.raises(
        FileNotFoundError, match=f"the Hub's cache {tmp_path / 'shared'}: has no complete copy"
    ):
        torchnle_hub.resolve("org/other", offline=True)


def test_offline_without_a_copy_says_so(model, resolve):
    with pytest.raises(
        FileNotFoundError, match=r"(?s)3\. .*not asked .*4\. the Hub's cache .*no complete copy"
    ):
        resolve("org/name", offline=True)


def test_a_hub_that_fails_leaves_the_cache(model, resolve, monkeypatch, caplog):
    folder = resolve("org/name")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert resolve("org/name") == folder
    assert "org/name@main comes from the cache; the Hugging Face Hub at http://127.0.0.1:9" in caplog.text


def test_a_hub_that_fails_and_an_empty_cache_are_both_named(model, resolve, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        FileNotFoundError, match=r"(?s)3\. .*at http://127\.0\.0\.1:9: .*Error.*4\. the Hub's cache"
    ):
        resolve("org/name")


def test_a_broken_hub_is_reported(model, resolve):
    model.failing = True
    with pytest.raises(FileNotFoundError, match=r"(?s)3\. .*500.*4\. the Hub's cache"):
        resolve("org/name")


def test_no_such_model(model, resolve):
    with pytest.raises(FileNotFoundError, match="has no such model, or it is private or gated"):
        resolve("org/other")


def test_no_such_revision(model, resolve):
    with pytest.raises(FileNotFoundError, match="has 'org/name', but not the revision 'v9'"):
        resolve("org/name@v9")


def test_a_file_missing_on_the_hub(model, resolve):
    model.missing.add("model.safetensors")
    with pytest.raises(OSError, match=r"downloading org/name@main from .* failed: .*404"):
        resolve("org/name")


def test_a_truncated_file_is_an_error_and_is_taken_again(model, resolve, tiny_safetensors):
    model.truncated.add("model.safetensors")
    with pytest.raises(OSError, match=r"downloading org/name@main from .* failed"):
        resolve("org/name")
    model.truncated.clear()
    assert (resolve("org/name") / "model.safetensors").read_bytes() == tiny_safetensors


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_wrong_hash_is_refused_and_the_file_deleted(model, resolve, tmp_path, name):
    model.stated[name] = b"what the Hub believes it serves"
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"{name} has the hash \w+, but the Hub states \w+"):
            resolve("org/name")
    assert not list((tmp_path / "cache").rglob(name))


def test_a_path_that_leaves_the_folder_is_refused(hub, resolve, tmp_path, tiny_safetensors):
    hub.repos["org/evil"] = {"main": {"../../../../evil.json": b"{}", "model.safetensors": tiny_safetensors}}
    with pytest.raises(
        ValueError, match=r"org/evil@main has a file '../../../../evil.json', which leaves the folder"
    ):
        resolve("org/evil")
    assert not list(tmp_path.rglob("evil.json"))


@pytest.mark.parametrize("lost", ["model.safetensors", "config.json", "tokenizer.json"])
def test_half_a_snapshot_is_refused_offline(model, resolve, lost):
    model.repos["org/name"]["main"]["tokenizer.json"] = b"{}"
    folder = resolve("org/name")
    (folder / lost).unlink()
    with pytest.raises(FileNotFoundError, match=r"no complete copy|lacks"):
        resolve("org/name", offline=True)
    assert lost in files(resolve("org/name"))  # with the Hub it is made whole
    assert resolve("org/name", offline=True) == folder


def test_a_shard_that_is_missing_is_refused_offline(hub, resolve, tiny_safetensors):
    index = json.dumps({"weight_map": {"w": "model-1.safetensors", "v": "model-2.safetensors"}}).encode()
    files = {"model.safetensors.index.json": index, "config.json": CONFIG}
    shards = {f"model-{number}.safetensors": tiny_safetensors for number in (1, 2)}
    hub.repos["org/large"] = {"main": files | shards}
    folder = resolve("org/large")
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no complete copy|lacks"):
        resolve("org/large", offline=True)
