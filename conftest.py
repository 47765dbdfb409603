"""Shapes are checked at run time in the tests; doctests may assume a model, a translator, two images."""

from __future__ import annotations

import pytest
from jaxtyping import install_import_hook

#: Modules whose annotations are checked on every call. Not the door and not the classes that return `Self`:
#: what a user gives is checked there by hand, in sentences. Nor Triton kernels, which are not Python.
CHECKED = [
    "torchnle.features",
    "torchnle.language",
    "torchnle.ops",
    "torchnle.token_probe",
    "torchnle.translators.class_embedding_mlp",
    "torchnle.translators.class_weights",
    "torchnle.translators.classifier_head",
    "torchnle.translators.head_logits",
    "torchnle.translators.head_path",
    "torchnle.translators.head_readings",
    "torchnle.translators.head_trace",
    "torchnle.translators.neck",
    "torchnle.translators.readout",
    "torchnle.translators.devil_network",
    "torchnle.translators.kernel_ridge",
    "torchnle.translators.phrase_ranking",
    "torchnle.translators.prefix_network",
    "torchnle.translators.rows",
    "torchnle.translators.texplain_network",
    "torchnle_kernels.blocked",
    "torchnle_kernels.choice",
    "torchnle_kernels.operators",
    "torchnle_kernels.reference",
]
install_import_hook(CHECKED, "beartype.beartype")

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
