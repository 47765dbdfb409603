"""The README: short, with pictures and links that exist, in the repository and on a package index."""

from __future__ import annotations

import importlib.util
import re

import pytest
from documents import DOCUMENTS, ROOT, blocks, name_of

README = ROOT / "README.md"
LINK = re.compile(r"\[[^\]]*\]\((?!\w+:|#)([^)#]+)")


def hook():
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_has_at_most_700_words():
    assert len(README.read_text().split()) <= 700


def test_it_has_code_that_runs_and_pictures():
    assert sum(block.language == "python" for block in blocks(README)) >= 3
    assert re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README.read_text())


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.parent == ROOT], ids=name_of)
def test_relative_links_lead_to_files(document):
    for path in LINK.findall(document.read_text()):
        assert (ROOT / path).is_file(), path


def test_links_are_absolute_where_the_repository_is_known():
    made = hook().absolute(README.read_text(), "https://example.org/a/b/")
    assert not LINK.findall(made)
    assert "![" in made
    assert "](https://example.org/a/b/raw/HEAD/docs/motorcycle_words.jpg)" in made
    assert "](https://example.org/a/b/blob/HEAD/SECURITY.md)" in made


def test_without_a_repository_no_link_is_broken():
    made = hook().absolute(README.read_text(), None)
    assert not LINK.findall(made)
    assert "![" not in made
    assert "SECURITY.md" in made
