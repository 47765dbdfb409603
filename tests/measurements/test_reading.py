"""Greedy texts and log-probabilities are those of the model's own plain forward, or the model is refused."""

from __future__ import annotations

import pytest

from measurements.reading.run import examine
from measurements.reading.tiny_models import build, tokenizer
from torchnle.language.model import LanguageModel

AS_IT_IS = ["falcon", "gpt_neox", "gpt2", "llama", "mixtral", "olmo2", "phi3_longrope", "stablelm"]
PLAINLY = ["bloom", "mpt", "falcon_alibi", "mamba", "jamba", "lfm2", "bart"]
REFUSED = ["bert", "recurrent_gemma", "gemma2"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", AS_IT_IS)
def test_read_as_it_is(kind):
    outcome = examine(kind)
    assert outcome.state == "as it is", outcome
    assert outcome.right, outcome


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PLAINLY)
def test_read_plainly_and_said(kind):
    outcome = examine(kind)
    assert outcome.state == "plainly", outcome
    assert "reads otherwise" in outcome.reason
    assert outcome.right, outcome


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", REFUSED)
def test_refused_when_it_is_wrapped(kind):
    assert examine(kind).state == "refused"


def test_positions_end_where_other_factors_hold():
    assert LanguageModel(build("phi3_longrope"), tokenizer()).max_positions == 12
