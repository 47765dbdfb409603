"""The Python of every page runs, block by block, in one session, as a reader would paste it."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from documents import DOCS, DOCUMENTS, blocks, name_of

from torchnle import backbones
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder

PAGES = {name_of(page): page for page in DOCUMENTS if any(b.language == "python" for b in blocks(page))}


@pytest.fixture(scope="module", autouse=True)
def _frozen_models_are_loaded_once():
    """Frozen models never change, so that one of each serves all pages."""
    with pytest.MonkeyPatch.context() as patch:
        for cls in (TextEncoder, LanguageModel):
            patch.setattr(cls, "from_pretrained", staticmethod(cache(cls.from_pretrained)))
        patch.setattr(backbones, "load", cache(backbones.load))
        yield


@pytest.mark.real
@pytest.mark.parametrize("name", PAGES)
def test_the_python_of_a_page_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace: dict[str, object] = {"__name__": "page"}
    for block in blocks(PAGES[name]):
        if block.language == "python":
            code = "\n" * (block.line - 1) + block.code  # an error names the line of the document
            exec(compile(code, PAGES[name], "exec"), namespace)


def test_every_method_and_task_has_code_that_runs():
    needed = [name_of(page) for folder in ("methods", "how-to") for page in (DOCS / folder).glob("*.md")]
    assert len(needed) >= 18
    assert set(needed) <= set(PAGES)
