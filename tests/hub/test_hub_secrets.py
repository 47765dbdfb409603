"""What an address holds before its host or behind its path is in no error, log or traceback."""

from __future__ import annotations

import logging
import os
import traceback

import pytest

from torchnle import hub
from torchnle.hub.report import hide_secrets
from torchnle.hub.web import check_address

ENDPOINTS = [
    "http://bob:hunter2@127.0.0.1:9",
    "http://bob:hun%40ter2@127.0.0.1:9",
    "http://hunter2@127.0.0.1:9",
    "http://bob:hun/ter2@127.0.0.1:9",
    "http://bob:hun@ter2@127.0.0.1:9",
    "http://bob:hun'ter2\"@127.0.0.1:9",
    "HTTP://bob:hunter2@127.0.0.1:9/path",
    "https://127.0.0.1:9/?token=hunter2",
    "bob:hunter2@127.0.0.1:9",
    "ftp://bob:hunter2@127.0.0.1",
]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_endpoint_that_cannot_be_reached(tmp_path, monkeypatch, caplog, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(FileNotFoundError, match="127") as caught:
        hub.resolve("org/name", cache_dir=tmp_path)
    assert "ter2" not in shown(caught.value)


def test_an_endpoint_that_refuses_or_breaks_off(tmp_path, monkeypatch, hub):
    from torchnle.hub import resolve

    monkeypatch.setenv("HF_ENDPOINT", endpoint_of(hub, "bob:hunter2@"))
    with pytest.raises(FileNotFoundError, match="no such model") as caught:
        resolve("org/none", cache_dir=tmp_path)
    assert "hunter2" not in shown(caught.value)
    hub.repos["org/name"] = {"main": {"config.json": b"{}"}}
    hub.missing.add("config.json")
    with pytest.raises(OSError, match=r"\*\*\*@127") as caught:
        resolve("org/name", cache_dir=tmp_path)
    assert "hunter2" not in shown(caught.value)


def test_a_warning_that_the_cache_answers(tmp_path, monkeypatch, hub, caplog):
    from torchnle.hub import resolve

    hub.repos["org/name"] = {"main": {"config.json": b"{}"}}
    resolve("org/name", cache_dir=tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://bob:hunter2@127.0.0.1:9")
    with caplog.at_level(logging.WARNING, logger="torchnle"):
        resolve("org/name", cache_dir=tmp_path)
    (record,) = [record for record in caplog.records if record.name == "torchnle"]
    assert "***@127.0.0.1:9" in record.getMessage()
    assert "hunter2" not in record.getMessage()


def test_what_pip_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://bob:hunter2@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "http://eve:hunter2@127.0.0.1:9/links?token=hunter2")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(FileNotFoundError, match="pip download") as caught:
        hub.resolve(f"pypi:nobody-made-this==1.0#sha256={'0' * 64}", cache_dir=tmp_path)
    assert "hunter2" not in shown(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "at https://huggingface.co, revision main",
        "https://host:8080/org/name@main",
        "'http://host' and 'a@b'",
        "C:\\models\\a@b",
        "org/name@main",
    ],
)
def test_other_texts_stay_as_they_are(text):
    assert hide_secrets(text) == text


@pytest.mark.parametrize("endpoint", [each for each in ENDPOINTS if not each.lower().startswith("http")])
def test_an_address_that_is_none(endpoint):
    with pytest.raises(ValueError, match=r"\*\*\*@127") as caught:
        check_address(endpoint)
    assert "hunter2" not in str(caught.value)


def shown(error):
    return "".join(traceback.format_exception(error))


def endpoint_of(server, user):
    return os.environ["HF_ENDPOINT"].replace("http://", f"http://{user}")
