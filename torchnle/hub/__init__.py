"""Model references: one string names a model, `resolve` turns it into files, none of which is ever run."""

from torchnle.hub.pretrained import (
    build_from_config,
    load_pretrained,
    load_tokenizer,
    load_weights,
    stated_class,
)
from torchnle.hub.randomness import preserved_random_state
from torchnle.hub.references import (
    EFFICIENTNET_LITE0,
    EFFICIENTNET_LITE1,
    EFFICIENTNET_LITE2,
    MINILM,
    SMOLLM2,
    resolve,
)
from torchnle.hub.snapshot import hidden_secrets
from torchnle.hub.state_dict import load_state_dict

__all__ = [
    "EFFICIENTNET_LITE0",
    "EFFICIENTNET_LITE1",
    "EFFICIENTNET_LITE2",
    "MINILM",
    "SMOLLM2",
    "build_from_config",
    "hidden_secrets",
    "load_pretrained",
    "load_state_dict",
    "load_tokenizer",
    "load_weights",
    "preserved_random_state",
    "resolve",
    "stated_class",
]
