"""What every doctest may assume: a model, a translator that fits its layer, and two images."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "tests"))

#: Importing a kernel file needs triton; tests/kernels runs them.
collect_ignore_glob = ["kernels/torchnle_kernels/*_triton.py"]


@pytest.fixture(autouse=True)
def doctest_objects(doctest_namespace):
    import torch
    from fakes import LetterTranslator, conv_net

    torch.manual_seed(0)
    doctest_namespace["model"] = conv_net()
    doctest_namespace["translator"] = LetterTranslator()
    doctest_namespace["images"] = torch.rand(2, 3, 8, 8)
