import torch
from letter_encoder import LetterEncoder

from measurements.class_space import held_out_naming
from measurements.zero_shot import references
from measurements.zero_shot.class_rows import FAST
from measurements.zero_shot.icis import Icis
from torchnle.heads.weights import class_vectors

NAMES = [
    f"{a}{b}" for a in ("cat", "dog", "hen", "pig", "owl", "ant") for b in ("s", "ly", "ward", "ness", "er")
]


def weights():
    """Class weights that are a linear function of the names' letters."""
    letters = LetterEncoder().encode(NAMES)
    return letters @ torch.randn(26, 12, generator=torch.Generator().manual_seed(0)), letters


def test_trivial_rows_name_nothing_and_the_closed_form_does():
    weight, texts = weights()
    found = {
        name: held_out_naming(weight, texts, fit, seed=0, held_out=10, generalised=False)["top1"]
        for name, fit in FAST.items()
    }
    assert found["kernel ridge"] >= 0.5
    assert found["mean of the seen"] <= 0.2
    assert found["random values"] <= 0.4


def test_icis_learns_directions_that_it_was_shown():
    weight, texts = weights()
    targets = class_vectors(weight)
    before, after = (Icis.fit(texts, targets, epochs=n, learning_rate=1e-3) for n in (0, 60))
    cosines = [torch.cosine_similarity(model(texts), targets, dim=1).mean() for model in (before, after)]
    assert float(cosines[1]) > float(cosines[0]) + 0.3


def test_the_shipped_references_are_what_the_command_composes():
    lines = references.FILE.read_text(encoding="utf-8").splitlines()
    assert lines[1:] == references.compose()
    assert len(set(lines[1:])) > 990
