"""Shapes are checked at run time in the tests; doctests may assume a model, a translator, two images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).parent
#: What a user gives is checked by hand, in sentences; Triton kernels are not Python.
UNCHECKED = re.compile(
    r"torchnle/(attr|backbones|cli|data|evaluation|heads/class_names|methods/aligned/fit|metrics)"
    r"|torchnle/(methods/\w+/)?training|_triton\.py$"
)


def checked() -> list[str]:
    """List the modules whose shapes are written down, so that every call in the tests is held to them.

    Not those with `Self`, which the checker cannot tell from a class of the same name.
    """
    files = [*(ROOT / "torchnle").rglob("*.py"), *(ROOT / "kernels").rglob("torchnle_kernels/*.py")]
    named = [(str(file.relative_to(ROOT)).removeprefix("kernels/"), file) for file in files]
    texts = {name: file.read_text(encoding="utf-8") for name, file in named if not UNCHECKED.search(name)}
    shaped = [n for n, text in texts.items() if "from jaxtyping import" in text and "Self" not in text]
    return [name[: -len(".py")].replace("/", ".") for name in shaped]


#: Their asserts are the tests', and say as much when they fail.
pytest.register_assert_rewrite("captioned_world", "head_checks")
install_import_hook(checked(), "beartype.beartype")

#: Importing a kernel file needs triton; tests/kernels runs them.
collect_ignore_glob = ["tests/typed/*.py", "kernels/torchnle_kernels/*_triton.py"]


@pytest.fixture(autouse=True)
def doctest_objects(doctest_namespace):
    import torch
    from fakes import LetterTranslator, conv_net

    torch.manual_seed(0)
    doctest_namespace["model"] = conv_net()
    doctest_namespace["translator"] = LetterTranslator()
    doctest_namespace["images"] = torch.rand(2, 3, 8, 8)
