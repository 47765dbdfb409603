"""Shapes are checked at run time in the tests; doctests may assume a model, a translator, two images."""

from __future__ import annotations

import pytest
from jaxtyping import install_import_hook

#: Modules whose annotations are checked on every call. Not the door and not the classes that return `Self`:
#: what a user gives is checked there by hand, in sentences.
CHECKED = [
    "torchnle.features",
    "torchnle.language",
    "torchnle.ops",
    "torchnle.translators.class_space_map",
    "torchnle.translators.devil_network",
    "torchnle.translators.prefix_network",
    "torchnle.translators.rows",
    "torchnle.translators.texplain_network",
    "torchnle_kernels",
]
install_import_hook(CHECKED, "beartype.beartype")


@pytest.fixture(autouse=True)
def doctest_objects(doctest_namespace):
    import torch
    from fakes import LetterTranslator, conv_net

    torch.manual_seed(0)
    doctest_namespace["model"] = conv_net()
    doctest_namespace["translator"] = LetterTranslator()
    doctest_namespace["images"] = torch.rand(2, 3, 8, 8)
