"""A data set that a recipe names is read as data: a script beside it is never run."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from torchnle.data.recipe_tables import DatasetTable

ROWS = [{"image": b"", "caption": "a cat"}]


def library(monkeypatch, load_dataset):
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))


def test_the_library_is_told_to_run_no_script(monkeypatch):
    received = {}
    library(monkeypatch, lambda *names, **options: received.update(options) or ROWS)
    assert len(DatasetTable(path="org/name").open()) == 1
    assert received == {"split": "train", "trust_remote_code": False}


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Dataset scripts are no longer supported, but found name.py"),
        ValueError("Please pass the argument `trust_remote_code=True` to allow custom code to be run."),
    ],
)
def test_a_data_set_with_a_script_is_refused(monkeypatch, error):
    def load_dataset(*_, **__):
        raise error

    library(monkeypatch, load_dataset)
    with pytest.raises(ValueError, match=r"'org/name'.*never runs code") as caught:
        DatasetTable(path="org/name").open()
    assert "trust_remote_code" not in str(caught.value)


def test_a_folder_with_a_script_in_the_library_itself(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "evil.py").write_text(f"open({str(tmp_path / 'PWNED')!r}, 'w').close()")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ValueError, match="never runs code"):
        DatasetTable(path=str(tmp_path / "evil")).open()
    assert not (tmp_path / "PWNED").exists()
