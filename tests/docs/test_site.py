"""The site builds without a warning, fetches nothing from elsewhere, and its lists follow the code."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import fields

import pytest
from documents import DOCS, ROOT

hooks_file = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
hooks = importlib.util.module_from_spec(hooks_file)
hooks_file.loader.exec_module(hooks)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install -e '.[docs]'")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert out.returncode == 0, out.stdout[-3000:] + out.stderr[-3000:]
    assert "WARNING -" not in out.stderr, out.stderr[-3000:]
    return folder


def test_the_site_builds_without_a_warning(site):
    assert (site / "index.html").is_file()
    assert "LanguageAttribution" in (site / "reference/attribution.html").read_text()


def test_pages_fetch_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|iframe)[^>]+src=\"(http[^\"]+)", page.read_text())
        fetched += re.findall(
            r"<link[^>]+rel=\"(?:stylesheet|preconnect)\"[^>]+href=\"(http[^\"]+)", page.read_text()
        )
        assert not fetched, (page, fetched)


def test_examples_are_shown_as_code(site):
    page = (site / "reference/attribution.html").read_text()
    assert "&gt;&gt;&gt;" in page
    assert not re.search(r"<p[^>]*>(?:&gt;){3}", page)


def test_setup_code_is_not_shown(site):
    assert not any("<!-- setup" in page.read_text() for page in site.rglob("*.html"))


def test_recipe_keys_are_those_of_the_code():
    made = hooks.generated("recipe keys")
    for heading, table in hooks.recipe_classes().items():
        section = made.split(f"## `{heading}`\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)`", section, re.M) == [field.name for field in fields(table)]


def test_every_key_but_those_of_all_tables_has_a_meaning():
    empty = [line for line in hooks.generated("recipe keys").splitlines() if line.endswith("|  |")]
    assert not empty, empty


def test_an_unknown_list_is_refused():
    with pytest.raises(ValueError, match="names of PACKAGE"):
        hooks.generated("nothing")
